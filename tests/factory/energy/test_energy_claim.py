"""Claims: no joule of a shared machine has two owners, and a run that is alone claims all of it."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from energy_fakes import Clock, RaplTree
from hypothesis import given
from hypothesis import strategies as st

from factory.energy.cgroup import host_cpu_s
from factory.energy.claim import Claim, Scope, run_tree
from factory.energy.config import EnergyConfig
from factory.energy.meter import Meter
from factory.energy.sources.calibration import Calibration
from factory.energy.sources.estimate import EstimateConfig, EstimateSource
from factory.energy.sources.rapl import RaplSource
from factory.energy.types import Boundary, Tier


class Machine:
    """Cores on which several runs, and nobody's processes, use CPU time."""

    def __init__(self, num_runs: int, *, cores: float = 4.0) -> None:
        self.clock = Clock()
        self.cores = cores
        self.used_s = [0.0] * num_runs
        self.strangers_s = 0.0
        self.usage_origin = "a test"

    def usage_s(self) -> float:
        """Return the CPU time of all."""
        return sum(self.used_s) + self.strangers_s

    def memory_limit_bytes(self) -> int | None:
        """Return no limit."""
        return None

    def resident_bytes(self) -> int:
        """Return nothing: these tests are about cores."""
        return 0

    def run(
        self, index: int, config: EstimateConfig | None = None, scope: Scope = Scope.ALLOCATION
    ) -> EstimateSource:
        """Return the estimate of a run."""
        source = EstimateSource(
            config,
            self.clock,
            cgroup=self,  # type: ignore[arg-type]
            num_cores=self.cores,
            own_cpu_s=lambda: self.used_s[index],
            scope=scope,
        )
        source.open()
        return source

    def advance(self, seconds: float, *busy: float, strangers: float = 0.0) -> None:
        """Let time pass while each run keeps a number of cores busy."""
        self.clock.advance(seconds)
        for index, cores in enumerate(busy):
            self.used_s[index] += cores * seconds
        self.strangers_s += strangers * seconds

    def joules(self) -> float:
        """Return what the machine used since the start, by the published powers [J]."""
        elapsed_s = self.clock.now_s - 1000.0
        return 0.74 * self.cores * elapsed_s + (3.5 - 0.74) * self.usage_s()


def test_run_that_is_alone_claims_the_machine() -> None:
    """A little of what a system always does is nobody's, and the idle power of free cores is the run's."""
    machine = Machine(1)
    source = machine.run(0)
    for _ in range(20):
        machine.advance(1.0, 2.0, strangers=0.1)
    reading = source.read()
    assert not reading.is_shared
    assert reading.cumulative_j == pytest.approx(machine.joules() - 3.5 * machine.strangers_s)


def test_neighbours_cost_nothing_and_free_cores_belong_to_nobody() -> None:
    """Beside others a run claims its own CPU time at the power of a busy core; the bounds hold all of it."""
    machine = Machine(2)
    source = machine.run(0)
    for _ in range(20):
        machine.advance(1.0, 1.0, 2.0)
        reading = source.read()
    assert reading.is_shared
    assert reading.tier is Tier.ESTIMATED
    assert reading.cumulative_j == pytest.approx(3.5 * 20.0)
    assert reading.lo_j == pytest.approx(0.5 * 0.74 * 20.0)
    assert reading.hi_j == pytest.approx(10.0 * 4.0 * 20.0)


LOAD = st.lists(st.floats(0.3, 3.0), min_size=2, max_size=4)


