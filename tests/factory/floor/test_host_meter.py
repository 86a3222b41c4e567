"""The meter of a host: GPUs belong to the lines that were given them, CPU time to process trees."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from energy_fakes import Clock, FakeGpu, FakeNvml

from factory.floor import attempt_files, gpus
from factory.floor.engines.local import LocalEngine
from factory.floor.engines.ray_node import Agent
from factory.floor.floor_books import StoredBooks
from factory.floor.host_meter import HostMeter, HostReading, Running
from factory.floor.lines import Line, LineState, Needs
from factory.floor.node_meter import NodeReading
from factory.floor.power import PowerWatch
from factory.floor.store import Store
from factory.floor.supervisor import Supervisor
from factory.runtime.decoding import decode

BOARDS = ("GPU-a", "GPU-b")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put two boards into this machine that draw 10 W and 20 W; return the clock of their counters."""
    clock = Clock()
    boards = [FakeGpu(BOARDS[0], 10.0, limit_w=300.0), FakeGpu(BOARDS[1], 20.0, limit_w=400.0)]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(clock, boards))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return clock


def running(devices: str) -> Running:
    """Return an attempt that is this process, with some GPUs."""
    return Running(attempt=1, handle=replace(attempt_files.own_handle(engine="local"), devices=devices))


def test_boards_are_those_that_cuda_would_show(clock: Clock) -> None:
    """Power limits by UUID, in the order of CUDA; without the library there is none."""
    assert gpus.visible() == {"GPU-a": 300.0, "GPU-b": 400.0}
    assert list(gpus.visible({"CUDA_VISIBLE_DEVICES": "1,0"})) == ["GPU-b", "GPU-a"]
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": ""}) == {}
    assert LocalEngine(cores=1.0).capacity().gpus == 2


def test_a_machine_without_a_driver_has_no_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may be there, and the driver not."""
    fake = FakeNvml(Clock(), [])
    fake.errors["nvmlInit"] = fake.NVMLError("driver not loaded")
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert gpus.visible() == {}
    assert LocalEngine(cores=1.0).capacity().gpus == 0


def test_energy_of_a_board_is_its_lines(clock: Clock) -> None:
    """One line has the board of 10 W, two share that of 20 W, one has none."""
    meter = HostMeter(None)
    lines = {1: running("GPU-a"), 2: running("1"), 3: running("GPU-b"), 4: running("")}
    first = meter.read(lines)
    clock.advance(1.0)
    second = meter.read(lines)
    meter.close()
    assert second.node.gpu_j - first.node.gpu_j == pytest.approx(30.0)
    assert second.node.gpu_hi_j >= second.node.gpu_j
    shares = second.gpu_share
    assert shares[1] == shares[2] == shares[3] == pytest.approx(1.0 / 3.0)
    assert shares[4] == 0.0


def test_reading_survives_its_way_between_processes(clock: Clock) -> None:
    """What an agent on another host returns is what its meter read."""
    answer = Agent(cores=1.0).meter(None, {"5": (1, None)})
    found = HostReading.from_plain(answer)
    assert found.to_plain() == answer
    assert (dict(found.cpu_s), found.node.num_cores > 0.0) == ({5: 0.0}, True)


def gpu_line(store: Store, number: int) -> Line:
    """Queue a line that needs a GPU."""
    return store.add_line(
        Line(
            id=0,
            name=f"line {number}",
            task="cartpole_swingup",
            overrides=("device=cuda",),
            spec_hash=str(number),
            total_steps=10,
            needs=Needs(cores=0.5, memory_bytes=1, gpus=1),
            run_dir=str(store.root / "lines" / "{id}" / "run"),
        )
    )


class IdleEngine(LocalEngine):
    """Starts no process: what would be started is in the attempt's folder."""

    def start(self, folder: Path, needs: Needs) -> None:
        """Do nothing."""


