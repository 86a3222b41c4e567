"""The process of `floor run`: once a tick it observes the lines, meters the node, plans and acts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from factory.floor import attempt_files, attempts, progress, scheduler
from factory.floor.budget import Budget, Target
from factory.floor.engines.base import Engine
from factory.floor.lines import Attempt, Handle, Line, LineState, Needs
from factory.floor.orders import carry_out
from factory.floor.plan import Action, FloorView, LineView, OperatingPoint, Settings, Verb
from factory.floor.power import PowerWatch
from factory.floor.records import Sample
from factory.floor.store import Store
from factory.runtime.cpus import usable_cpus

NOT_FINAL = tuple(state for state in LineState if not state.is_final)
_CLAIM_S = 30.0
"""Time for a wrapper to start; after that the attempt is given up."""
_GRACE_S = 120.0
"""Time for a line to write a checkpoint and end; after that it is killed."""
_STALL_S = 900.0
"""Time without a row of metrics, while training, after which a line has stalled."""
_SAMPLE_S = 1.0


@dataclass(kw_only=True)
class Rules:
    """Settings of `floor run`."""

    watts: float = inf
    """Limit of the site [W]."""
    tick_s: float = 1.0
    is_forever: bool = False
    """Whether to wait for more lines when all have ended."""
    scheduler: Settings = field(default_factory=Settings)


class Floor:
    """One floor while it runs."""

    def __init__(self, store: Store, engine: Engine, rules: Rules) -> None:
        """Take over the lines that are on the floor, running ones included.

        Args:
            store: the floor's store; its lock is held.
            engine: where attempts run.
            rules: settings.
        """
        self.store = store
        self.engine = engine
        self.rules = rules
        self.power = PowerWatch(store.get("books"))
        self.is_draining = False
        self._last_start_s = -inf
        self._cpus: dict[int, list[int]] = {}
        self._asked_at: dict[int, float] = {}
        """Monotonic time at which a line was asked to end."""
        self._sampled_s = -inf
        self._kept: dict[int, tuple[int, float]] = {}
        """Steps of the newest checkpoint of a line, and its useful energy at that time [J]."""
        self._waiting: dict[int, str] = {}
        self.store.record("floor started", details={"engine": engine.name, "watts": _finite(rules.watts)})

    @property
    def is_done(self) -> bool:
        """True if no line is left that the floor could run."""
        if self.is_draining:
            return not self.store.lines(tuple(state for state in LineState if state.is_active))
        return not self.store.lines(NOT_FINAL)

    def tick(self) -> None:
        """Observe, settle, meter, plan, act."""
        for command in self.store.pending_commands():
            self.store.finish_command(command, carry_out(self, command))
        now = time.time()
        active: list[tuple[Line, Handle | None]] = []
        for line in self.store.lines(NOT_FINAL):
            if line.state is LineState.LOST:
                self.store.move(line, LineState.QUEUED, "goes on after its processes were lost")
            elif line.state.is_active:
                handle = self._observe(line, now)
                active.append((self.store.line(line.id), handle))
        lines = self.store.lines(NOT_FINAL)
        limit = self.budget().at(now)
        self.power.tick(active, limit_w=limit.limit_w, tokens=float(sum(line.tokens for line in lines)))
        self._keep_books()
        view = self._view(lines)
        plan = scheduler.plan(view, limit, time.monotonic(), self.rules.scheduler)
        for action in plan.actions:
            self._act(action)
        self._explain(plan.waiting)
        self._sample(limit.limit_w)

    def budget(self) -> Budget:
        """Return the budget as it is known now."""
        return Budget(
            site_w=self.rules.watts,
            schedule=[(at, watts) for at, watts in self.store.get("schedule", [])],
            targets=[Target(**plain) for plain in self.store.get("targets", [])],
            ramp_w_per_s=self.rules.scheduler.ramp_w_per_s,
        )

    # ---- observing ----

    def _observe(self, line: Line, now: float) -> Handle | None:
        """Bring a line's state up to date with its processes and files; return its process."""
        attempt = self.store.last_attempt(line.id)
        assert attempt is not None
        folder = Path(attempt.folder)
        if attempt.handle is None:
            handle = self.engine.find(folder)
            if handle is None:
                self._give_up_late_start(line, attempt, now)
                return None
            attempt = replace(attempt, handle=handle)
            self.store.update_attempt(attempt)
        handle = attempt.handle
        assert handle is not None
        outcome = attempt_files.read_outcome(folder)
        if not self.engine.is_alive(handle):
            # The file is written before the wrapper ends, so what is not there now will never be.
            outcome = outcome or attempt_files.read_outcome(folder)
            self._settle(line, attempt, outcome)
            return handle
        if outcome is not None:
            # Left-over processes of an attempt that has ended hold memory and locks.
            self.engine.kill(handle)
            return handle
        self._follow(line, attempt, handle, now)
        return handle

    def _give_up_late_start(self, line: Line, attempt: Attempt, now: float) -> None:
        """End an attempt whose wrapper never came, so that it can never come later."""
        if now - attempt.started_at < _CLAIM_S:
            return
        Path(attempt.folder).mkdir(parents=True, exist_ok=True)
        if attempt_files.give_up(Path(attempt.folder)):
            self._settle(line, attempt, None)

    def _settle(self, line: Line, attempt: Attempt, outcome: attempt_files.Outcome | None) -> None:
        """Move a line on whose attempt has ended, and put what was lost on the books."""
        account = self.power.books.lines.get(line.id)
        before_j = sum(
            other.joules for other in self.store.attempts(line.id) if other.number < attempt.number
        )
        total_j = account.joules if account else 0.0
        moved = attempts.settle(self.store, line, attempt, outcome, joules=max(0.0, total_j - before_j))
        if account is not None:
            self._charge_waste(moved, attempt)
        self._cpus.pop(line.id, None)
        self._asked_at.pop(line.id, None)

    def _charge_waste(self, line: Line, attempt: Attempt) -> None:
        if line.state is LineState.FINISHED:
            return
        if line.state.is_final:
            useful_j = 0.0
        else:
            kept_steps, kept_j = self._kept.get(line.id, (0, 0.0))
            # A clean end writes a checkpoint: nothing is lost.
            if line.steps > kept_steps:
                return
            useful_j = kept_j if line.steps else 0.0
        self.power.books = self.power.books.roll_back(line.id, useful_j=useful_j)

    def _follow(self, line: Line, attempt: Attempt, handle: Handle, now: float) -> None:
        """Note the progress of a line that has processes; end it if it does not move."""
        found = progress.read(Path(line.run_dir))
        account = self.power.books.lines.get(line.id)
        if account and found.kept_steps != self._kept.get(line.id, (-1, 0.0))[0]:
            self._kept[line.id] = (found.kept_steps, account.useful_j)
        if (found.steps, found.tokens) != (line.steps, line.tokens):
            self.store.update(
                line.id,
                steps=max(found.steps, found.kept_steps),
                tokens=found.tokens,
                tokens_per_s=found.tokens_per_s,
            )
        if line.state is LineState.STARTING and found.written_at > attempt.started_at:
            self.store.move(line, LineState.RUNNING, "runs")
        asked_at = self._asked_at.get(line.id)
        if line.state is LineState.PREEMPTING:
            if asked_at is None:
                # Another process asked, or this one before it was started again.
                self._asked_at[line.id] = time.monotonic()
                self.engine.terminate(handle)
            elif time.monotonic() - asked_at > _GRACE_S:
                self.engine.kill(handle)
        elif line.state is LineState.PAUSED:
            self.engine.signal(handle, signal.SIGSTOP)
        elif line.state is LineState.RUNNING and found.steps < line.total_steps:
            newest = max(found.written_at, line.state_since)
            if now - newest > _STALL_S:
                attempt_files.write_reason(Path(attempt.folder), "stalled")
                self.engine.kill(handle)

    # ---- acting ----

    def start(self, line: Line, reason: str) -> None:
        """Start the next attempt of a queued line."""
        cpus = self._free_cpus(line.needs)
        try:
            attempts.start(self.store, self.engine, line, reason=reason, cpus=cpus, extra=[])
        except OSError as error:
            attempt = self.store.last_attempt(line.id)
            self.store.record("start failed", line=line.id, details={"error": str(error)})
            if attempt is not None and self.store.line(line.id).state is LineState.STARTING:
                self._give_up_late_start(self.store.line(line.id), attempt, inf)
            return
        self._cpus[line.id] = cpus
        self._last_start_s = time.monotonic()

    def pause(self, line: Line, reason: str, *, is_held: bool = False) -> None:
        """Stop all processes of a running line; its memory stays."""
        if handle := self.handle(line):
            self.store.move(line, LineState.PAUSED, reason, is_held=is_held)
            self.engine.signal(handle, signal.SIGSTOP)

    def resume(self, line: Line, reason: str) -> None:
        """Let a paused line go on."""
        if handle := self.handle(line):
            self.store.move(line, LineState.RUNNING, reason, is_held=False)
            self.engine.signal(handle, signal.SIGCONT)
            self._last_start_s = time.monotonic()

    def end(self, line: Line, reason: str, *, why: str) -> None:
        """Ask an active line to write a checkpoint and end.

        Args:
            line: the line.
            reason: sentence that explains it.
            why: `preempt`, `cancel` or `drain`, for the attempt's folder.
        """
        attempt = self.store.last_attempt(line.id)
        if attempt is None:
            return
        # The order matters: whoever finds the process ended finds the reason as well.
        attempt_files.write_reason(Path(attempt.folder), why)
        if line.state is not LineState.PREEMPTING:
            self.store.move(line, LineState.PREEMPTING, reason)
        if attempt.handle is not None:
            self._asked_at[line.id] = time.monotonic()
            self.engine.terminate(attempt.handle)

    def handle(self, line: Line) -> Handle | None:
        """Return the process of a line's newest attempt."""
        attempt = self.store.last_attempt(line.id)
        if attempt is None:
            return None
        return attempt.handle

    def _act(self, action: Action) -> None:
        line = self.store.line(action.line)
        # Every action carries its prediction, so that it can be compared with what was seen.
        self.store.record(
            action.verb.value,
            line=line.id,
            details={"reason": action.reason, "predicted_w": action.predicted_w},
        )
        acts: dict[Verb, Callable[[], None]] = {
            Verb.START: lambda: self.start(line, action.reason),
            Verb.PAUSE: lambda: self.pause(line, action.reason),
            Verb.RESUME: lambda: self.resume(line, action.reason),
            Verb.PREEMPT: lambda: self.end(line, action.reason, why="preempt"),
        }
        acts[action.verb]()

    def _free_cpus(self, needs: Needs) -> list[int]:
        """Return the CPUs that the fewest lines are bound to, as many as the line may use."""
        load = dict.fromkeys(usable_cpus(), 0)
        for taken in self._cpus.values():
            for cpu in taken:
                load[cpu] = load.get(cpu, 0) + 1
        number = max(1, round(needs.cores))
        if number >= len(load):
            return []
        return sorted(sorted(load, key=lambda cpu: (load[cpu], cpu))[:number])

    # ---- planning ----

    def _view(self, lines: Sequence[Line]) -> FloorView:
        """Return the floor as the scheduler sees it, with all times on the monotonic clock."""
        to_monotonic = time.monotonic() - time.time()
        return FloorView(
            lines=tuple(self._line_view(line, to_monotonic) for line in lines),
            capacity=self.engine.capacity(),
            power=tuple(self.power.samples),
            idle_w=self.power.now.idle_w,
            is_estimated=self.power.is_estimated,
            is_fresh=bool(self.power.samples),
            is_draining=self.is_draining,
            last_start_s=self._last_start_s,
        )

    def _line_view(self, line: Line, to_monotonic: float) -> LineView:
        point = OperatingPoint(
            power_w=self.power.prior_w(line.needs),
            tokens_per_s=line.tokens_per_s,
        )
        return LineView(
            id=line.id,
            state=line.state,
            since_s=line.state_since + to_monotonic,
            submitted_s=line.created_at + to_monotonic,
            needs=line.needs,
            point=point,
            priority=line.priority,
            flex=line.flex,
            owner=line.owner,
            not_before_s=line.not_before + to_monotonic,
            deadline_s=None if line.deadline is None else line.deadline + to_monotonic,
            is_held=line.is_held,
        )

    # ---- keeping ----

    def _keep_books(self) -> None:
        """Write down energy and waste of every line that has an account."""
        with self.store.transaction():
            self.store.put("books", self.power.books.to_plain())
            for number, account in self.power.books.lines.items():
                self.store.update(number, joules=account.joules, waste_j=account.waste_j)

    def _explain(self, waiting: dict[int, str]) -> None:
        """Write down why lines wait, where that has changed."""
        changed = {number: text for number, text in waiting.items() if self._waiting.get(number) != text}
        self._waiting = dict(waiting)
        with self.store.transaction():
            for number, text in changed.items():
                self.store.update(number, reason=text)

    def _sample(self, limit_w: float) -> None:
        now_s = time.monotonic()
        if now_s - self._sampled_s < _SAMPLE_S:
            return
        self._sampled_s = now_s
        lines = self.store.lines()
        running = [line for line in lines if line.state is LineState.RUNNING]
        last = self.power.books.last
        self.store.add_sample(
            Sample(
                at=time.time(),
                budget_w=_finite(limit_w),
                power_w=self.power.now.upper_w,
                joules=self.power.books.node_j,
                tokens=sum(line.tokens for line in lines),
                tokens_per_s=sum(line.tokens_per_s for line in running),
                cpu_s=last.cpu_s if last else 0.0,
                running=len(running),
            )
        )


def _finite(value: float) -> float | None:
    """Return a number that JSON and SQLite can hold; None for no limit."""
    if value == inf:
        return None
    return value


def describe(floor: Floor) -> dict[str, Any]:
    """Return what only the running process knows about the floor, for `status`."""
    power = floor.power.now
    return {
        "power_w": power.power_w,
        "power_upper_w": power.upper_w,
        "cores_busy": power.cores_busy,
        "tier": power.tier,
        "joules": floor.power.books.node_j,
        "unattributed_j": floor.power.books.rest_j,
        "budget": floor.budget().describe(time.time()),
        "at": time.time(),
        "is_draining": floor.is_draining,
        "explanation": list(floor.power.explanation),
    }