@given(
    loads=st.lists(LOAD, min_size=2, max_size=10),
    steps_s=st.lists(st.floats(0.05, 5.0), min_size=10, max_size=10),
    readers=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_claims_never_exceed_the_machine(
    loads: list[list[float]], steps_s: list[float], readers: list[bool]
) -> None:
    """However many runs compute, and whenever each of them reads, the machine has used what they claim."""
    num_runs = min(map(len, loads))
    machine = Machine(num_runs)
    sources = [machine.run(index) for index in range(num_runs)]
    reads = iter(readers)
    for load, seconds in zip(loads, steps_s, strict=False):
        fit = min(1.0, machine.cores / sum(load[:num_runs]))
        machine.advance(seconds, *(fit * cores for cores in load[:num_runs]))
        for source in sources:
            if next(reads):
                source.read()
    claims_j = [source.read().cumulative_j for source in sources]
    assert sum(claims_j) <= machine.joules() * (1.0 + 1e-9)
    for source, index in zip(sources, range(num_runs), strict=True):
        assert 0.74 * machine.used_s[index] <= source.read().cumulative_j


def test_second_run_that_comes_and_goes_is_not_billed_to_the_first() -> None:
    """What the first run claims while it is alone, and after, leaves room for the second at any time."""
    machine = Machine(2)
    first = machine.run(0)
    for _ in range(100):
        machine.advance(1.0, 2.0, 0.0)
        first.read()
    second = machine.run(1)
    for _ in range(10):
        machine.advance(1.0, 1.0, 3.0)
        claimed_j = first.read().cumulative_j + second.read().cumulative_j
        assert claimed_j <= machine.joules() * (1.0 + 1e-9)
    # Thirty CPU seconds in 110 s of four cores are more than 5 %.
    assert first.read().is_shared
    assert second.read().is_shared


def test_own_process_that_is_found_late_makes_no_company() -> None:
    """A new process of the run looks like a stranger's for a moment: that must not mark the run for good."""
    machine = Machine(1)
    source = machine.run(0)
    machine.advance(0.5, 0.0, strangers=2.0)
    source.read()
    machine.advance(0.4, 2.0)
    machine.used_s[0] += machine.strangers_s
    machine.strangers_s = 0.0
    source.read()
    for _ in range(10):
        machine.advance(1.0, 2.0)
        source.read()
    assert not source.read().is_shared


def test_scope_process_bills_own_time_and_own_cores() -> None:
    """Whatever neighbours do changes nothing, the idle power of the run's cores is in it."""
    for neighbour in (0.0, 3.0):
        machine = Machine(2)
        source = machine.run(0, scope=Scope.PROCESS)
        assert source.open().boundary is Boundary.PROCESS
        machine.advance(10.0, 1.0, neighbour)
        reading = source.read()
        assert reading.cumulative_j == pytest.approx(0.74 * 40.0 + 2.76 * 10.0)
        assert not reading.is_shared


def test_scope_node_bills_everybody() -> None:
    """The meter of a host leaves nothing out, and knows its idle part."""
    machine = Machine(2)
    source = machine.run(0, scope=Scope.NODE)
    machine.advance(10.0, 1.0, 2.0)
    reading = source.read()
    assert reading.cumulative_j == pytest.approx(machine.joules())
    assert reading.idle_j == pytest.approx(0.74 * 40.0)


@pytest.mark.parametrize("share_of_idle", [0.0, 0.25, 1.0])
def test_calibrated_interval_beside_others_holds_every_fair_division(share_of_idle: float) -> None:
    """Whether the idle power of its cores counts or not, or all of the machine's: the interval holds it."""
    calibration = Calibration(idle_w_per_core=0.74, max_w_per_core=3.5, relative_u=0.02, origin="plug")
    machine = Machine(2)
    source = machine.run(0, EstimateConfig(calibration=calibration))
    for _ in range(10):
        machine.advance(1.0, 1.0, 1.0)
        reading = source.read()
    assert reading.is_shared
    truth_j = (3.5 - 0.74) * 10.0 + share_of_idle * 0.74 * 40.0
    assert truth_j in reading.interval
    assert machine.joules() in reading.interval


def test_time_that_cannot_be_told_is_lost() -> None:
    """A count of all that falls gives no claim."""
    times = iter([5.0, 4.0])
    claim = Claim(own_cpu_s=lambda: 1.0, all_cpu_s=lambda: next(times), num_cores=1.0, own_cores=1.0)
    assert claim.advance(1.0) is None


def test_unknown_scope_is_refused() -> None:
    """A wrong value names its key and the choices."""
    with pytest.raises(ValueError, match=r"energy\.scope=.*machine.*allocation, process, node"):
        EnergyConfig(scope="machine")


def test_ranks_of_a_host_are_one_run() -> None:
    """Rank 0 meters for its siblings too, which are below their launcher."""
    assert run_tree({"LOCAL_WORLD_SIZE": "2"})._root.pid == os.getppid()
    assert run_tree({"LOCAL_WORLD_SIZE": "1"})._root.pid == run_tree({})._root.pid == os.getpid()


# ---- counters ---------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> RaplTree:
    """Return a machine with one package of 50 W and its memory of 5 W."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 5.0)
    return tree


def counters(tree: RaplTree, machine: Machine, index: int, scope: Scope = Scope.ALLOCATION) -> RaplSource:
    """Return the counters as one run of a machine claims them."""
    source = RaplSource(
        tree.root,
        tree.clock,
        run_share=1.0,
        own_cpu_s=lambda: machine.used_s[index],
        all_cpu_s=machine.usage_s,
        scope=scope,
    )
    source.open()
    return source


def test_counters_are_shared_by_cpu_time(tree: RaplTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs claim no more than the counter shows, from 0 to all of it, and say shared."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    machine = Machine(2)
    sources = [counters(tree, machine, index) for index in range(2)]
    for _ in range(10):
        tree.advance(1.0)
        machine.advance(1.0, 3.0, 1.0)
        readings = [source.read() for source in sources]
    assert readings[0].components_j == {"cpu": pytest.approx(375.0), "dram": pytest.approx(37.5)}
    assert sum(reading.cumulative_j for reading in readings) == pytest.approx(550.0)
    for reading in readings:
        assert (reading.tier, reading.is_shared, reading.lo_j) == (Tier.SHARED, True, 0.0)
        assert reading.hi_j > 550.0


def test_counters_of_a_run_that_is_alone_are_measured(
    tree: RaplTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idle power of free cores is the run's own; what a system always does is taken off."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    machine = Machine(1)
    source = counters(tree, machine, 0)
    tree.advance(10.0)
    machine.advance(10.0, 1.0, strangers=0.04)
    reading = source.read()
    assert reading.tier is Tier.MEASURED
    assert reading.cumulative_j == pytest.approx(550.0, rel=0.03)
    assert reading.lo_j > 0.85 * 550.0
    whole = counters(tree, machine, 0, Scope.NODE)
    tree.advance(10.0)
    machine.advance(10.0, 1.0, strangers=2.0)
    assert whole.read().cumulative_j == pytest.approx(550.0)
    assert whole.read().tier is Tier.MEASURED


def test_cpu_time_of_this_machine_rises() -> None:
    """The kernel's count of all that runs on the machine contains ours."""
    before_s = host_cpu_s()
    begin_s = time.process_time()
    while time.process_time() - begin_s < 0.3:
        pass
    assert host_cpu_s() - before_s >= 0.25


# ---- two real runs ----------------------------------------------------------------------------------------


def _meter_some_work(pipe: Connection, seconds: float) -> None:
    """Meter a process that computes all the time, and send what it claims."""
    meter = Meter([EstimateSource()], min_window_s=0.05)
    meter.start()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        with meter.phase("sim"):
            sum(range(20_000))
    reading = meter.read()
    pipe.send(
        (reading.total_j, reading.total_j_lo, reading.total_j_hi, reading.is_shared, reading.describe())
    )
    pipe.send(meter.warnings())


@pytest.mark.slow
def test_two_meters_side_by_side_do_not_both_claim_the_machine() -> None:
    """Two processes that compute at once claim less than the node's meter shows; both say that they share."""
    context = multiprocessing.get_context("spawn")
    node = Meter([EstimateSource(scope=Scope.NODE)])
    node.start()
    pipes = []
    for _ in range(2):
        near, far = context.Pipe()
        context.Process(target=_meter_some_work, args=(far, 3.0), daemon=True).start()
        pipes.append(near)
    claims = [(pipe.recv(), pipe.recv()) for pipe in pipes]
    node_j = node.read().total_j
    assert sum(total_j for (total_j, *_), _ in claims) <= node_j
    for (total_j, lo_j, hi_j, is_shared, text), warnings in claims:
        assert lo_j <= total_j <= hi_j
        assert is_shared
        assert "shared with others" in text
        assert len(warnings) == 1
        assert "upper bound" in warnings[0]
