"""The process of `floor run`: once a tick it observes the lines, meters the node, plans and acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol

from factory.floor import bars, scheduler
from factory.floor.budget import Budget
from factory.floor.budget_commands import budget_version, read_budget
from factory.floor.clock import MonotonicTimes
from factory.floor.curves import CURVES
from factory.floor.engines.base import Engine
from factory.floor.floor_books import BOOKS
from factory.floor.learning import CurveWatch
from factory.floor.lines import ACTIVE, Handle, Line, LineState, Needs
from factory.floor.orders import carry_out
from factory.floor.plan import Action, FloorView, LineView, PowerLimit, Verb
from factory.floor.power import PowerWatch
from factory.floor.records import RUNNING, Command, Sample
from factory.floor.rules import Rules
from factory.floor.store import Store
from factory.floor.supervisor import KEPT, Supervisor
from factory.floor.sweeps import driver, table
from factory.limits import stored_limit

NOT_FINAL = tuple(state for state in LineState if not state.is_final)
_SAMPLE_S = 1.0
_NODE_S = 2.0
"""Time after which a line that no node had room for is looked at again."""
_QUEUE_S = 5.0
"""Longest time between two looks at the queue; power is looked at in every tick."""
_MOST_ACTS = 20
"""Pauses or pre-emptions of a line that are remembered."""


class Watcher(Protocol):
    """Watches a floor and may act on it, in the floor's own process."""

    def tick(self) -> None:
        """Look at the floor after each of its ticks."""

    def order(self, command: Command) -> str:
        """Carry out an order that is for the watcher, and return a sentence about its outcome."""

    def close(self) -> None:
        """Release all resources."""


class NoWatcher:
    """Watches nothing."""

    def tick(self) -> None:
        """Do nothing."""

    def order(self, command: Command) -> str:
        """Return a sentence: no operator is running."""
        return "no operator watches this floor; start it with `run --operator suggest`"

    def close(self) -> None:
        """Do nothing."""


