"""The meter: phases partition the timeline, joules follow time, and no gauge can stop a run."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest
from energy_fakes import Clock, PowerSource, PowerTrace
from hypothesis import given
from hypothesis import strategies as st

from factory.energy.meter import Meter
from factory.energy.reading import MeterReading
from factory.energy.sources.base import SourceError
from factory.energy.types import PHASES, Boundary, Tier


def started(clock: Clock, *sources: PowerSource, min_window_s: float = 0.1) -> Meter:
    """Return a running meter."""
    meter = Meter(sources, min_window_s=min_window_s, clock_ns=clock)
    meter.start()
    return meter


def assert_conserved(reading: MeterReading) -> None:
    """Check every identity a reading must hold."""
    assert sum(reading.phase_s.values()) + reading.unattributed_s == pytest.approx(reading.wall_s, rel=1e-9)
    parts_j = sum(reading.phase_j.values()) + reading.unattributed_j
    assert parts_j == pytest.approx(reading.total_j, rel=1e-9, abs=1e-12)
    assert sum(reading.components_j.values()) == pytest.approx(reading.total_j, rel=1e-9, abs=1e-12)
    assert all(joules >= 0.0 for joules in (*reading.phase_j.values(), reading.unattributed_j))
    assert reading.total_j_lo <= reading.total_j * (1 + 1e-9)
    assert reading.total_j <= reading.total_j_hi * (1 + 1e-9)


ACTIONS = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from(PHASES)),
    st.tuples(st.just("exit"), st.none()),
    st.tuples(st.just("wait"), st.floats(0.0, 5.0)),
    st.tuples(st.just("read"), st.none()),
)


@given(
    actions=st.lists(ACTIONS, max_size=40),
    powers_w=st.lists(st.floats(0.0, 700.0), min_size=1, max_size=6),
    min_window_s=st.sampled_from([0.001, 0.1, 3.0]),
)
def test_phases_and_rest_make_the_total(
    actions: list[tuple[str, object]], powers_w: list[float], min_window_s: float
) -> None:
    """For any nesting, timing, power and window: nothing is lost and nothing made up."""
    clock = Clock()
    gpu = PowerSource(clock, PowerTrace([(1.7, power) for power in powers_w]), component="gpu")
    meter = started(clock, PowerSource(clock, 33.0), gpu, min_window_s=min_window_s)
    begin_s, open_phases = clock.now_s, []
    for action, value in actions:
        if action == "enter":
            context = meter.phase(str(value))
            context.__enter__()
            open_phases.append(context)
        elif action == "exit" and open_phases:
            open_phases.pop().__exit__(None, None, None)
        elif action == "wait":
            clock.advance(float(value))  # type: ignore[arg-type]
        elif action == "read":
            assert_conserved(meter.read())
    reading = meter.read()
    assert_conserved(reading)
    elapsed_s = clock.now_s - begin_s
    truth_j = 33.0 * elapsed_s + gpu.trace.energy_j(clock.now_s) - gpu.trace.energy_j(begin_s)
    assert reading.wall_s == pytest.approx(elapsed_s, rel=1e-9)
    assert reading.total_j == pytest.approx(truth_j, rel=1e-7, abs=1e-6)


def test_nested_phase_takes_from_the_outer() -> None:
    """An inner phase's time and joules are not in the outer one, nor twice in the total."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 10.0))
    with meter.phase("sim"):
        clock.advance(1.0)
        with meter.phase("infer"):
            clock.advance(2.0)
        clock.advance(1.0)
    clock.advance(3.0)
    reading = meter.read()
    assert (reading.phase_s["sim"], reading.phase_s["infer"]) == (pytest.approx(2.0), pytest.approx(2.0))
    assert (reading.phase_j["sim"], reading.phase_j["infer"]) == (pytest.approx(20.0), pytest.approx(20.0))
    assert (reading.unattributed_s, reading.unattributed_j) == (pytest.approx(3.0), pytest.approx(30.0))


def test_same_phase_nests_in_itself() -> None:
    """Entering a phase inside itself counts its time once."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 10.0))
    with meter.phase("io"), meter.phase("io"):
        clock.advance(2.0)
    assert meter.read().phase_s["io"] == pytest.approx(2.0)


def test_exception_leaves_the_phase() -> None:
    """A phase that raises ends all the same and does not swallow the error."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 10.0))
    with pytest.raises(ZeroDivisionError), meter.phase("learn"):
        raise ZeroDivisionError
    clock.advance(1.0)
    assert meter.read().unattributed_s == pytest.approx(1.0)


