"""Predictions are compared with the power that was seen after the actions."""

from __future__ import annotations

import pytest

from factory.floor.calibration import Prediction, calibrate, plot_data, score
from factory.floor.plan import PowerSample


def trace(*levels: tuple[float, float]) -> list[PowerSample]:
    """Return a sample each second; each level holds from its time to the next, the last for 20 s."""
    samples = []
    for (start, power_w), following in zip(levels, [*levels[1:], (levels[-1][0] + 20.0, 0.0)], strict=True):
        samples += [PowerSample(float(t), power_w) for t in range(int(start), int(following[0]))]
    return samples


def prediction(
    line: int, at: float, predicted_w: float, *, delay_s: float = 0.0, sd_w: float = 1.0
) -> Prediction:
    """Return the prediction of an action."""
    return Prediction(
        line=line, verb="pause", at=at, settled_at=at + delay_s, predicted_w=predicted_w, sd_w=sd_w
    )


def test_an_action_is_scored_by_the_change_it_made() -> None:
    """A pause that was to save 10 W saves 9 W: the error is 1 W, inside two standard deviations of 1 W."""
    (found,) = score([prediction(1, 10.0, -10.0)], trace((0, 30.0), (11, 21.0)))
    assert found.seen_w == pytest.approx(-9.0)
    assert found.error_w == pytest.approx(1.0)
    assert found.is_covered
    (found,) = score([prediction(1, 10.0, -10.0, sd_w=0.4)], trace((0, 30.0), (11, 21.0)))
    assert not found.is_covered


def test_a_start_is_scored_when_the_line_runs() -> None:
    """The start-up between is not looked at."""
    (found,) = score([prediction(1, 10.0, 8.0, delay_s=15.0)], trace((0, 10.0), (11, 15.0), (26, 18.0)))
    assert found.seen_w == pytest.approx(8.0)


def test_actions_that_overlap_are_scored_together() -> None:
    """The second follows after 5 s, the third much later."""
    actions = [prediction(2, 15.0, -5.0), prediction(1, 10.0, -10.0), prediction(3, 60.0, 5.0)]
    scores = score(actions, trace((0, 30.0), (11, 20.0), (16, 14.0), (61, 20.0)))
    assert [found.lines for found in scores] == [(1, 2), (3,)]
    assert [found.predicted_w for found in scores] == [-15.0, 5.0]
    assert [found.seen_w for found in scores] == [pytest.approx(-16.0), pytest.approx(6.0)]


def test_actions_without_samples_are_left_out() -> None:
    """An action at the end of the trace has no power after it."""
    assert score([prediction(1, 18.0, -10.0)], trace((0, 30.0))) == []
    assert score([], trace((0, 30.0))) == []


def test_the_noise_of_the_meter_widens_the_interval() -> None:
    """Means over few noisy samples are themselves uncertain."""
    noisy = [PowerSample(sample.t_s, sample.power_w + (-1) ** int(sample.t_s)) for sample in trace((0, 30.0))]
    (found,) = score([prediction(1, 5.0, 0.0, sd_w=0.0)], noisy)
    assert found.sd_w > 0.0
    assert found.is_covered


def test_the_calibration_sums_the_scores_up() -> None:
    """Errors of -1, 0 and 4 W, of which the last lies outside of its interval."""
    samples = trace((0, 100.0), (11, 90.0), (61, 80.0), (111, 74.0))
    scores = score(
        [prediction(1, 10.0, -9.0), prediction(2, 60.0, -10.0), prediction(3, 110.0, -10.0)], samples
    )
    found = calibrate(scores)
    assert found is not None
    assert found.num_scores == 3
    assert found.bias_w == pytest.approx(1.0)
    assert found.mean_absolute_error_w == pytest.approx(5.0 / 3.0)
    assert (found.error_q05_w, found.error_q50_w) == (pytest.approx(-0.9), pytest.approx(0.0))
    assert found.error_q95_w == pytest.approx(3.6)
    assert found.coverage == pytest.approx(2.0 / 3.0)
    assert plot_data(scores)[0] == (-9.0, pytest.approx(-10.0), pytest.approx(2.0))
    assert calibrate([]) is None
