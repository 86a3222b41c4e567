"""Power and energy of the node, tick by tick: its meter, the books, and the recent samples."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.energy.process_tree import ProcessTable, ProcessTree
from factory.energy.sources.estimate import EstimateConfig
from factory.energy.types import Tier
from factory.floor.books import Books, LineAccount, LineShare
from factory.floor.lines import Handle, Line, Needs
from factory.floor.node_meter import NodeMeter, NodeReading
from factory.floor.plan import PowerSample

_HISTORY_S = 120.0
_COUNTED = frozenset({Tier.MEASURED, Tier.SAMPLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePower:
    """Power of the node over the last tick."""

    power_w: float = 0.0
    """By the meter's own value."""
    upper_w: float = 0.0
    """By the upper bound, on which a budget is held."""
    idle_w: float = 0.0
    """Part of `upper_w` that stays without any line."""
    cores_busy: float = 0.0
    """CPU seconds a second, which are counted and not estimated."""
    tier: str = Tier.NONE.value


class PowerWatch:
    """Meters the node and charges its energy to lines."""

    def __init__(self, plain: Mapping[str, Any] | None) -> None:
        """Open the meter of this host and go on with earlier books.

        Args:
            plain: books of an earlier process, as `Books.to_plain` gave them.
        """
        self.books = Books.from_plain(plain) if plain else Books()
        self._meter = NodeMeter.open(since=self.books.last)
        self._coefficients = EstimateConfig()
        self._table = ProcessTable()
        self._trees: dict[tuple[int, int], ProcessTree] = {}
        self._shares: dict[int, LineShare] = {}
        self._is_first = True
        self._before: NodeReading | None = None
        self.now = NodePower()
        self.charged_w: dict[int, float] = {}
        """Power of each line over the last tick, its share of the idle power included [W]."""
        self.line_w: dict[int, float] = {}
        """Power that each line added to the node's over the last tick, by the upper bound."""
        self.samples: deque[PowerSample] = deque()
        self.explanation = self._meter.explanation

    @property
    def is_estimated(self) -> bool:
        """True unless counters measure the node."""
        return self.now.tier not in _COUNTED

    def tick(self, active: list[tuple[Line, Handle | None]], *, limit_w: float, tokens: float) -> None:
        """Read the meter, charge the lines, and keep a sample.

        Args:
            active: lines whose attempts may have processes, with these.
            limit_w: budget in force [W].
            tokens: control tokens of all lines so far.
        """
        here = socket.gethostname()
        # The meter sees this host only.
        shares = {
            line.id: self._share(line, handle)
            for line, handle in active
            if handle is None or handle.host == here
        }
        used_s = {line: self._used_s(line, share) for line, share in shares.items()}
        self._shares = shares
        accounts = self.books.lines
        reading = self._meter.read()
        if self._is_first and self.books.last is not None:
            # Nobody watched while the floor was away.
            self.books = self.books.gap(reading, shares)
        else:
            self.books = self.books.tick(reading, shares)
        self.charged_w = self._charged_w(accounts, reading)
        self._is_first = False
        if self._before is not None and reading.t_mono > self._before.t_mono:
            self.now = self._power(self._before, reading)
            node_s = max(reading.cpu_s - self._before.cpu_s, sum(used_s.values()), 1e-9)
            dynamic_w = self.now.upper_w - self.now.idle_w
            self.line_w = {line: dynamic_w * cpu_s / node_s for line, cpu_s in used_s.items()}
            now_s = time.monotonic()
            self.samples.append(PowerSample(now_s, self.now.upper_w, limit_w, tokens))
            while self.samples and self.samples[0].t_s < now_s - _HISTORY_S:
                self.samples.popleft()
        self._before = reading

    def prior_w(self, needs: Needs) -> float:
        """Return the power that a line of these needs is expected to add, by the upper bound [W]."""
        coefficients = self._coefficients
        return needs.cores * (coefficients.highest_w_per_core - self._upper_idle_w_per_core())

    def close(self) -> None:
        """Let go of the counters."""
        self._meter.close()

    def _share(self, line: Line, handle: Handle | None) -> LineShare:
        cpu_s = self._cpu_s(line, handle)
        return LineShare(cpu_s_total=cpu_s, cores_allocated=line.needs.cores, attempt=line.attempts)

    def _charged_w(self, before: Mapping[int, LineAccount], reading: NodeReading) -> dict[int, float]:
        """Return the energy a second that each line was charged with since the last tick [W]."""
        if self._before is None or reading.t_mono <= self._before.t_mono:
            return {}
        elapsed_s = reading.t_mono - self._before.t_mono
        nothing = LineAccount()
        return {
            line: (account.joules - before.get(line, nothing).joules) / elapsed_s
            for line, account in self.books.lines.items()
        }

    def _used_s(self, line: int, share: LineShare) -> float:
        """Return the CPU time of a line since the last tick [s]; nothing in the first tick of an attempt."""
        before = self._shares.get(line)
        if before is None or before.attempt != share.attempt:
            return 0.0
        return max(0.0, share.cpu_s_total - before.cpu_s_total)

    def _cpu_s(self, line: Line, handle: Handle | None) -> float:
        """Return the CPU time of the newest attempt [s]."""
        key = (line.id, line.attempts)
        if key not in self._trees and handle is not None:
            # Trees of earlier attempts are of no more use.
            self._trees = {other: tree for other, tree in self._trees.items() if other[0] != line.id}
            try:
                self._trees[key] = ProcessTree(handle.pid, table=self._table)
            except ProcessLookupError:
                return 0.0
        tree = self._trees.get(key)
        if tree is None:
            return 0.0
        return tree.cpu_s()

    def _power(self, before: NodeReading, now: NodeReading) -> NodePower:
        elapsed_s = now.t_mono - before.t_mono
        power_w = (now.joules_total - before.joules_total) / elapsed_s
        idle_w = (now.idle_j - before.idle_j) / elapsed_s
        upper_w = (now.hi_j - before.hi_j) / elapsed_s
        if now.tier in (Tier.ESTIMATED, Tier.SHARED):
            # The bounds of an estimate do not depend on the load, but a budget can only be held on something
            # that does: so the estimate is scaled to meet its upper bound at full load.
            scale = self._coefficients.highest_w_per_core / self._coefficients.max_w_per_core
            upper_w = power_w * scale
            idle_w *= scale
        return NodePower(
            power_w=power_w,
            upper_w=upper_w,
            idle_w=idle_w,
            cores_busy=(now.cpu_s - before.cpu_s) / elapsed_s,
            tier=now.tier,
        )

    def _upper_idle_w_per_core(self) -> float:
        coefficients = self._coefficients
        return coefficients.idle_w_per_core * coefficients.highest_w_per_core / coefficients.max_w_per_core