def test_energy_follows_the_phase_that_used_it() -> None:
    """Phases longer than the window own what was drawn in them, not the average."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, PowerTrace([(5.0, 100.0), (5.0, 300.0)])))
    with meter.phase("sim"):
        clock.advance(5.0)
    with meter.phase("learn"):
        clock.advance(5.0)
    reading = meter.read()
    assert (reading.phase_j["sim"], reading.phase_j["learn"]) == (pytest.approx(500.0), pytest.approx(1500.0))
    assert reading.tier == reading.phase_tier == "measured"


def test_z6_short_phases_share_a_window_by_time_and_say_so() -> None:
    """Phases of a millisecond share a window's joules; the total keeps its tier, the split does not."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    meter = started(clock, source)
    for _ in range(300):
        with meter.phase("sim"):
            clock.advance(0.003)
        with meter.phase("infer"):
            clock.advance(0.001)
    reading = meter.read()
    assert (reading.phase_j["sim"], reading.phase_j["infer"]) == (pytest.approx(90.0), pytest.approx(30.0))
    assert (reading.tier, reading.phase_tier) == ("measured", "apportioned")


def test_counters_are_read_at_most_once_a_window() -> None:
    """Ten thousand phase boundaries in two seconds read the counter about twenty times."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    meter = started(clock, source)
    for _ in range(5000):
        with meter.phase("sim"):
            clock.advance(0.0004)
    meter.read()
    assert 15 <= source.num_reads <= 21


def test_phase_shorter_than_the_counters_edges_is_apportioned() -> None:
    """A window alone in its phase, but only two update periods long, is no exact split."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 100.0, period_s=0.1))
    with meter.phase("sim"):
        clock.advance(0.2)
    assert meter.read().phase_tier == "apportioned"


def test_worst_component_decides_the_tier() -> None:
    """A counter beside an estimate makes an estimate; each component keeps its own tier; boundaries join."""
    clock = Clock()
    meter = started(
        clock,
        PowerSource(clock, 300.0, component="gpu", boundary=Boundary.DEVICE),
        PowerSource(clock, 20.0, tier=Tier.ESTIMATED, boundary=Boundary.ALLOCATION),
    )
    clock.advance(1.0)
    reading = meter.read()
    assert reading.tier == "estimated"
    assert reading.component_tier == {"gpu": "measured", "cpu": "estimated"}
    assert reading.boundary == "allocation+device"


def test_reading_is_frozen_and_holds_every_phase() -> None:
    """A reading cannot be changed, and has all eight phases."""
    clock = Clock()
    reading = started(clock, PowerSource(clock, 1.0)).read()
    with pytest.raises(AttributeError):
        reading.total_j = 0.0  # type: ignore[misc]
    assert tuple(reading.phase_j) == tuple(reading.phase_s) == PHASES


def test_metrics_have_the_ledgers_keys() -> None:
    """The ledger's names come from one place, and hold plain finite numbers."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 10.0))
    clock.advance(2.0)
    metrics = meter.read().metrics()
    assert set(metrics) == {
        *(f"energy/{key}_j" for key in ("total", "cpu", "gpu", "dram", "unattributed")),
        "energy/total_j_lo",
        "energy/total_j_hi",
        "energy/mean_power_w",
        *(f"energy/phase/{phase}_j" for phase in PHASES),
    }
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["energy/mean_power_w"] == pytest.approx(10.0)


# ---- failures ---------------------------------------------------------------------------------------------


def test_source_that_fails_in_mid_run_is_lost_time_not_a_dead_run() -> None:
    """A failed source re-baselines, its gap is lost, the tier drops, the rest goes on."""
    clock = Clock()
    cpu, gpu = PowerSource(clock, 10.0), PowerSource(clock, 100.0, component="gpu")
    meter = started(clock, cpu, gpu)
    with meter.phase("sim"):
        clock.advance(1.0)
        meter.read()
        clock.advance(1.0)
        meter.read()
        gpu.error = SourceError("GPU is lost")
        clock.advance(3.0)
        failing = meter.read()
        assert [text.split(";")[0] for text in meter.warnings()] == ["fake-gpu: GPU is lost"]
        assert meter.warnings() == ()
        gpu.error = None
        clock.advance(7.0)
        meter.read()
        clock.advance(5.0)
    reading = meter.read()
    assert_conserved(reading)
    assert failing.components_j["gpu"] == pytest.approx(200.0)
    assert failing.lost_s == pytest.approx(3.0)
    assert reading.components_j["gpu"] == pytest.approx(700.0)
    assert reading.components_j["cpu"] == pytest.approx(170.0)
    assert reading.lost_s == pytest.approx(10.0)
    assert reading.tier == "estimated"
    assert reading.component_tier == {"cpu": "measured", "gpu": "estimated"}


def test_interval_holds_what_was_drawn_while_a_source_was_gone() -> None:
    """The lost time adds the highest power seen to the upper bound and nothing to the lower."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    meter = started(clock, source)
    for _ in range(2):
        clock.advance(1.0)
        meter.read()
    source.error = OSError("gone")
    clock.advance(4.0)
    reading = meter.read()
    assert reading.total_j == pytest.approx(200.0)
    assert 600.0 in reading.energy
    assert reading.total_j_hi == pytest.approx(220.0 + 400.0)