class Floor:
    """One floor while it runs."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        rules: Rules,
        *,
        watch: Callable[[Floor], Watcher] = lambda floor: NoWatcher(),
    ) -> None:
        """Take over the lines that are on the floor, running ones included.

        Args:
            store: the floor's store; its lock is held.
            engine: where attempts run.
            rules: settings.
            watch: makes the watcher of this floor.
        """
        self.store = store
        self.engine = engine
        self.rules = rules
        self.power = PowerWatch(store.get(BOOKS), engine, energy=rules.energy)
        self.is_draining = False
        self._budget: Budget | None = None
        self._budget_version = 0
        self._planned_s = -inf
        self._situation: Any = None
        """Lines and limit for which the last plan was made; None if it led to actions."""
        self.supervisor = Supervisor(store, engine, self.power, profile=rules.profile)
        self._core_w = self.power.prior_w(Needs(cores=1.0, memory_bytes=0))
        self.learning = CurveWatch(
            store.get(CURVES),
            prior_w_per_core=self._core_w,
            prior_w_per_gpu=self.power.prior_w(Needs(cores=0.0, memory_bytes=0, gpus=1)),
        )
        for line in store.lines():
            self.learning.see(line)
        self._times = MonotonicTimes()
        self._acted = _recent_acts(store, self._times)
        self._sampled_s = -inf
        self._waiting: dict[int, str] = {}
        self.store.record(
            "floor started", details={"engine": engine.name, "watts": stored_limit(rules.watts)}
        )
        self.watcher = watch(self)

    @property
    def is_done(self) -> bool:
        """True if no line is left that the floor could run."""
        if self.is_draining:
            return not self.store.lines(ACTIVE)
        return not self.store.lines(NOT_FINAL)

    def tick(self) -> None:
        """Observe, settle, meter, plan, act."""
        # Orders first, so that this tick already obeys them.
        for command in self.store.pending_commands():
            self.store.finish_command(command, carry_out(self, command))
        now = time.time()
        active: list[tuple[Line, Handle | None]] = []
        for line in self.store.lines(NOT_FINAL):
            if line.state is LineState.LOST:
                self.store.move(line, LineState.QUEUED, "resumes after its processes were lost")
            elif line.state.is_active:
                handle = self.supervisor.observe(line, now)
                active.append((self.store.line(line.id), handle))
        # After the lines were observed: a sweep goes on from the trials that have just ended.
        driver.advance(self.store, table.with_news(self.store))
        limit = self.budget().at(now)
        tokens = sum(line.tokens for line in self.store.lines())
        self.power.tick(active, limit_w=limit.limit_w, tokens=float(tokens))
        # Every transaction waits for the disk, so what may be lost together is written together.
        with self.store.transaction():
            self._keep_books(ended=[line.id for line, _ in active if line.state.is_final])
            self._learn([line for line, _ in active])
            self._sample(limit.limit_w, tokens)
        self._plan(limit)
        self.watcher.tick()

    def budget(self) -> Budget:
        """Return the budget as it is known now; a long schedule is read only when it has changed."""
        version = budget_version(self.store)
        if self._budget is None or version != self._budget_version:
            self._budget_version = version
            self._budget = read_budget(
                self.store, site_w=self.rules.watts, ramp_w_per_s=self.rules.scheduler.ramp_w_per_s
            )
        return self._budget

    def look_at_queue(self) -> None:
        """Let the next tick look at the queue, although no line has moved."""
        self._situation = None

    def _plan(self, limit: PowerLimit) -> None:
        """Decide about the lines and act; those in the queue are looked at when something has changed."""
        now_s = time.monotonic()
        lines = self.store.lines(ACTIVE)
        # A queue may be long, so it is looked at again only when something has changed, or after a while.
        situation = (limit, self.store.num_changes, [(line.id, line.state) for line in lines])
        is_due = situation != self._situation or now_s - self._planned_s >= _QUEUE_S
        if is_due:
            self._planned_s = now_s
            lines = self.store.lines(NOT_FINAL)
        plan = scheduler.plan(self._view(lines), limit, now_s, self.rules.scheduler)
        for action in plan.actions:
            self._act(action)
        if is_due:
            self._explain(plan.waiting)
        self._situation = situation
        # An action changes the situation in ways that its description may not show.
        if plan.actions:
            self._situation = None

    def _act(self, action: Action) -> None:
        line = self.store.line(action.line)
        if action.verb is Verb.START and not self._has_node(line):
            return
        # Every action carries its prediction, so that it can be compared with what was seen.
        self.store.record(
            action.verb.value,
            line=line.id,
            details={
                "reason": action.reason,
                "predicted_w": action.predicted_w,
                "predicted_sd_w": action.predicted_sd_w,
            },
        )
        acted = self._acted.setdefault((action.verb, line.id), [])
        self._acted[action.verb, line.id] = [*acted, time.monotonic()][-_MOST_ACTS:]
        acts: dict[Verb, Callable[[], None]] = {
            Verb.START: lambda: self.supervisor.start(line, action.reason),
            Verb.PAUSE: lambda: self.supervisor.pause(line, action.reason),
            Verb.RESUME: lambda: self.supervisor.resume(line, action.reason),
            Verb.PREEMPT: lambda: self.supervisor.end(line, action.reason, why="preempt"),
        }
        acts[action.verb]()

    def _has_node(self, line: Line) -> bool:
        """Return whether one node has room for a line; if not, others are served before it for a while."""
        taken = [other.needs for other in self.store.lines(ACTIVE)]
        if self.engine.fits(line.needs, taken):
            return True
        self.store.update(line.id, not_before=time.time() + _NODE_S, reason="no node has enough room for it")
        return False

    def _view(self, lines: Sequence[Line]) -> FloorView:
        """Return the floor as the scheduler sees it, with all times on the monotonic clock."""
        nodes = self.engine.nodes()
        # A node on which no line has run yet is not metered, so that all of them could draw more.
        most_w = inf
        if not nodes:
            most_w = self.power.now.most_w
        return FloorView(
            lines=tuple(self._line_view(line) for line in lines),
            capacity=self.engine.capacity(),
            nodes=nodes,
            power=tuple(self.power.samples),
            idle_w=self.power.now.idle_w,
            most_w=most_w,
            core_w=self._core_w,
            is_estimated=self.power.is_estimated,
            is_fresh=bool(self.power.samples),
            is_draining=self.is_draining,
            bar=bars.read(self.store, self._times),
            last_start_s=self.supervisor.last_start_s,
        )

    def _line_view(self, line: Line) -> LineView:
        deadline_s = None
        if line.deadline is not None:
            deadline_s = self._times.future(line.deadline)
        return LineView(
            id=line.id,
            state=line.state,
            since_s=self._times.past(line.state_since),
            submitted_s=self._times.past(line.created_at),
            needs=line.needs,
            point=self.learning.point(line),
            priority=line.priority,
            flex=line.flex,
            owner=line.owner,
            not_before_s=self._times.future(line.not_before),
            deadline_s=deadline_s,
            remaining_tokens=self.learning.remaining_tokens(line),
            restart_s=self.supervisor.restarts.cost_s(line.task),
            is_held=line.is_held,
            preempted_s=tuple(self._acted.get((Verb.PREEMPT, line.id), ())),
            shed_s=tuple(self._acted.get((Verb.PAUSE, line.id), ())),
            exit_class=line.exit_class,
        )

    def _learn(self, active: Sequence[Line]) -> None:
        """Let the power curves see the last tick, and keep them when they have learned."""
        now_s = time.monotonic()
        has_learned = False
        for line in active:
            has_learned |= self.learning.tick(line, now_s=now_s, power_w=self.power.line_w.get(line.id, 0.0))
        if has_learned:
            self.store.put(CURVES, self.learning.curves.to_plain())

    def _keep_books(self, *, ended: Sequence[int]) -> None:
        """Write down energy and waste of the lines that have processes, and close the accounts of others."""
        for number, account in self.power.books.lines.items():
            power_w = self.power.charged_w.get(number, 0.0)
            self.store.update(number, joules=account.joules, waste_j=account.waste_j, power_w=power_w)
        for number in ended:
            self.power.books = self.power.books.close(number)
            self.supervisor.kept.pop(number, None)
        self.store.put(BOOKS, self.power.books.to_plain())
        self.store.put(KEPT, self.supervisor.kept)

    def _explain(self, waiting: dict[int, str]) -> None:
        """Write down why lines wait, where that has changed."""
        changed = {number: text for number, text in waiting.items() if self._waiting.get(number) != text}
        self._waiting = dict(waiting)
        with self.store.transaction():
            for number, text in changed.items():
                self.store.update(number, reason=text)

    def _sample(self, limit_w: float, tokens: int) -> None:
        now_s = time.monotonic()
        # The first reading of a meter is only a beginning.
        if now_s - self._sampled_s < _SAMPLE_S or not self.power.samples:
            return
        self._sampled_s = now_s
        running = self.store.lines((LineState.RUNNING,))
        self.store.add_sample(
            Sample(
                at=time.time(),
                budget_w=stored_limit(limit_w),
                power_w=self.power.now.upper_w,
                joules=self.power.books.node_j,
                tokens=tokens,
                tokens_per_s=sum(line.tokens_per_s for line in running),
                cpu_s=self.power.books.cpu_s,
                running=len(running),
            )
        )
        self.store.put(RUNNING, describe(self) | {"budget_w": stored_limit(limit_w)})


def _recent_acts(store: Store, times: MonotonicTimes) -> dict[tuple[Verb, int], list[float]]:
    """Return the monotonic times of the newest pauses and pre-emptions, also of an earlier process."""
    acted: dict[tuple[Verb, int], list[float]] = {}
    for event in reversed(store.events()):
        if event.kind in (Verb.PAUSE, Verb.PREEMPT) and event.line is not None:
            acted.setdefault((Verb(event.kind), event.line), []).append(times.past(event.at))
    return acted


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
