"""A model floor under an injected clock: it shows recorded ticks of real lines, and answers to actions."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from factory.floor.lines import LineState
from factory.operator.run_files import RowHistory
from factory.operator.scoring.cases import Case
from factory.operator.scoring.library import FloorTick, Library, LineTick
from factory.operator.view import LineView, MeterView, View
from factory.operator.words import Candidate, Decision, Verb

TARGET = 1
"""Line that a fault befalls, unless it befalls the floor."""
_BLOCK = 20
"""Healthy ticks that are shown in their own order before another recording is taken."""
_TAIL = 10
"""Last ticks of a fault that lasts, which are shown again and again."""
_MEMORY_S = 2.0
"""Time between two looks at the memory of a line."""


class ModelLine:
    """A line that shows recorded ticks."""

    def __init__(self, number: int, *, flex: int) -> None:
        """Begin with a first attempt that has made no iteration."""
        self.id = number
        self._flex = flex
        self._steps = 0
        self._attempts = 1
        self._seen_attempts: int | None = None
        self._forget(0.0)
        self._tick: LineTick | None = None
        self.tokens = 0.0
        self.joules = 0.0
        self.cpus: tuple[int, ...] = ()
        """CPUs to which the operator has bound it; empty: as recorded."""
        self.is_held = False
        self.is_gone = False
        self.starting_s = 0.0

    def _forget(self, now_s: float) -> None:
        """Begin an attempt."""
        self._history = RowHistory()
        self._memory: deque[tuple[float, float]] = deque(maxlen=120)
        self._outbox: deque[tuple[float, float]] = deque(maxlen=200)
        self._moved_s = now_s
        self._since_s = now_s
        self._state = LineState.STARTING

    def restart(self, now_s: float, *, start_s: float, keeps_work: bool) -> None:
        """End the attempt and start the next one from the last checkpoint."""
        if self._tick is not None and not keeps_work:
            # Without a checkpoint on the way out, what came after the last one is lost.
            self._steps -= self._tick.unsaved_steps
            self.tokens -= self._tick.unsaved_steps
        self._attempts += 1
        self.starting_s = start_s
        self._forget(now_s)

    def advance(self, tick: LineTick, *, now_s: float, elapsed_s: float) -> None:
        """Show the next tick."""
        if self.starting_s > 0.0:
            self.starting_s -= elapsed_s
            self.joules += tick.power_w * elapsed_s
            self._enter(LineState.STARTING, now_s)
            return
        if self.is_held:
            self._enter(LineState.PAUSED, now_s)
            self._moved_s = now_s
            return
        # A recorded restart, which the operator did not cause.
        if self._seen_attempts is not None and tick.attempts > self._seen_attempts:
            self._attempts += 1
            self._forget(now_s)
        self._seen_attempts = tick.attempts
        self._tick = tick
        self._enter(tick.state, now_s)
        self.tokens += tick.tokens
        self.joules += tick.power_w * elapsed_s
        is_due = tick.state in (LineState.RUNNING, LineState.STARTING)
        if tick.rows or not is_due:
            self._moved_s = now_s
        num_bad = 0.0
        if self._history.rows:
            num_bad = self._history.rows[-1].num_bad
        for row in tick.rows:
            self._steps += row.steps
            num_bad += row.num_bad
            self._history.add(replace(row, seen_s=now_s, steps=self._steps, num_bad=num_bad))
        is_new = not self._memory or now_s - self._memory[-1][0] >= _MEMORY_S
        if tick.memory is not None and is_new and self._history.rows:
            self._memory.append((now_s, tick.memory))
        # As in `RunFiles`: a shrinking outbox has been sent.
        if tick.outbox is None or (self._outbox and tick.outbox < self._outbox[-1][1]):
            self._outbox.clear()
        if tick.outbox is not None:
            self._outbox.append((now_s, tick.outbox))

    def _enter(self, state: LineState, now_s: float) -> None:
        if state is not self._state:
            self._since_s = now_s
        self._state = state

    def view(self, now_s: float) -> LineView | None:
        """Return the line as the operator sees it; None if it has ended."""
        tick = self._tick
        if self.is_gone or tick is None or self._state.is_final:
            return None
        # While the model floor itself starts or holds the line, the recording does not apply to it.
        is_recorded = self.starting_s <= 0.0 and not self.is_held
        if not is_recorded:
            tick = replace(
                tick, exit_class=None, failures=0, retry_in_s=0.0, cores_busy=None, is_stopped=False
            )
        checkpoint = replace(tick.checkpoint, steps=max(0, self._steps - tick.unsaved_steps))
        return LineView(
            id=self.id,
            group=str(self.id),
            state=self._state,
            state_age_s=now_s - self._since_s,
            is_held=self.is_held,
            total_steps=10**9,
            steps=self._steps,
            attempts=self._attempts,
            exit_class=tick.exit_class,
            failures=tick.failures,
            retry_in_s=tick.retry_in_s,
            flex=self._flex,
            cores=tick.cores,
            power_w=tick.predicted_w,
            tokens_per_s=tick.tokens_per_s,
            rows=tuple(self._history.rows),
            usual=tuple(self._history.usual),
            returns=tuple(self._history.returns.means),
            silence_s=now_s - self._moved_s,
            cores_busy=tick.cores_busy,
            is_stopped=tick.is_stopped,
            cpus=self.cpus or tick.cpus,
            memory=tuple(self._memory),
            checkpoint=checkpoint,
            outbox=tuple(self._outbox),
        )


class Plant:
    """A floor of model lines, as the operator's port."""

    def __init__(self, library: Library, case: Case, *, seed: int, num_lines: int) -> None:
        """Begin with lines that run undisturbed.

        Args:
            library: recordings.
            case: class of the fault that `inject` brings.
            seed: seed of the choice among recordings.
            num_lines: lines beside each other; the fault befalls the first.
        """
        self.now_s = 1000.0
        self._library = library
        self._case = case
        self._seed = seed
        self._stretches = library.stretches(case)
        self._num_lines = num_lines
        self.lines = {number: ModelLine(number, flex=case.flex) for number in range(1, num_lines + 1)}
        self._samples: deque[tuple[float, float, float]] = deque(maxlen=30)
        self._index = 0
        self._fault: list[FloorTick] = []
        self._ill: set[int] = set()
        """Lines that show the fault."""
        self._fault_index = 0
        self.undisturbed_tokens = 0.0
        """Control tokens that the lines would have made without any fault."""

    @property
    def is_ill(self) -> bool:
        """True while the fault is there."""
        return bool(self._fault)

    def inject(self) -> None:
        """Let the fault begin in the next tick."""
        recordings = self._library.faults[self._case.name]
        self._fault = random.Random(f"{self._seed}/fault").choice(recordings)
        self._fault_index = 0
        self._ill = set(self._fault[0].lines) | {TARGET}
        if self._case.starts_ill:
            self.lines[TARGET].restart(self.now_s, start_s=0.0, keeps_work=True)

    def observe(self) -> View:
        """Go on by one tick and return the floor."""
        floor = self._next_fault_tick() or self._healthy(1)
        self.now_s += floor.elapsed_s
        for number in floor.lines:
            # A line that somebody has started too many.
            if self._fault and number not in self.lines:
                self.lines[number] = ModelLine(number, flex=self._case.flex)
                self._ill.add(number)
        for number, line in self.lines.items():
            # Drawn even where it is not shown: it says what the line would have made.
            usual = self._healthy(number)
            usual_line = usual.lines[min(number, len(usual.lines))]
            if number <= self._num_lines:
                self.undisturbed_tokens += usual_line.tokens * floor.elapsed_s / usual.elapsed_s
            tick = usual_line
            if self._fault and number in self._ill:
                # What has ended for good is in the view no more.
                ended = replace(usual_line, state=LineState.FAILED, rows=(), tokens=0.0, power_w=0.0)
                tick = floor.lines.get(number, ended)
            line.advance(tick, now_s=self.now_s, elapsed_s=floor.elapsed_s)
        self._index += 1
        self._samples.append((self.now_s, floor.power_w, floor.limit_w))
        views = [line.view(self.now_s) for line in self.lines.values()]
        return View(
            now_s=self.now_s,
            lines=tuple(view for view in views if view is not None),
            host=floor.host,
            meter=MeterView(
                limit_w=floor.limit_w,
                samples=tuple(self._samples),
                tier_rank=floor.tier_rank,
                best_tier_rank=floor.best_tier_rank,
                sample_age_s=floor.sample_age_s,
            ),
            floor_gap_s=floor.floor_gap_s,
            floor_age_s=floor.floor_age_s,
            num_duplicate_targets=floor.num_duplicate_targets,
        )

    def _healthy(self, line: int) -> FloorTick:
        """Return what a line shows in this tick if nothing is wrong: blocks of recordings, drawn anew."""
        block, offset = divmod(self._index, _BLOCK)
        # By seed, line and block alone, so that all deciders meet the same undisturbed floor.
        draw = random.Random(f"{self._seed}/{line}/{block}")
        stretch = draw.choice(self._stretches)
        return stretch[(draw.randrange(len(stretch)) + offset) % len(stretch)]

    def _next_fault_tick(self) -> FloorTick | None:
        """Return the next tick of the fault; None if it is over."""
        if not self._fault:
            return None
        if self._fault_index >= len(self._fault):
            if not self._case.lasts:
                self._fault = []
                return None
            # A fault that lasts stays as it was at the end of its recording.
            self._fault_index = max(0, len(self._fault) - _TAIL)
        tick = self._fault[self._fault_index]
        self._fault_index += 1
        return tick

    def undo_state(self, candidate: Candidate) -> list[int]:
        """Return the CPUs that a move will overwrite."""
        line = self._view_of(candidate)
        if candidate.verb is Verb.REBIND and line is not None:
            return list(line.cpus)
        return []

    def act(self, decision: Decision) -> None:
        """Answer to an action: the fault ends if that cures it, and the action costs what it costs."""
        verb = decision.candidate.verb
        number = decision.candidate.line
        act = _ACTS.get(verb)
        if act is not None and number is not None:
            act(self, self.lines[number])
        if verb in self._case.cures and (number in self._ill or self._case.is_of_floor):
            self._cure(verb, number)

    def undo(self, decision: Decision) -> str:
        """Put back CPUs and pauses."""
        number = decision.candidate.line
        if number is None:
            return "nothing to put back"
        if decision.candidate.verb is Verb.REBIND:
            self.lines[number].cpus = tuple(decision.undo)
        if decision.candidate.verb is Verb.HOLD:
            self.lines[number].is_held = False
        return "put back"

    def _cure(self, verb: Verb, number: int | None) -> None:
        """End the fault."""
        if verb is Verb.RETRY_NOW:
            # Only the waiting is over.
            while self._fault_index < len(self._fault) and self._is_waiting(self._fault[self._fault_index]):
                self._fault_index += 1
            return
        self._fault = []

    @staticmethod
    def _is_waiting(tick: FloorTick) -> bool:
        return TARGET in tick.lines and tick.lines[TARGET].state is LineState.QUEUED

    def _restart(self, line: ModelLine) -> None:
        self._begin_again(line, keeps_work=False)

    def _checkpoint_restart(self, line: ModelLine) -> None:
        self._begin_again(line, keeps_work=True)

    def _begin_again(self, line: ModelLine, *, keeps_work: bool) -> None:
        line.restart(self.now_s, start_s=self._library.start_s, keeps_work=keeps_work)
        if line.id in self._ill and not self._case.is_of_floor:
            # What is wrong with the line begins anew with its next attempt.
            self._fault_index = 0

    def _rebind(self, line: ModelLine) -> None:
        view = line.view(self.now_s)
        if view is not None and self._fault:
            line.cpus = tuple(view.better_cpus(self._fault[self._fault_index - 1].host))

    def _hold(self, line: ModelLine) -> None:
        line.is_held = True

    def _release(self, line: ModelLine) -> None:
        line.is_held = False

    def _cancel(self, line: ModelLine) -> None:
        line.is_gone = True

    def _view_of(self, candidate: Candidate) -> LineView | None:
        if candidate.line is None:
            return None
        return self.lines[candidate.line].view(self.now_s)


_ACTS: dict[Verb, Callable[[Plant, ModelLine], None]] = {
    Verb.RESTART: Plant._restart,
    Verb.CHECKPOINT_RESTART: Plant._checkpoint_restart,
    Verb.REBIND: Plant._rebind,
    Verb.HOLD: Plant._hold,
    Verb.RELEASE: Plant._release,
    Verb.CANCEL: Plant._cancel,
}
