"""Observation: the view of a floor that runs, from its store, its meter, run folders and the kernel."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import deque
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import psutil

from factory.energy.types import Tier
from factory.floor.attempts import RESTARTED
from factory.floor.budget import Target
from factory.floor.budget_commands import targets
from factory.floor.curves import configuration_hash
from factory.floor.lines import Handle, Line, LineState
from factory.operator import processes
from factory.operator.pressure import read_pressure
from factory.operator.run_files import RunFiles
from factory.operator.view import HostView, LineView, MeterView, View

if TYPE_CHECKING:
    from factory.floor.loop import Floor

_CPU_WINDOW_S = 10.0
_CPU_TICKS = 10
"""Ticks over which the use of each CPU is averaged: what is busy for a moment may be free in the next."""
_MEMORY_S = 2.0
"""Time between two looks at the memory of a line."""
_MOST_POINTS = 120
_SLOW_S = 30.0
"""Time between two looks at disk and finished lines."""


class _Attempt:
    """Memory about the newest attempt of a line."""

    def __init__(self, line: Line) -> None:
        self.number = line.attempts
        self.files = RunFiles(Path(line.run_dir))
        self.handle: Handle | None = None
        """Process of the attempt, once it is known; it stays the same."""
        self.cpu: deque[tuple[float, float]] = deque()
        self.memory: deque[tuple[float, float]] = deque(maxlen=_MOST_POINTS)
        self.moved_s = time.monotonic()
        """Time of the newest iteration, or of the last moment at which none was due."""
        self.steps = -1


class Observer:
    """Makes views of a floor."""

    def __init__(self, floor: Floor) -> None:
        """Observe a floor."""
        self._floor = floor
        self._attempts: dict[int, _Attempt] = {}
        self._groups: dict[int, str] = {}
        self._best_tier = Tier.NONE.rank
        self._clocks = (time.time(), time.monotonic())
        self._cpu_shares: deque[list[float]] = deque(maxlen=_CPU_TICKS)
        self._started_s = time.monotonic()
        self._gap_s = _gap_s(floor)
        self._slow_at_s = -math.inf
        self._disk: Any = None
        self._prunable_bytes = 0

    def observe(self) -> View:
        """Return the floor as it is now."""
        now_s = time.monotonic()
        wall = time.time()
        # Both clocks run at one pace; where they differ, somebody has set the wall clock.
        step_s = (wall - self._clocks[0]) - (now_s - self._clocks[1])
        tick_s = max(now_s - self._clocks[1], 1e-3)
        self._clocks = (wall, now_s)
        # A line that was never started shows nothing, and thousands of them may wait.
        lines = [line for line in self._floor.store.lines() if line.attempts > 0 and not line.state.is_final]
        self._attempts = {line.id: self._attempt(line) for line in lines}
        return View(
            now_s=now_s,
            lines=tuple(self._line(line, now_s, wall) for line in lines),
            host=self._host(now_s, step_s, tick_s),
            meter=self._meter(now_s, wall),
            floor_gap_s=self._gap_s,
            floor_age_s=now_s - self._started_s,
            num_duplicate_targets=_num_duplicates(targets(self._floor.store)),
        )

    def look_again(self) -> None:
        """Look at disk and finished lines in the next tick."""
        self._slow_at_s = -math.inf

    def _attempt(self, line: Line) -> _Attempt:
        known = self._attempts.get(line.id)
        if known is None or known.number != line.attempts:
            known = _Attempt(line)
        return known

    def _line(self, line: Line, now_s: float, wall: float) -> LineView:
        attempt = self._attempts[line.id]
        if line.state.is_active:
            attempt.files.read(now_s)
        seen = self._processes(line, attempt, now_s)
        is_due = line.state in (LineState.RUNNING, LineState.STARTING)
        rows = attempt.files.history.rows
        steps = -1
        if rows:
            steps = rows[-1].steps
        # A pause for the budget stops the clock that tells how long nothing came.
        if not is_due or steps != attempt.steps:
            attempt.moved_s = now_s
            attempt.steps = steps
        # Predicted power and speed, against which an action's effect is estimated.
        point = self._floor.learning.point(line)
        return LineView(
            id=line.id,
            group=self._group(line),
            state=line.state,
            state_age_s=max(0.0, wall - line.state_since),
            is_held=line.is_held,
            total_steps=line.total_steps,
            steps=line.steps,
            attempts=line.attempts,
            exit_class=None if line.root_cause == RESTARTED else line.exit_class,
            failures=line.failures,
            retry_in_s=max(0.0, line.not_before - wall),
            priority=line.priority,
            flex=line.flex,
            cores=line.needs.cores,
            power_w=point.power_w,
            tokens_per_s=point.tokens_per_s,
            rows=tuple(rows),
            usual=tuple(attempt.files.history.usual),
            returns=tuple(attempt.files.history.returns.means),
            silence_s=now_s - attempt.moved_s,
            cores_busy=_rate(attempt.cpu),
            is_stopped=seen.is_stopped and line.state is LineState.RUNNING,
            cpus=tuple(processes.affinity(seen.pids[0])) if seen.pids else (),
            memory=tuple(attempt.memory),
            checkpoint=attempt.files.checkpoint(),
            outbox=tuple(attempt.files.outbox),
        )

    def _processes(self, line: Line, attempt: _Attempt, now_s: float) -> processes.ProcessesView:
        """Look at the processes of a line, and remember their CPU time and memory."""
        if not line.state.is_active:
            return processes.ProcessesView()
        attempt.handle = attempt.handle or self._floor.supervisor.handle(line)
        # Process numbers of another host mean nothing here.
        if attempt.handle is None or attempt.handle.host != self._floor.power.here:
            return processes.ProcessesView()
        # A start fills the memory, which is no leak; a resumed run has rows before its first iteration.
        is_due = line.state is LineState.RUNNING and (
            not attempt.memory or now_s - attempt.memory[-1][0] >= _MEMORY_S
        )
        seen = processes.look(attempt.handle.pid, with_memory=is_due)
        account = self._floor.power.books.account(line.id)
        if line.state is LineState.PAUSED:
            # A paused line uses no CPU, which is no sign of a hang once it goes on.
            attempt.cpu.clear()
        elif account is not None and account.attempt == line.attempts:
            attempt.cpu.append((now_s, account.attempt_cpu_s))
            while attempt.cpu[0][0] < now_s - _CPU_WINDOW_S:
                attempt.cpu.popleft()
        if seen.memory_bytes:
            attempt.memory.append((now_s, float(seen.memory_bytes)))
        return seen

    def _group(self, line: Line) -> str:
        if line.id not in self._groups:
            self._groups[line.id] = configuration_hash(line.task, line.overrides, cores=line.needs.cores)
        return self._groups[line.id]

    def _host(self, now_s: float, step_s: float, tick_s: float) -> HostView:
        if now_s - self._slow_at_s > _SLOW_S:
            self._slow_at_s = now_s
            self._disk = shutil.disk_usage(self._floor.store.root)
            found = prunable(self._floor.store.lines((LineState.FINISHED,)))
            self._prunable_bytes = sum(_folder_bytes(path) for path in found)
        self._cpu_shares.append(psutil.cpu_percent(percpu=True))
        memory = psutil.virtual_memory()
        capacity = self._floor.engine.capacity()
        return HostView(
            num_cores=float(os.cpu_count() or 1),
            cores_busy=self._floor.power.now.cores_busy,
            cpus_busy=tuple(fmean(shares) / 100.0 for shares in zip(*self._cpu_shares, strict=False)),
            load=os.getloadavg()[0],
            memory_bytes=float(min(capacity.memory_bytes, memory.total)),
            memory_free_bytes=float(memory.available),
            memory_pressure=read_pressure(),
            disk_bytes=float(self._disk.total),
            disk_free_bytes=float(self._disk.free),
            clock_jump_s=step_s,
            tick_s=tick_s,
            prunable_bytes=float(self._prunable_bytes),
        )

    def _meter(self, now_s: float, wall: float) -> MeterView:
        power = self._floor.power
        # A source that was lost shows as a worse rank.
        rank = Tier(power.now.tier).rank
        self._best_tier = min(self._best_tier, rank)
        samples = tuple((sample.t_s, sample.power_w, sample.limit_w) for sample in power.samples)
        age_s = 0.0
        if samples:
            age_s = now_s - samples[-1][0]
        return MeterView(
            limit_w=self._floor.budget().at(wall).limit_w,
            samples=samples[-30:],
            tier_rank=rank,
            best_tier_rank=self._best_tier,
            sample_age_s=age_s,
        )


def _rate(points: deque[tuple[float, float]]) -> float | None:
    """Return the growth of a count a second over its window; None without enough points."""
    if len(points) < 2 or points[-1][0] - points[0][0] < 0.5 * _CPU_WINDOW_S:
        return None
    return (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])


def _gap_s(floor: Floor) -> float:
    """Return for how long nobody ran the floor before it was started, if its last process died; else 0."""
    # Newest first: two starts without a stop between them mean that the earlier process died.
    starts = 0
    for event in floor.store.events():
        if event.kind == "floor stopped":
            return 0.0
        starts += event.kind == "floor started"
        if starts == 2:
            samples = floor.store.samples(limit=1)
            if not samples:
                return 0.0
            return max(0.001, time.time() - samples[-1].at)
    return 0.0


def _num_duplicates(known: list[Target]) -> int:
    return len(known) - len(set(known))


def prunable(finished: list[Line]) -> list[Path]:
    """Return the checkpoints of finished lines, except the one that `last` names."""
    found: list[Path] = []
    for line in finished:
        folder = Path(line.run_dir) / "checkpoints"
        # What lies behind a link belongs to somebody else.
        if folder.is_symlink() or folder.parent.is_symlink():
            continue
        try:
            kept = os.path.realpath(folder / "last", strict=True)
            inner = list(folder.iterdir())
        except OSError:
            # Without a last one, nothing is known to be superfluous.
            continue
        found += [
            path
            for path in inner
            if path.name.isdecimal() and path.is_dir() and not path.is_symlink()
            if os.path.realpath(path) != kept
        ]
    return found


def _folder_bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError:
        return 0