def test_every_line_gets_a_board_of_its_own(clock: Clock, tmp_path: Path) -> None:
    """Boards are handed out once, also by a floor that was started again, and come back when a line ends."""

    def start(line: Line) -> str:
        # A new supervisor knows only what is on the disk.
        engine = IdleEngine(cores=2.0)
        Supervisor(store, engine, PowerWatch(None, engine)).start(line, "has room")
        attempt = store.last_attempt(line.id)
        assert attempt is not None
        spec = attempt_files.read_spec(Path(attempt.folder))
        assert spec.gpus == 1
        return spec.environment.get("CUDA_VISIBLE_DEVICES", "")

    with Store(tmp_path / "floor", create=True) as store:
        first, second, third = (gpu_line(store, number) for number in range(3))
        assert (start(first), start(second)) == BOARDS
        for state in (LineState.RUNNING, LineState.FINISHED):
            store.move(store.line(first.id), state, "is done")
        assert start(third) == BOARDS[0]


def test_wrapper_claims_the_boards_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the handle, from which a meter on any host learns them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert attempt_files.claim(tmp_path, devices=os.environ["CUDA_VISIBLE_DEVICES"])
    handle = attempt_files.read_handle(tmp_path, engine="local")
    assert handle is not None
    assert handle.devices == "3"


def test_lines_pay_for_their_boards_and_other_hosts_are_metered(clock: Clock, tmp_path: Path) -> None:
    """One line here on a board of 10 W, one on another host that answers every second time."""
    here = attempt_files.own_handle(engine="local")

    blank = NodeReading(num_cores=2.0, tier="measured")

    class Engine(IdleEngine):
        joules = 0.0
        elapsed_s = 0.0
        is_silent = False

        def read_meter(self, host, since, running):
            if self.is_silent:
                return None
            assert host == "elsewhere"
            self.joules += 60.0
            self.elapsed_s += 1.0
            node = replace(since or blank, t_mono=self.elapsed_s, dynamic_j=self.joules, cpu_s=self.joules)
            return HostReading(node=node, cpu_s={line: self.joules / 2.0 for line in running})

    engine = Engine(cores=1.0)
    engine.elapsed_s = 0.0
    watch = PowerWatch(None, engine)
    blank = replace(
        watch._meter.read({}).node, dynamic_j=0.0, gpu_j=0.0, idle_j=0.0, cpu_s=0.0, tier="measured"
    )
    with Store(tmp_path / "floor", create=True) as store:
        lines = [replace(gpu_line(store, number), attempts=1) for number in range(2)]
    active = [
        (lines[0], replace(here, devices="GPU-a")),
        (lines[1], replace(here, host="elsewhere")),
    ]
    for _ in range(3):
        watch.tick(active, limit_w=1e3, tokens=0.0)
        clock.advance(1.0)
    # The first reading of a host sets its zero; two steps follow.
    assert watch.books.account(lines[1].id).joules == pytest.approx(60.0)
    assert watch.books.account(lines[0].id).joules >= 20.0
    assert set(watch.books.by_host) == {watch.here, "elsewhere"}

    engine.is_silent = True
    watch.tick(active, limit_w=1e3, tokens=0.0)
    assert watch.books.account(lines[1].id).joules == pytest.approx(60.0)
    assert watch._by_host["elsewhere"].power_w == pytest.approx(60.0)
    engine.is_silent = False
    watch.tick(active, limit_w=1e3, tokens=0.0)
    assert watch.books.account(lines[1].id).joules == pytest.approx(90.0)
    lines_j = sum(account.joules for account in watch.books.lines.values())
    assert lines_j + watch.books.rest_j == pytest.approx(watch.books.node_j, rel=1e-9)
    stored = decode(watch.books.to_plain(), StoredBooks, name="books")
    assert PowerWatch(stored, engine).books == watch.books
    watch.close()


def test_prior_of_a_gpu_line_is_the_limit_of_a_board(clock: Clock) -> None:
    """Nothing is known of its load before it has run."""
    watch = PowerWatch(None, IdleEngine(cores=1.0))
    core_w = watch.prior_w(Needs(cores=1.0, memory_bytes=0))
    assert watch.prior_w(Needs(cores=1.0, memory_bytes=0, gpus=1)) == pytest.approx(core_w + 400.0)
    watch.close()
