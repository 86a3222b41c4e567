"""Supervision of attempts: start, pause, resume and end their processes, and observe their outcome."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import replace
from math import inf
from pathlib import Path

from factory.floor import attempt_files, attempts, progress
from factory.floor.books import LineAccount
from factory.floor.engines.base import Engine
from factory.floor.keys import Key
from factory.floor.lines import ACTIVE, Attempt, ExitClass, Handle, Line, LineState, Needs
from factory.floor.power import PowerWatch
from factory.floor.restarts import RESTARTS, RestartCosts
from factory.floor.store import Store
from factory.runtime.cpus import usable_cpus
from factory.runtime.decoding import Count

KEPT = Key("kept", dict[int, tuple[Count, float]], {})
"""`Supervisor.kept`, by line."""
_CLAIM_S = 30.0
"""Time for a wrapper to start; after that the attempt is given up."""
_GRACE_S = 120.0
"""Time for a line to write a checkpoint and end; after that it is killed."""
_STALL_S = 900.0
"""Time without a row of metrics, while training, after which a line has stalled."""


class Supervisor:
    """Starts, pauses, resumes and ends attempts, and settles those that ended."""

    def __init__(self, store: Store, engine: Engine, power: PowerWatch, *, profile: str = "") -> None:
        """Supervise the lines of a store.

        Args:
            store: the floor's store.
            engine: where attempts run.
            power: the books, for the energy of attempts.
            profile: power profile of lines that name none; empty for the default.
        """
        self.store = store
        self.engine = engine
        self.power = power
        self._profile = profile
        self.restarts = RestartCosts(store.get(RESTARTS))
        self.last_start_s = -inf
        """Monotonic time of the last start or resume."""
        self._cpus: dict[int, list[int]] = {}
        self._asked_at: dict[int, float] = {}
        """Monotonic time at which a line was asked to end."""
        self.kept: dict[int, tuple[int, float]] = store.get(KEPT)
        """Steps of the newest checkpoint of a line, and its useful energy at that time [J]."""

    def observe(self, line: Line, now: float) -> Handle | None:
        """Bring a line's state up to date with its processes and files; return its process."""
        attempt = self.store.present_attempt(line)
        folder = Path(attempt.folder)
        if attempt.handle is None:
            # The floor may have died between the start of the wrapper and its entry in the store.
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

    def in_transition(self) -> list[tuple[LineState, Attempt, Path]]:
        """Return state, attempt and run folder of lines that start or end."""
        found: list[tuple[LineState, Attempt, Path]] = []
        for line in self.store.lines((LineState.STARTING, LineState.PREEMPTING)):
            attempt = self.store.last_attempt(line.id)
            if attempt is not None:
                found.append((line.state, attempt, Path(line.run_dir)))
        return found

    def _give_up_late_start(self, line: Line, attempt: Attempt, now: float) -> None:
        """End an attempt whose wrapper never came, so that it can never come later."""
        if now - attempt.started_at < _CLAIM_S:
            return
        Path(attempt.folder).mkdir(parents=True, exist_ok=True)
        if attempt_files.give_up(Path(attempt.folder)):
            self._settle(line, attempt, None)

    def _settle(self, line: Line, attempt: Attempt, outcome: attempt_files.Outcome | None) -> None:
        """Move a line on whose attempt has ended, and put what was lost on the books."""
        account = self.power.books.account(line.id)
        # An account runs over all attempts of a line; earlier ones have had their part.
        before_j = sum(
            other.joules for other in self.store.attempts(line.id) if other.number < attempt.number
        )
        total_j = account.joules if account else 0.0
        moved = attempts.settle(self.store, line, attempt, outcome, joules=max(0.0, total_j - before_j))
        if account is not None:
            self._charge_waste(moved)
        self._cpus.pop(line.id, None)
        self._asked_at.pop(line.id, None)

    def _charge_waste(self, line: Line) -> None:
        """Count the energy as waste that went in after the state from which a line goes on."""
        # Both end with a checkpoint of all that was done.
        if line.state is LineState.FINISHED or line.exit_class is ExitClass.PREEMPTED:
            return
        if line.state.is_final:
            useful_j = 0.0
        else:
            _, useful_j = self.kept.get(line.id, (0, 0.0))
        self.power.books = self.power.books.roll_back(line.id, useful_j=useful_j)

    def _follow(self, line: Line, attempt: Attempt, handle: Handle, now: float) -> None:
        """Note the progress of a line that has processes; end it if it does not move."""
        found = progress.read(Path(line.run_dir))
        account = self.power.books.account(line.id)
        # A new checkpoint: what was spent until now can no longer be lost.
        if account and found.kept_steps != self.kept.get(line.id, (-1, 0.0))[0]:
            self.kept[line.id] = (found.kept_steps, account.useful_j)
        if (found.steps, found.tokens) != (line.steps, line.tokens):
            self.store.update(
                line.id,
                steps=max(found.steps, found.kept_steps),
                tokens=found.tokens,
                tokens_per_s=found.tokens_per_s,
            )
        if line.state is LineState.STARTING and found.written_at > attempt.started_at:
            self.store.move(line, LineState.RUNNING, "runs")
            if account is not None and account.attempt == attempt.number:
                self.restarts.note(line.task, account.attempt_cpu_s)
                self.store.put(RESTARTS, self.restarts.to_plain())
        asked_at = self._asked_at.get(line.id)
        if line.state is LineState.PREEMPTING:
            if asked_at is None:
                # Another process asked, or this one before it was started again.
                self._asked_at[line.id] = time.monotonic()
                self.engine.terminate(handle)
            elif time.monotonic() - asked_at > _GRACE_S:
                self.engine.kill(handle)
        # Again at every tick, for processes that the training has started since.
        elif line.state is LineState.PAUSED:
            self.engine.signal(handle, signal.SIGSTOP)
        elif line.state is LineState.RUNNING and found.steps < line.total_steps:
            # A resumed line gets the whole time again.
            newest = max(found.written_at, line.state_since)
            if now - newest > _STALL_S:
                attempt_files.write_reason(Path(attempt.folder), "stalled")
                self.engine.kill(handle)

    def start(self, line: Line, reason: str) -> None:
        """Start the next attempt of a queued line."""
        self._reopen_account(line)
        cpus: list[int] = []
        if self.engine.is_local:
            cpus = self._free_cpus(line.needs)
        try:
            attempts.start(
                self.store,
                self.engine,
                line,
                reason=reason,
                cpus=cpus,
                gpus=self._free_gpus(line.needs),
                profile=self._profile,
            )
        except OSError as error:
            attempt = self.store.last_attempt(line.id)
            self.store.record("start failed", line=line.id, details={"error": str(error)})
            if attempt is not None and self.store.line(line.id).state is LineState.STARTING:
                self._give_up_late_start(self.store.line(line.id), attempt, inf)
            return
        self._cpus[line.id] = cpus
        self.last_start_s = time.monotonic()

    def _reopen_account(self, line: Line) -> None:
        """Reopen the account of a line that had ended and was promoted since."""
        if not line.attempts or self.power.books.account(line.id) is not None:
            return
        cpu_s = sum(attempt.cpu_s for attempt in self.store.attempts(line.id))
        account = LineAccount(joules=line.joules, waste_j=line.waste_j, cpu_s=cpu_s)
        self.power.books = self.power.books.reopen(line.id, account, host=self.power.here)
        self.kept[line.id] = (line.steps, account.useful_j)

    def pause(self, line: Line, reason: str, *, is_held: bool = False) -> None:
        """Stop all processes of a running line; its memory stays."""
        if handle := self.handle(line):
            self.store.move(line, LineState.PAUSED, reason, is_held=is_held)
            self.engine.signal(handle, signal.SIGSTOP)

    def resume(self, line: Line, reason: str) -> None:
        """Resume a paused line."""
        if handle := self.handle(line):
            self.store.move(line, LineState.RUNNING, reason, is_held=False)
            self.engine.signal(handle, signal.SIGCONT)
            self.last_start_s = time.monotonic()

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

    def note_cpus(self, line: Line, cpus: list[int]) -> None:
        """Remember the CPUs that the processes of a line were bound to after its start."""
        self._cpus[line.id] = cpus

    def _free_gpus(self, needs: Needs) -> list[str]:
        """Return GPUs that no active line has, as many as the line needs."""
        taken: set[str] = set()
        for line in self.store.lines(ACTIVE):
            attempt = self.store.last_attempt(line.id)
            if attempt is not None and line.needs.gpus:
                # The order is on the disk before the process is, and outlives the floor. Without one, no
                # process ever came to be.
                with contextlib.suppress(ValueError):
                    order = attempt_files.read_spec(Path(attempt.folder))
                    taken.update(order.environment.get(attempt_files.CUDA_DEVICES, "").split(","))
        return [uuid for uuid in self.engine.gpus if uuid not in taken][: needs.gpus]

    def _free_cpus(self, needs: Needs) -> list[int]:
        """Return the CPUs that the fewest lines are bound to, as many as the line may use."""
        load = dict.fromkeys(usable_cpus(), 0)
        # Lines may share CPUs when the floor is full; then the least crowded ones come first.
        for taken in self._cpus.values():
            for cpu in taken:
                load[cpu] = load.get(cpu, 0) + 1
        number = max(1, round(needs.cores))
        if number >= len(load):
            return []
        return sorted(sorted(load, key=lambda cpu: (load[cpu], cpu))[:number])