@pytest.mark.parametrize("error", [SourceError("x"), OSError("x"), RuntimeError("x"), KeyError("x")])
def test_any_error_of_a_source_is_survived(error: Exception) -> None:
    """Whatever a source raises, training goes on."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    meter = started(clock, source)
    source.error = error
    with meter.phase("learn"):
        clock.advance(1.0)
    meter.close()
    assert meter.read().lost_s == pytest.approx(1.0)


def test_dead_source_is_tried_again_every_five_seconds_only() -> None:
    """A source that stays away costs one attempt in five seconds."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    meter = started(clock, source)
    source.error = SourceError("gone")
    attempts = []
    source.open = lambda: attempts.append(clock.now_s) or source.__class__.open(source)  # type: ignore
    for _ in range(300):
        clock.advance(0.1)
        meter.read()
    assert 5 <= len(attempts) <= 7


def test_source_that_is_gone_at_the_start_is_lost_from_the_start() -> None:
    """A source that vanished after it was chosen does not stop the run."""
    clock = Clock()
    source = PowerSource(clock, 100.0)
    source.error = SourceError("gone")
    meter = started(clock, source)
    clock.advance(1.0)
    reading = meter.read()
    assert (reading.total_j, reading.lost_s, reading.tier) == (0.0, pytest.approx(1.0), "estimated")


# ---- null, resume, lifetime -------------------------------------------------------------------------------


def test_without_sources_seconds_count_and_joules_are_nan() -> None:
    """Nothing metered is NaN, never zero joules, and puts no joules into the ledger."""
    clock = Clock()
    meter = started(clock)
    with meter.phase("sim"):
        clock.advance(2.0)
    reading = meter.read()
    assert reading.phase_s["sim"] == pytest.approx(2.0)
    assert math.isnan(reading.total_j)
    assert math.isnan(reading.phase_j["sim"])
    assert (reading.tier, reading.phase_tier, reading.boundary) == ("none", "none", "none")
    assert reading.metrics() == {}


def test_resumed_run_carries_its_totals_on() -> None:
    """Totals go through JSON and add up; the time between does not count."""
    clock = Clock()
    first = started(clock, PowerSource(clock, 10.0))
    with first.phase("sim"):
        clock.advance(4.0)
    first.close()
    state = json.loads(json.dumps(first.state_dict()))
    clock.advance(1000.0)
    second = started(clock, PowerSource(clock, 20.0, tier=Tier.ESTIMATED))
    second.load_state_dict(state)
    with second.phase("sim"):
        clock.advance(1.0)
    with second.phase("learn"):
        clock.advance(1.0)
    reading = second.read()
    assert_conserved(reading)
    assert reading.wall_s == pytest.approx(6.0)
    assert (reading.phase_j["sim"], reading.phase_j["learn"]) == (pytest.approx(60.0), pytest.approx(20.0))
    assert (reading.total_j_lo, reading.total_j_hi) == (pytest.approx(72.0), pytest.approx(88.0))
    assert reading.tier == "estimated"
    assert reading.cpu_s >= state["cpu_s"]


def test_state_of_a_resumed_run_holds_both_parts() -> None:
    """A run resumed twice still knows its first part."""
    clock = Clock()
    state: dict[str, object] | None = None
    for _ in range(3):
        meter = started(clock, PowerSource(clock, 10.0))
        if state is not None:
            meter.load_state_dict(state)
        clock.advance(2.0)
        meter.close()
        state = meter.state_dict()
    assert meter.read().total_j == pytest.approx(60.0)


def test_change_of_boundary_at_a_resumption_is_told() -> None:
    """A run resumed on another kind of machine does not hide it."""
    clock = Clock()
    first = started(clock, PowerSource(clock, 10.0))
    clock.advance(1.0)
    first.read()
    second = started(clock, PowerSource(clock, 10.0, boundary=Boundary.ALLOCATION))
    second.load_state_dict(first.state_dict())
    clock.advance(1.0)
    assert second.read().boundary == "package then allocation"


