"""Power and speed of lines are learned, with intervals that hold, and stand-ins until then."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.curves import CURVES, Curve, Curves, Observation, Subject, configuration_hash, family_of
from factory.runtime.decoding import decode

SUBJECT = Subject("a1", "cartpole", 2.0, "node", "commit driver")


def observed(*powers_w: float, subject: Subject = SUBJECT, duty: float = 1.0) -> Curves:
    """Return curves with observations of these powers without pauses, at 1000 tokens/s per watt."""
    curves = Curves(prior_w_per_core=8.0)
    for power_w in powers_w:
        curves.observe(subject, Observation(duty, duty * power_w, duty * 1000.0 * power_w))
    return curves


def test_nothing_seen_means_all_cores_at_most() -> None:
    """The upper bound of the first prior is the power of the cores."""
    point = Curves(prior_w_per_core=8.0).point(SUBJECT)
    assert point.upper_w == pytest.approx(16.0)
    assert point.power_w == pytest.approx(0.85 * 16.0)
    assert point.is_prior


def test_observations_replace_the_prior() -> None:
    """Three windows are enough; their median counts, and one bad window does no harm."""
    assert observed(10.0, 10.2).point(SUBJECT).is_prior
    point = observed(10.0, 10.2, 10.4, 10.2, 3.0).point(SUBJECT)
    assert not point.is_prior
    assert point.power_w == pytest.approx(10.2)
    assert point.tokens_per_s == pytest.approx(10200.0)
    assert point.upper_w < 11.5


def test_windows_with_pauses_count_in_full() -> None:
    """A line that was paused for half of a window used half of its power."""
    assert observed(10.0, 10.2, 10.4, duty=0.5).point(SUBJECT).power_w == pytest.approx(10.2)
    assert observed(10.0, 10.2, 10.4, duty=0.1).point(SUBJECT).is_prior


def test_other_versions_and_tasks_stand_in() -> None:
    """Another commit widens the interval; another task of the family gives power per core."""
    curves = observed(10.0, 10.2, 10.4)
    exact = curves.point(SUBJECT)
    older = curves.point(replace(SUBJECT, version="other"))
    assert older.is_prior
    assert older.power_w == exact.power_w
    assert older.power_sd_w == pytest.approx(2.0 * exact.power_sd_w)
    relative = curves.point(replace(SUBJECT, configuration="b2", cores=1.0))
    assert relative.is_prior
    assert relative.power_w == pytest.approx(5.1)
    assert relative.upper_w == pytest.approx(5.1 * 1.3)
    assert curves.point(replace(SUBJECT, family="gym", configuration="b2")).upper_w == pytest.approx(16.0)
    assert curves.point(replace(SUBJECT, machine="other")).upper_w == pytest.approx(16.0)


def test_intervals_hold_the_next_window() -> None:
    """About 97.5 % of normal windows lie below the upper bound that the windows before them gave."""
    generator = random.Random(1)
    inside = 0
    for _ in range(1000):
        windows = [generator.gauss(10.0, 1.0) for _ in range(11)]
        inside += windows[-1] <= observed(*windows[:-1]).point(SUBJECT).upper_w
    assert 940 <= inside <= 1000


def test_curves_are_plain_data() -> None:
    """They survive JSON, and what is no curve is refused."""
    curves = observed(10.0, 10.2, 10.4)
    copy = Curves(prior_w_per_core=8.0)
    copy.load(decode(json.loads(json.dumps(curves.to_plain())), CURVES.hint, name="curves"))
    assert copy.point(SUBJECT) == curves.point(SUBJECT)
    for broken in ([{}], [{"subject": {}, "observations": []}], [3]):
        with pytest.raises(ValueError, match="curves: "):
            decode(broken, CURVES.hint, name="curves")


def test_old_observations_make_room() -> None:
    """A subject keeps its last thirty windows, and the floor three hundred subjects."""
    curves = observed(*([5.0] * 30), *([10.0] * 20))
    assert curves.point(SUBJECT).power_w == 10.0
    for number in range(400):
        curves.observe(replace(SUBJECT, configuration=str(number)), Observation(1.0, 1.0, 1.0))
    assert len(curves.to_plain()) == 300


def test_points_of_a_long_queue_are_fast() -> None:
    """A thousand lines of ten configurations cost a few milliseconds."""
    curves = observed(10.0, 10.2, 10.4)
    subjects = [replace(SUBJECT, configuration=str(number % 10)) for number in range(1000)]
    start = process_time()
    for subject in subjects:
        curves.point(subject)
    assert process_time() - start < 0.02


def test_a_curve_through_exact_points_is_the_points() -> None:
    """Points of a concave curve are kept."""
    curve = Curve.fit([(5.0, 50.0), (10.0, 80.0), (20.0, 100.0)])
    assert [curve.tokens_per_s(power_w) for power_w in (0.0, 5.0, 7.5, 10.0, 20.0, 30.0)] == [
        0.0,
        50.0,
        65.0,
        80.0,
        100.0,
        100.0,
    ]
    assert curve.sd == 0.0


def test_points_that_bend_upward_are_pooled() -> None:
    """Slopes of 2 and 6 tokens/s per watt over equal lengths become 4."""
    curve = Curve.fit([(10.0, 20.0), (20.0, 80.0)])
    assert curve.tokens_per_s(10.0) == pytest.approx(40.0)
    assert curve.tokens_per_s(20.0) == pytest.approx(80.0)
    # One residual of 20 tokens/s, and one degree of freedom is left.
    assert curve.sd == pytest.approx(20.0)
    lo, hi = curve.interval(10.0)
    assert lo == 0.0
    assert hi > 200.0


@given(
    points=st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0.0, 1e5)), min_size=1, max_size=12),
)
def test_fits_rise_and_are_concave(points: list[tuple[float, float]]) -> None:
    """No slope is below zero or above the one before it."""
    curve = Curve.fit(points)
    slopes = [
        (curve.speeds[i + 1] - curve.speeds[i]) / (curve.powers_w[i + 1] - curve.powers_w[i])
        for i in range(len(curve.speeds) - 1)
    ]
    assert all(slope >= 0.0 for slope in slopes)
    assert all(after <= before * (1 + 1e-9) + 1e-9 for before, after in pairwise(slopes))


def test_curves_of_subjects() -> None:
    """Observed windows make the curve; without them it is a line to the prior."""
    curves = observed(10.0, 10.2, 10.4)
    assert curves.curve(SUBJECT).tokens_per_s(10.2) == pytest.approx(10200.0, rel=0.02)
    unknown = curves.curve(replace(SUBJECT, family="gym", configuration="b2"))
    assert unknown.powers_w == (0.0, pytest.approx(0.85 * 16.0))


def test_seeds_share_a_configuration() -> None:
    """Settings that change neither power nor speed are left out of the hash."""
    one = configuration_hash("cartpole", ("seed=1", "num_envs=64", "total_steps=100"), cores=1.0)
    assert one == configuration_hash("cartpole", ("num_envs=64", "+seed=2", "tracking.uri=x"), cores=1.0)
    assert one != configuration_hash("cartpole", ("num_envs=65",), cores=1.0)
    assert one != configuration_hash("cartpole", ("num_envs=64",), cores=2.0)
    assert [family_of(task) for task in ("gym/half_cheetah", "cartpole_swingup", "drone")] == [
        "gym",
        "cartpole",
        "drone",
    ]
