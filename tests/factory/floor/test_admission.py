"""Lines are served by priority, age and deadline; each that waits is told the constraint that keeps it."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from floor_plant import Plant, PlantLine

from factory.floor.lines import ExitClass, LineState, Needs
from factory.floor.plan import FloorView, LineView, Plan, PowerLimit, PowerSample, Settings, Verb
from factory.floor.preemption import longest_pause_s
from factory.floor.scheduler import plan

NOW = 100_000.0
HOUR = 3600.0
SETTINGS = Settings(stagger_s=0.0)


def queued(number: int, **fields: object) -> PlantLine:
    """Return a line that waits since it was submitted."""
    line = PlantLine(id=number, submitted_s=NOW - 100.0 + number, **fields)  # type: ignore[arg-type]
    line.since_s = line.submitted_s
    return line


def placed(number: int, state: LineState = LineState.RUNNING, **fields: object) -> PlantLine:
    """Return a line that has been in a state for 500 s."""
    line = queued(number, **fields)
    line.state = state
    line.since_s = NOW - 500.0
    return line


def floor_of(*lines: PlantLine, cores: float = 2.0) -> FloorView:
    """Return a floor that has been watched for a minute."""
    plant = Plant(list(lines), cores=cores, memory_bytes=8 * 10**9, now=NOW)
    plant.samples = [PowerSample(NOW - age, plant.power_w) for age in range(60, -1, -1)]
    return plant.view()


def decide(view: FloorView, limit_w: float = inf, settings: Settings = SETTINGS, hard_w: float = inf) -> Plan:
    """Return the plan for a floor."""
    return plan(view, PowerLimit(limit_w=limit_w, hard_w=hard_w), NOW, settings)


def started(made: Plan) -> list[int]:
    """Return the lines that start or resume."""
    return [action.line for action in made.actions if action.verb in (Verb.START, Verb.RESUME)]


def with_line(view: FloorView, number: int, **fields: object) -> FloorView:
    """Return a view in which a line has other fields."""

    def changed(line: LineView) -> LineView:
        if line.id != number:
            return line
        return replace(line, **fields)  # type: ignore[arg-type]

    return replace(view, lines=tuple(changed(line) for line in view.lines))


def test_one_line_starts_in_order_of_priority_and_age() -> None:
    """Greater priority first, then the older line."""
    assert started(decide(floor_of(queued(1), queued(2, priority=1), queued(3, priority=1)))) == [2]
    assert started(decide(floor_of(queued(2), queued(1)))) == [1]


def test_waiting_is_worth_priority() -> None:
    """Six hours are worth one step."""
    old = queued(1)
    old.submitted_s = NOW - 6.5 * HOUR
    assert started(decide(floor_of(queued(2, priority=1), old))) == [1]
    old.submitted_s = NOW - 5.5 * HOUR
    assert started(decide(floor_of(queued(2, priority=1), old))) == [2]


def test_the_earliest_deadline_that_can_be_met_goes_first() -> None:
    """A deadline that cannot be met any more earns nothing."""
    view = floor_of(*(queued(number, work_s=100.0) for number in (1, 2, 3, 4)))
    view = with_line(view, 2, deadline_s=NOW + 500.0)
    view = with_line(view, 3, deadline_s=NOW + 200.0)
    view = with_line(view, 4, deadline_s=NOW + 50.0)
    assert started(decide(view)) == [3]


def test_paused_lines_resume_before_others_start() -> None:
    """At equal priority, the least flexible of the paused comes first."""
    lines = [placed(1, LineState.PAUSED, flex=2), placed(2, LineState.PAUSED, flex=1), queued(3, flex=0)]
    assert started(decide(floor_of(*lines, cores=4.0))) == [2]
    assert started(decide(floor_of(*lines, queued(4, priority=1), cores=4.0))) == [4]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (queued(9, cores=1.0), "needs 1 core; 2 of 2 are taken by 3 and 4"),
        (queued(9, cores=4.0), "needs 4 cores; the floor has 2"),
        (queued(9, cores=0.0, memory_bytes=7 * 10**9), "needs 7.0 GB; 6.0 of 8.0 GB of memory are free"),
        (queued(9, memory_bytes=9 * 10**9), "needs 9.0 GB of memory; the floor has 8.0 GB"),
        (queued(9, gpus=1), "needs 1 GPU; the floor has 0"),
        (
            queued(9, cores=0.0, watts=7.1),
            "needs 7.1 W (estimated, upper bound); 2.4 W of 23.6 W are free",
        ),
        (
            queued(9, cores=0.0, watts=20.0),
            "needs 20.0 W (estimated, upper bound); the budget of 23.6 W leaves 12.4 W for lines",
        ),
    ],
)
def test_sentences_name_the_constraint(line: PlantLine, sentence: str) -> None:
    """Two lines of 5 W fill two cores of a node that idles at 10 W, under 23.6 W of which 5 % are reserve."""
    view = floor_of(placed(3), placed(4), line)
    assert decide(view, 23.6).waiting == {9: sentence}


def test_a_line_that_fits_on_no_node_says_so_and_keeps_nobody_waiting() -> None:
    """Two nodes of one core have two cores, but none for a line of two."""
    view = floor_of(queued(1, cores=2.0), queued(2, cores=1.0))
    node = Needs(cores=1.0, memory_bytes=4 * 10**9)
    made = decide(replace(view, nodes=(node, node)))
    assert started(made) == [2]
    assert made.waiting[1].endswith("on one node; nodes have 1 core, 4.0 GB; 1 core, 4.0 GB")
    # Where one node is large enough, it waits for that.
    large = Needs(cores=2.0, memory_bytes=4 * 10**9)
    assert started(decide(replace(view, nodes=(node, large)))) == [1]


def test_sentences_name_what_is_no_resource() -> None:
    """Retries, holds, draining, the stagger interval, quotas and the order."""
    view = floor_of(queued(1), queued(2), queued(3))
    view = with_line(view, 1, not_before_s=NOW + 24.0, exit_class=ExitClass.CRASH)
    view = with_line(view, 2, is_held=True)
    made = decide(view)
    assert started(made) == [3]
    assert made.waiting == {1: "retry in 24 s after a crash", 2: "paused by a user"}
    made = decide(replace(view, is_draining=True))
    assert not made.actions
    assert made.waiting[3] == "the floor is draining: no more lines start"
    made = decide(replace(view, last_start_s=NOW - 1.0), settings=Settings(stagger_s=3.0))
    assert made.waiting[3].startswith("starts are staggered; next in 3.")
    view = floor_of(queued(1), queued(2))
    assert decide(view).waiting[2] == "starts are staggered; others come first"
    view = with_line(floor_of(placed(1), queued(2)), 1, owner="ann")
    view = with_line(view, 2, owner="ann")
    made = decide(view, settings=Settings(quota_cores={"ann": 1.0}))
    assert made.waiting[2] == "needs 1 core; ann has 1 of a quota of 1"


def test_a_line_that_can_never_run_blocks_nobody() -> None:
    """It is told so, and those behind it start."""
    made = decide(floor_of(queued(1, cores=4.0, priority=9), queued(2)), settings=Settings(patience_s=0.0))
    assert started(made) == [2]


def test_higher_priority_takes_the_place_of_the_most_flexible() -> None:
    """The smallest sufficient set of lines of lower priority and flex above zero is pre-empted."""
    view = floor_of(placed(1, flex=0), placed(2, flex=1), placed(3, flex=3), queued(9, priority=5), cores=3.0)
    made = decide(view)
    assert [(action.verb, action.line) for action in made.actions] == [(Verb.PREEMPT, 3)]
    assert made.actions[0].reason == "line 9 of priority 5 needs its resources"
    assert made.waiting[9] == "needs 1 core; 3 of 3 are taken by 1, 2 and 3"


def test_pre_emption_has_its_limits() -> None:
    """Equal priority, flex 0, a young line, and one that was pre-empted too often all stay."""

    def preempted(view: FloorView) -> list[int]:
        return [action.line for action in decide(view).actions if action.verb is Verb.PREEMPT]

    head = queued(9, priority=5)
    assert preempted(floor_of(placed(1), head, cores=1.0)) == [1]
    assert not preempted(floor_of(placed(1, priority=5), head, cores=1.0))
    assert not preempted(floor_of(placed(1, flex=0), head, cores=1.0))
    young = placed(1)
    young.since_s = NOW - 30.0
    assert not preempted(floor_of(young, head, cores=1.0))
    tired = placed(1)
    tired.preempted_s = (NOW - 3000.0, NOW - 2000.0, NOW - 1000.0)
    assert not preempted(floor_of(tired, head, cores=1.0))
    tired.preempted_s = (NOW - 4000.0, NOW - 2000.0, NOW - 1000.0)
    assert preempted(floor_of(tired, head, cores=1.0)) == [1]
    leaving = placed(2, LineState.PREEMPTING)
    assert not preempted(floor_of(placed(1), leaving, head, cores=2.0))


def test_no_place_is_given_up_in_vain() -> None:
    """If all that may leave are not enough, none does."""
    view = floor_of(placed(1, flex=0), placed(2), queued(9, priority=5, cores=2.0))
    assert not decide(view).actions


def test_small_lines_do_not_take_the_place_that_others_leave() -> None:
    """While a line leaves for one of higher priority, nobody else starts on the free cores."""
    view = floor_of(placed(2, LineState.PREEMPTING), queued(9, priority=5, cores=2.0), queued(10))
    made = decide(view)
    assert not made.actions
    assert made.waiting[10] == "line 9 is served first; another line makes room for it"


def test_priorities_are_no_seesaw() -> None:
    """The pre-empted line waits until the other has ended, however old it grows."""
    low = placed(1, work_s=1000.0)
    high = queued(2, priority=1, work_s=400.0)
    plant = Plant([low, high], cores=1.0, now=NOW, settings=Settings(ageing_s=100.0))
    plant.run(2000, PowerLimit())
    assert plant.count(Verb.PREEMPT) == 1
    assert [line.state for line in (low, high)] == [LineState.FINISHED, LineState.FINISHED]


def test_long_pauses_become_checkpoints() -> None:
    """A pause of more than a minute is worth a restart, if a target leaves power for the checkpoint."""
    # 10 W idle and one line of 5 W: 15 W. The paused line needs 8 W to resume, 2.4 W on average to leave.
    lines = (placed(1), placed(2, LineState.PAUSED, watts=8.0))
    tidied = decide(floor_of(*lines), 20.0).actions
    assert [(action.verb, action.line) for action in tidied] == [(Verb.PREEMPT, 2)]
    assert tidied[0].reason == "paused for 500 s, longer than a restart would cost"
    assert tidied[0].predicted_w == 0.0
    assert not decide(floor_of(*lines), 17.0).actions
    # The limit of the site holds at every moment.
    assert not decide(floor_of(*lines), 20.0, hard_w=20.0).actions
    # A line that gets half of a core writes for longer at its 4 W, so the mean over 10 s is these 4 W.
    starved = floor_of(placed(1), placed(2, LineState.PAUSED, watts=4.0))
    assert decide(replace(starved, core_w=20.0), 19.1).actions[0].verb is Verb.PREEMPT
    assert not decide(replace(starved, core_w=20.0), 18.9).actions
    short = placed(2, LineState.PAUSED, watts=8.0)
    short.since_s = NOW - 50.0
    assert not decide(floor_of(placed(1), short), 20.0).actions
    held = placed(2, LineState.PAUSED, watts=8.0, is_held=True)
    assert not decide(floor_of(placed(1), held), 20.0).actions


def test_the_break_even_follows_from_restart_and_idle_power() -> None:
    """A restart of 60 CPU seconds at 8 W a core against 10 W idle, half of it the line's: 96 s."""
    view = floor_of(placed(1, LineState.PAUSED, watts=8.0))
    line = replace(view.lines[0], restart_s=60.0)
    assert longest_pause_s(line, view, SETTINGS) == pytest.approx(96.0)
    assert longest_pause_s(replace(line, restart_s=6.0), view, SETTINGS) == 60.0
    assert longest_pause_s(line, replace(view, idle_w=0.0), SETTINGS) == 60.0
    assert longest_pause_s(line, replace(view, core_w=16.0), SETTINGS) == pytest.approx(192.0)


def test_a_pause_gives_way_where_memory_binds() -> None:
    """A line that has the power but lacks the memory of a paused one does not wait for the minute."""
    paused = placed(2, LineState.PAUSED, watts=8.0, cores=0.5, memory_bytes=6 * 10**9)
    paused.since_s = NOW - 20.0
    small = queued(9, watts=1.0, cores=0.5, memory_bytes=2 * 10**9)
    made = decide(floor_of(placed(1, memory_bytes=10**9), paused, small), 20.0)
    assert [(action.verb, action.line) for action in made.actions] == [(Verb.PREEMPT, 2)]
    assert made.actions[0].reason == "paused, and line 9 needs its resources"


@pytest.mark.parametrize(
    "wrong",
    [
        {"reserve_share": 1.0},
        {"reserve_share": float("nan")},
        {"dwell_s": -1.0},
        {"ramp_w_per_s": 0.0},
        {"ageing_s": 0.0},
        {"preemptions_per_hour": -1},
        {"quota_cores": {"ann": -1.0}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """The message names the key."""
    with pytest.raises(ValueError, match=rf"^floor\.{next(iter(wrong))}"):
        Settings(**wrong)  # type: ignore[arg-type]