def test_state_of_an_earlier_version_goes_on() -> None:
    """A run that was stopped before meters knew of company is resumed; nothing says that it was shared."""
    clock = Clock()
    meter = started(clock, PowerSource(clock, 10.0))
    clock.advance(2.0)
    meter.close()
    state = meter.state_dict()
    del state["is_shared"]
    later = started(clock, PowerSource(clock, 10.0))
    later.load_state_dict(state)
    assert later.read().total_j == pytest.approx(20.0)
    assert not later.read().is_shared


def test_foreign_state_is_refused() -> None:
    """A state of another kind names what it has and what is expected."""
    with pytest.raises(ValueError, match="meter state"):
        Meter().load_state_dict({"total_j": 1.0})


def test_close_keeps_the_last_totals_and_releases_sources_once() -> None:
    """After `close` the totals stand still and can still be read and saved."""
    clock = Clock()
    source = PowerSource(clock, 10.0)
    meter = started(clock, source)
    clock.advance(2.0)
    meter.close()
    meter.close()
    clock.advance(5.0)
    assert meter.read().total_j == pytest.approx(20.0)
    assert meter.state_dict()["components_j"] == {"cpu": pytest.approx(20.0)}
    assert source.num_closes == 1


def test_misuse_is_told() -> None:
    """Phases and readings outside of start and close, and unknown phases, are errors."""
    meter = Meter(clock_ns=Clock())
    with pytest.raises(RuntimeError, match="outside"):
        meter.phase("sim")
    with pytest.raises(RuntimeError, match="before start"):
        meter.read()
    meter.start()
    with pytest.raises(KeyError):
        meter.phase("dreaming")
    with pytest.raises(RuntimeError, match="called before"):
        meter.start()


def test_cpu_time_is_truly_counted() -> None:
    """CPU seconds come from the operating system and rise with work."""
    meter = Meter()
    meter.start()
    before_s = meter.read().cpu_s
    sum(range(2_000_000))
    assert meter.read().cpu_s > before_s


def _work(pipe: Connection) -> None:
    """Use half a second of CPU time, say so, and wait for leave to end."""
    while time.process_time() < 0.5:
        pass
    pipe.send("done")
    pipe.recv()


def test_worker_counts_while_it_runs_and_once() -> None:
    """The CPU time of a process that simulates is known before it ends, and not counted anew when it does."""
    near, far = multiprocessing.Pipe()
    worker = multiprocessing.Process(target=_work, args=(far,), daemon=True)
    meter = Meter()
    meter.start()
    before_s = meter.read().cpu_s
    worker.start()
    assert near.recv() == "done"
    working_s = meter.read().cpu_s
    near.send("end")
    worker.join(60.0)
    assert working_s - before_s >= 0.45
    assert 0.0 <= meter.read().cpu_s - working_s < 0.3


def test_own_cost_is_accounted_for() -> None:
    """The meter's own time is known, rises, and is part of the run."""
    meter = Meter(min_window_s=1e-6)
    meter.start()
    for _ in range(100):
        with meter.phase("sim"):
            pass
    reading = meter.read()
    assert 0.0 < reading.overhead_s < reading.wall_s


# ---- synchronisation --------------------------------------------------------------------------------------


class FakeGpuQueue:
    """A device that runs beside the host: launching takes the host a moment, draining waits for the rest."""

    def __init__(self, clock: Clock, *, launch_s: float = 1e-5) -> None:
        self.clock, self.launch_s = clock, launch_s
        self.busy_until_s, self.num_syncs = 0.0, 0

    def launch(self, seconds: float) -> None:
        """Queue work and let the host go on."""
        self.busy_until_s = max(self.busy_until_s, self.clock.now_s) + seconds
        self.clock.advance(self.launch_s)

    def drain(self) -> None:
        """Wait for all of it, as reading a result out does."""
        self.clock.advance(max(0.0, self.busy_until_s - self.clock.now_s))

    def synchronize(self) -> None:
        """Wait for all of it at the meter's wish."""
        self.num_syncs += 1
        self.drain()


def run_loop(
    policy: str, *, launch_s: float = 1e-5, drains: bool = True
) -> tuple[MeterReading, FakeGpuQueue]:
    """Train: 6 ms of sim and 2 ms of infer an iteration, with or without reading results out."""
    clock = Clock()
    queue = FakeGpuQueue(clock, launch_s=launch_s)
    source = PowerSource(clock, 100.0, component="gpu")
    meter = Meter([source], clock_ns=clock, synchronize=queue.synchronize, sync=policy)
    meter.start()
    for _ in range(400):
        with meter.phase("sim"):
            queue.launch(0.006)
        with meter.phase("infer"):
            queue.launch(0.002)
        with meter.phase("io"):
            if drains:
                queue.drain()
    return meter.read(), queue


