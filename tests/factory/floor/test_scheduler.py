"""The scheduler keeps the budget with the fewest and most flexible lines, and brings everybody back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from time import process_time

import pytest
from floor_plant import Plant, PlantLine
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.lines import LineState
from factory.floor.plan import PowerLimit, PowerSample, Settings, Verb
from factory.floor.scheduler import plan

NO_LIMIT = PowerLimit()

LINE = st.fixed_dictionaries(
    {
        "watts": st.floats(0.5, 20.0),
        "sd_w": st.floats(0.0, 1.0),
        "cores": st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        "memory_bytes": st.integers(1, 8).map(lambda gigabytes: gigabytes * 10**9),
        "gpus": st.integers(0, 1),
        "flex": st.integers(0, 3),
        "priority": st.integers(-2, 2),
        "tokens_per_s": st.floats(0.0, 1e5),
        "submitted_s": st.floats(0.0, 1000.0),
        "work_s": st.integers(5, 200).map(float),
    }
)
LINES = st.lists(LINE, min_size=1, max_size=8).map(
    lambda all_fields: [PlantLine(id=number, **fields) for number, fields in enumerate(all_fields, start=1)]
)


def limit_of(watts: float, *, hard_w: float = inf) -> PowerLimit:
    """Return a budget, and the limit of the site."""
    return PowerLimit(limit_w=min(watts, hard_w), hard_w=hard_w)


def running(lines: list[PlantLine], *, idle_w: float = 10.0) -> Plant:
    """Return a floor on which all lines have run for a while."""
    plant = Plant(lines, cores=64.0, gpus=8, idle_w=idle_w)
    for line in lines:
        line.state = LineState.RUNNING
    plant.samples = [PowerSample(plant.now - age, plant.power_w) for age in range(30, 0, -1)]
    return plant


def trio() -> Plant:
    """Return three running lines of 10 W, of flex 0, 1 and 3, on a node that idles at 10 W."""
    return running(
        [PlantLine(id=number, watts=10.0, flex=flex) for number, flex in enumerate((0, 1, 3), start=1)]
    )


def test_half_the_budget_is_obeyed_within_five_seconds() -> None:
    """The flexible lines pause at once, flex 0 is untouched, and later they come back one after the other."""
    plant = trio()
    full = limit_of(45.0, hard_w=100.0)
    plant.run(5, full)
    assert not plant.log
    dropped_s = plant.now
    plant.run(60, limit_of(22.5, hard_w=100.0))
    assert [(action.verb, action.line) for _, action in plant.log[:2]] == [(Verb.PAUSE, 3), (Verb.PAUSE, 2)]
    assert all(time_s == dropped_s for time_s, _ in plant.log[:2])
    late = [sample for sample in plant.samples if sample.t_s >= dropped_s + 5.0]
    assert late
    assert all(sample.power_w <= 22.5 for sample in late)
    returned_s = plant.now
    plant.run(60, full)
    resumed = [(time_s, action.line) for time_s, action in plant.log if action.verb is Verb.RESUME]
    assert [line for _, line in resumed] == [2, 3]
    assert resumed[0][0] >= returned_s + plant.settings.dwell_s - 1.0
    assert resumed[1][0] - resumed[0][0] >= plant.settings.stagger_s
    assert {action.line for _, action in plant.log} == {2, 3}


def saturated() -> Plant:
    """Return three lines of 6 W, flex 0, 1 and 3, that share 10 W, as was learned: the node draws 20 W."""
    lines = [
        PlantLine(id=number, watts=6.0, predicted_w=10.0 / 3.0, sd_w=2.0, flex=flex)
        for number, flex in enumerate((0, 1, 3), start=1)
    ]
    plant = running(lines)
    plant.most_w = 20.0
    plant.samples = [replace(sample, power_w=20.0) for sample in plant.samples]
    return plant


def test_a_line_whose_power_others_take_over_is_followed_by_the_next_within_five_seconds() -> None:
    """Its pause frees nothing on a busy node; the first sample that shows so counts."""
    plant = saturated()
    dropped_s = plant.now
    plant.run(30, limit_of(18.0, hard_w=100.0))
    pauses = [(time_s - dropped_s, action.line) for time_s, action in plant.log if action.verb is Verb.PAUSE]
    assert [line for _, line in pauses] == [3, 2]
    assert pauses[0][0] == 0.0
    assert pauses[1][0] <= 3.0
    assert all(sample.power_w <= 18.0 for sample in plant.samples if sample.t_s >= dropped_s + 5.0)


def test_predictions_keep_no_line_waiting_where_all_cores_stay_below_the_budget() -> None:
    """What three lines could draw in sum is above it, and what the node can is not."""
    plant = saturated()
    plant.run(20, limit_of(18.0, hard_w=100.0))
    returned_s = plant.now
    plant.run(40, limit_of(22.0, hard_w=100.0))
    resumed = [(time_s, action.line) for time_s, action in plant.log if action.verb is Verb.RESUME]
    assert [line for _, line in resumed] == [2, 3]
    assert resumed[0][0] >= returned_s + plant.settings.dwell_s - 1.0
    assert resumed[1][0] - resumed[0][0] >= plant.settings.stagger_s
    assert plant.count(Verb.PAUSE, since=returned_s) == 0


def test_predictions_count_where_the_node_could_exceed_the_budget() -> None:
    """Under a budget that all cores together would exceed, the second of the lines goes on waiting."""
    plant = saturated()
    plant.run(20, limit_of(16.5, hard_w=100.0))
    plant.run(120, limit_of(19.0, hard_w=100.0))
    assert [action.line for _, action in plant.log if action.verb is Verb.RESUME] == []
    assert "W" in plant.last_plan.waiting[3]


def test_flex_0_goes_for_the_limit_of_the_site_only() -> None:
    """A schedule leaves it running and tells the excess; a hard limit stops it last of all."""
    plant = trio()
    first = plant.tick(limit_of(12.0, hard_w=100.0))
    assert {action.line for action in first.actions} == {2, 3}
    assert first.excess_w == pytest.approx(8.0)
    plant.run(20, limit_of(12.0, hard_w=100.0))
    assert plant.lines[0].state is LineState.RUNNING
    plant.run(5, limit_of(12.0, hard_w=12.0))
    assert plant.lines[0].state is LineState.PAUSED
    assert "hard" in plant.log[-1][1].reason


def test_one_bad_sample_sheds_nothing() -> None:
    """The power must stay over the budget for as long as settings say."""
    plant = trio()
    plant.run(10, limit_of(45.0))
    plant.lines[0].watts = 30.0
    plant.tick(limit_of(45.0))
    plant.lines[0].watts = 10.0
    plant.run(5, limit_of(45.0))
    assert not plant.log


@pytest.mark.parametrize(
    ("watts", "need_w", "chosen"),
    [
        # Flexible lines first, and among equals the one that yields the fewest tokens for its power.
        ([(3, 5.0), (2, 5.0), (1, 5.0)], 4.0, [1]),
        ([(3, 5.0), (2, 5.0), (1, 5.0)], 9.0, [1, 2]),
        # A small line is spared when the next one is large enough by itself.
        ([(3, 2.0), (3, 9.0)], 8.0, [2]),
        ([(3, 5.0), (1, 10.0)], 6.0, [2]),
        ([(3, 5.0), (1, 10.0)], 12.0, [1, 2]),
    ],
)
def test_the_smallest_sufficient_set_goes(
    watts: list[tuple[int, float]], need_w: float, chosen: list[int]
) -> None:
    """Worked by hand: flex and power of each line, power to shed, lines that go."""
    lines = [
        PlantLine(id=number, flex=flex, watts=power_w, tokens_per_s=1000.0 * power_w * number)
        for number, (flex, power_w) in enumerate(watts, start=1)
    ]
    plant = running(lines)
    plant.settings = Settings(reserve_share=0.0)
    plan_made = plant.tick(limit_of(plant.power_w - need_w))
    assert sorted(action.line for action in plan_made.actions) == chosen


@given(lines=LINES, share=st.floats(0.1, 1.2), hard_share=st.floats(0.1, 1.2))
def test_any_shed_set_is_minimal_and_spares_flex_0(
    lines: list[PlantLine], share: float, hard_share: float
) -> None:
    """No line of the set can be left out; flex 0 goes only if all others are not enough for the site."""
    plant = running(lines)
    power_w = plant.power_w
    limit = limit_of(share * power_w, hard_w=hard_share * power_w)
    result = plan(plant.view(), limit, plant.now, plant.settings)
    watts = {line.id: line.watts for line in lines}
    chosen = {action.line for action in result.actions}
    if power_w <= limit.limit_w:
        assert not any(action.verb is Verb.PAUSE for action in result.actions)
        return
    goal_w = limit.limit_w * (1.0 - plant.settings.reserve_share)
    left_w = power_w - sum(watts[line] for line in chosen)
    flexible_w = sum(line.watts for line in lines if line.flex > 0)
    rigid = {line.id for line in lines if line.flex == 0}
    if chosen & rigid:
        assert power_w - flexible_w > limit.hard_w
    elif power_w - flexible_w <= goal_w:
        assert left_w <= goal_w + 1e-6
        assert all(left_w + watts[line] > goal_w - 1e-6 for line in chosen)
    if rigid and not chosen & rigid:
        assert left_w <= limit.hard_w + 1e-6
    assert result.excess_w == pytest.approx(max(0.0, left_w - limit.limit_w))


@given(lines=LINES, watts=st.floats(15.0, 120.0), later_w=st.floats(0.0, 120.0), noise_w=st.floats(0.0, 2.0))
def test_floors_keep_their_rules_at_every_tick(
    lines: list[PlantLine], watts: float, later_w: float, noise_w: float
) -> None:
    """Capacity holds, plans repeat, waits are explained, and only lines that may be touched are touched."""
    lines[0].is_held = True
    plant = Plant(lines, cores=6.0, memory_bytes=16 * 10**9, gpus=2, noise_w=noise_w)
    for second in range(150):
        limit = limit_of(watts)
        if 50 <= second < 100:
            limit = limit_of(later_w, hard_w=later_w)
        before = plant.now
        made = plant.tick(limit)  # the plant itself refuses actions on lines in transition and on held ones
        active = [line for line in lines if line.state.is_active]
        assert sum(line.cores for line in active) <= 6.0
        assert sum(line.memory_bytes for line in active) <= 16 * 10**9
        assert sum(line.gpus for line in active) <= 2
        acted = {action.line for action in made.actions}
        assert len(acted) == len(made.actions)
        for line in lines:
            if line.state in (LineState.QUEUED, LineState.PAUSED) and line.since_s < before:
                assert made.waiting[line.id], line
        view = plant.view()
        assert plan(view, limit, plant.now, plant.settings) == plan(view, limit, plant.now, plant.settings)


@given(lines=LINES, noise_share=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_noise_within_the_reserve_moves_nothing(
    lines: list[PlantLine], noise_share: float, seed: int
) -> None:
    """Under a constant budget no line is ever shed, so none starts or resumes twice."""
    for line in lines:
        line.work_s = inf
        line.sd_w = 0.0
        line.priority = 0
    limit_w = 60.0
    plant = Plant(lines, seed=seed, noise_w=noise_share * 0.05 * limit_w)
    plant.run(300, limit_of(limit_w, hard_w=limit_w))
    assert plant.count(Verb.PAUSE) == 0
    assert plant.count(Verb.PREEMPT) == 0
    assert plant.count(Verb.START) <= len(lines)


@pytest.mark.slow
@given(lines=LINES, errors=st.lists(st.floats(0.3, 3.0), min_size=8, max_size=8))
def test_wrong_predictions_do_not_flap(lines: list[PlantLine], errors: list[float]) -> None:
    """A line whose power is misjudged is resumed less and less often."""
    for line, error in zip(lines, errors, strict=False):
        line.predicted_w = error * line.watts
        line.work_s = inf
    plant = Plant(lines, cores=64.0, gpus=8)
    plant.run(1200, limit_of(60.0))
    for line in lines:
        # Pauses of 10, 10, 20, 40 ... 320 s: at most eight begin within 20 min.
        assert len(line.shed_s) <= 8


@pytest.mark.slow
@given(lines=LINES, watts=st.floats(30.0, 120.0), noise_w=st.floats(0.0, 1.0))
def test_nobody_starves(lines: list[PlantLine], watts: float, noise_w: float) -> None:
    """Each line that fits the empty floor starts, at the latest when all before it have ended."""
    plant = Plant(lines, cores=4.0, memory_bytes=16 * 10**9, gpus=1, noise_w=noise_w)
    goal_w = watts - max(0.05 * watts, 2.0 * noise_w) - noise_w
    fits = [line for line in lines if plant.idle_w + line.watts + 2.0 * line.sd_w + 2.0 * noise_w <= goal_w]
    # One after the other they take their work, start, stop, and the dwell and warm-up between two.
    plant.run(int(sum(line.work_s + 30.0 for line in lines)), limit_of(watts))
    assert all(line.first_started_s is not None for line in fits)


def test_a_large_line_is_not_starved_by_small_ones() -> None:
    """After the patience no line passes one that waits for more cores."""
    small = [PlantLine(id=number, work_s=100.0, submitted_s=float(number)) for number in range(2, 200)]
    large = PlantLine(id=1, cores=2.0, submitted_s=2.5)
    plant = Plant([*small, large], cores=2.0, settings=Settings(patience_s=300.0, stagger_s=1.0))
    large.since_s = plant.now
    plant.run(600, NO_LIMIT)
    assert large.first_started_s is not None
    assert large.first_started_s - 1000.0 <= 300.0 + 110.0
    assert sum(line.first_started_s is not None for line in small) >= 4


@given(drop=st.floats(0.2, 0.9), lines=LINES)
def test_violation_is_bounded(drop: float, lines: list[PlantLine]) -> None:
    """With lines that run, and predictions that are right, the excess ends with the tick that sees it."""
    for line in lines:
        line.work_s = inf
        line.flex = max(1, line.flex)
    plant = running(lines)
    power_w = plant.power_w
    limit_w = max(plant.idle_w / 0.9, drop * power_w)
    plant.run(30, limit_of(limit_w, hard_w=limit_w))
    excess_ws = sum(
        max(0.0, sample.power_w - limit_w) for sample in plant.samples if sample.limit_w == limit_w
    )
    assert excess_ws <= max(0.0, power_w - limit_w) + 1e-6


@given(lines=LINES, ramp=st.floats(0.5, 5.0))
def test_the_return_is_slow(lines: list[PlantLine], ramp: float) -> None:
    """When the budget returns, starts keep their distance and the power rises no faster than the ramp."""
    for line in lines:
        line.work_s = inf
    plant = running(lines)
    plant.settings = Settings(ramp_w_per_s=ramp)
    plant.run(60, limit_of(11.0, hard_w=11.0))
    returned_s = plant.now
    plant.run(300, limit_of(1000.0, hard_w=1000.0))
    starts = [(time_s, action) for time_s, action in plant.log if time_s >= returned_s]
    assert all(action.verb in (Verb.RESUME, Verb.START) for _, action in starts)
    for (before_s, _), (after_s, action) in pairwise(starts):
        assert after_s - before_s >= max(plant.settings.stagger_s, action.predicted_w / ramp)
    assert max(sample.power_w for sample in plant.samples) <= 10.0 + sum(line.watts for line in lines) + 1e-6


def test_a_stale_meter_starts_nothing_and_sheds_by_predictions() -> None:
    """Under a budget nothing starts; without one the meter does not matter."""
    plant = trio()
    plant.lines.append(PlantLine(id=4))
    view = replace(plant.view(), is_fresh=False)
    made = plan(view, limit_of(100.0), plant.now, plant.settings)
    assert not made.actions
    assert "meter is silent" in made.waiting[4]
    assert plan(view, NO_LIMIT, plant.now, plant.settings).actions[0].verb is Verb.START
    silent = plan(plant.view(), limit_of(100.0), plant.now + 10.0, plant.settings)
    assert silent.waiting == made.waiting
    shed = plan(view, limit_of(32.0), plant.now, plant.settings).actions
    assert [action.line for action in shed] == [3]


@pytest.mark.parametrize(
    ("cores", "limit_w", "first_needs"),
    [(10.0, 100.0, 1.0), (2000.0, 65.0, 1.0), (2000.0, inf, 1.0), (12.0, inf, 4.0)],
)
def test_a_thousand_queued_lines_are_planned_fast(cores: float, limit_w: float, first_needs: float) -> None:
    """One plan for ten running and a thousand queued lines takes less than 10 ms of CPU time.

    Cores bind, then watts, then nothing but the stagger interval, and then the first line lets others pass.
    """
    lines = [PlantLine(id=number, submitted_s=float(number)) for number in range(1, 1011)]
    lines[10].cores = first_needs
    plant = Plant(lines, cores=cores)
    for line in lines[:10]:
        line.state = LineState.RUNNING
    plant.samples = [PowerSample(plant.now - age, plant.power_w) for age in range(60, 0, -1)]
    view = plant.view()
    durations_s = []
    for _ in range(5):
        start = process_time()
        made = plan(view, limit_of(limit_w), plant.now, plant.settings)
        durations_s.append(process_time() - start)
    assert len(made.waiting) + len(made.actions) == 1000
    assert min(durations_s) < 0.010