def test_sync_at_boundaries_gives_each_phase_its_own_work() -> None:
    """With `boundary` the time is where the work was launched."""
    reading, _ = run_loop("boundary")
    assert reading.phase_j["sim"] / reading.phase_j["infer"] == pytest.approx(3.0, rel=0.02)
    assert reading.phase_s["io"] == pytest.approx(0.0, abs=1e-6)


def test_sampled_sync_splits_the_same_with_an_eighth_of_the_waiting() -> None:
    """With `sampled` one window in eight is drained and teaches the others; the split agrees."""
    whole, busy = run_loop("boundary")
    sampled, lazy = run_loop("sampled")
    assert lazy.num_syncs < 0.25 * busy.num_syncs
    assert sampled.phase_j["sim"] == pytest.approx(whole.phase_j["sim"], rel=0.05)
    assert sampled.phase_j["infer"] == pytest.approx(whole.phase_j["infer"], rel=0.05)
    assert_conserved(sampled)


def test_sampled_sync_holds_when_the_host_runs_ahead() -> None:
    """Work launched in an undrained window ends in it and does not pile up on the next drained phase."""
    reading, _ = run_loop("sampled", launch_s=0.002, drains=False)
    assert reading.phase_j["sim"] / reading.phase_j["infer"] == pytest.approx(3.0, rel=0.1)


def test_no_sync_leaves_the_joules_where_the_host_waited() -> None:
    """With `none` nothing is drained and the phase that reads results out pays."""
    reading, queue = run_loop("none")
    assert queue.num_syncs == 0
    assert reading.phase_j["io"] > 0.9 * reading.total_j


def test_window_unlike_the_learnt_ones_is_split_by_the_clock() -> None:
    """A compilation of 10 s in an undrained window is not shared by typical visits."""
    clock = Clock()
    queue = FakeGpuQueue(clock)
    meter = Meter([PowerSource(clock, 100.0)], clock_ns=clock, synchronize=queue.synchronize, sync="sampled")
    meter.start()
    for _ in range(200):
        with meter.phase("sim"):
            queue.launch(0.005)
        with meter.phase("learn"):
            queue.launch(0.001)
    before = meter.read()
    with meter.phase("sim"):
        clock.advance(0.005)
    with meter.phase("learn"):
        clock.advance(10.0)
    after = meter.read()
    assert after.phase_s["learn"] - before.phase_s["learn"] == pytest.approx(10.0, abs=0.1)


def test_policy_without_a_device_is_ignored() -> None:
    """On a CPU there is nothing to drain."""
    clock = Clock()
    meter = Meter([PowerSource(clock, 1.0)], clock_ns=clock, sync="boundary")
    meter.start()
    with meter.phase("sim"):
        clock.advance(1.0)
    assert meter.read().phase_s["sim"] == pytest.approx(1.0)


# ---- metamorphic ------------------------------------------------------------------------------------------


def loop_reading(rename: Callable[[str], str], *, idle_s: float = 0.0) -> MeterReading:
    """Run a fixed loop with renamed phases and a sleep of `idle_s` at the end."""
    clock = Clock()
    trace = PowerTrace([(3.0, 200.0), (1e9, 15.0)])
    meter = started(clock, PowerSource(clock, trace))
    for phase in ("sim", "infer", "learn"):
        with meter.phase(rename(phase)):
            clock.advance(1.0)
    with meter.phase("idle"):
        clock.advance(idle_s)
    return meter.read()


def test_renaming_phases_changes_no_total() -> None:
    """Names do not move joules."""
    swap = {"sim": "learn", "infer": "io", "learn": "eval"}
    plain, renamed = loop_reading(lambda name: name), loop_reading(swap.__getitem__)
    assert plain.total_j == renamed.total_j
    assert [plain.phase_j[key] for key in swap] == [renamed.phase_j[value] for value in swap.values()]


def test_sleep_adds_idle_energy_only() -> None:
    """A sleeping phase adds idle power times its length, to itself."""
    short, long = loop_reading(lambda name: name), loop_reading(lambda name: name, idle_s=60.0)
    assert long.total_j - short.total_j == pytest.approx(900.0)
    assert long.phase_j["idle"] == pytest.approx(900.0)
    assert long.phase_j["sim"] == pytest.approx(short.phase_j["sim"])
