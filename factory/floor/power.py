"""Power and energy of the floor's hosts, tick by tick: their meters, the books, and the recent samples."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, inf

from factory.energy.config import EnergyConfig
from factory.energy.types import Tier
from factory.floor.books import LineShare
from factory.floor.engines.base import Engine
from factory.floor.floor_books import FloorBooks, StoredBooks
from factory.floor.host_meter import HostMeter, HostReading, Running
from factory.floor.lines import Handle, Line, Needs
from factory.floor.node_meter import NodeReading
from factory.floor.plan import PowerSample

_HISTORY_S = 120.0
_COUNTED = frozenset({Tier.MEASURED, Tier.SAMPLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePower:
    """Power of one host, or of all, over the last tick."""

    power_w: float = 0.0
    """By the meter's own value."""
    gpu_w: float = 0.0
    """Part of `upper_w` that the GPUs draw."""
    upper_w: float = 0.0
    """By the upper bound, on which a budget is held."""
    idle_w: float = 0.0
    """Part of `upper_w` that stays without any line."""
    most_w: float = inf
    """Most that `upper_w` can be, however many lines run; infinite where that is unknown."""
    cores_busy: float = 0.0
    """CPU seconds a second, which are counted and not estimated."""
    tier: str = Tier.NONE.value


class PowerWatch:
    """Meters the hosts on which lines run, and charges their energy to the lines."""

    def __init__(
        self, stored: StoredBooks | None, engine: Engine, *, energy: EnergyConfig | None = None
    ) -> None:
        """Open the meter of this host and continue with earlier books.

        Args:
            stored: books of an earlier process; None or empty without one.
            engine: reaches the meters of other hosts.
            energy: settings of the meter of this host; the defaults if None.
        """
        self._engine = engine
        self.here = socket.gethostname()
        self.books = FloorBooks()
        if stored:
            self.books = FloorBooks.from_stored(stored, here=self.here)
        self._meter = HostMeter(self.books.last(self.here), energy=energy)
        self.explanation = self._meter.explanation
        self._coefficients = (energy or EnergyConfig()).estimate
        self._before: dict[str, HostReading] = {}
        """Last reading of each host by this process."""
        self._attempts: dict[int, int] = {}
        """Attempt of each line in the last tick."""
        self._by_host: dict[str, NodePower] = {}
        self.now = NodePower()
        self.charged_w: dict[int, float] = {}
        """Power of each line over the last tick, its share of the idle power included [W]."""
        self.line_w: dict[int, float] = {}
        """Power that each line added to its host's over the last tick, by the upper bound [W]."""
        self.samples: deque[PowerSample] = deque()

    @property
    def is_estimated(self) -> bool:
        """True unless counters measure the hosts."""
        return self.now.tier not in _COUNTED

    def tick(self, active: list[tuple[Line, Handle | None]], *, limit_w: float, tokens: float) -> None:
        """Read the meters, charge the lines, and keep a sample.

        A host that does not answer keeps its power until it does; the energy since then follows in one step.

        Args:
            active: lines whose attempts may have processes, with these.
            limit_w: budget in force [W].
            tokens: control tokens of all lines so far.
        """
        by_host: dict[str, dict[int, Line]] = {self.here: {}}
        running: dict[str, dict[int, Running]] = {self.here: {}}
        for host in self._before:
            # A host that ran a line stays on the books while this process lives.
            by_host.setdefault(host, {})
            running.setdefault(host, {})
        for line, handle in active:
            host = handle.host if handle is not None else self.here
            by_host.setdefault(host, {})[line.id] = line
            running.setdefault(host, {})[line.id] = Running(attempt=line.attempts, handle=handle)
        self.charged_w = {}
        self.line_w = {}
        for host, lines in by_host.items():
            found = self._read(host, running[host])
            if found is not None:
                self._settle(host, lines, found)
        self._attempts = {line.id: line.attempts for line, _ in active}
        if self._by_host:
            self.now = _sum(list(self._by_host.values()))
            now_s = time.monotonic()
            self.samples.append(PowerSample(now_s, self.now.upper_w, limit_w, tokens))
            while self.samples and self.samples[0].t_s < now_s - _HISTORY_S:
                self.samples.popleft()

    def prior_w(self, needs: Needs) -> float:
        """Return the power that a line of these needs is expected to add, by the upper bound [W]."""
        # Nothing is known of a GPU's load, so it counts with the limit of its board.
        return needs.cores * self._core_w() + needs.gpus * self._meter.most_gpu_w

    def close(self) -> None:
        """Close the meter."""
        self._meter.close()

    def _read(self, host: str, running: Mapping[int, Running]) -> HostReading | None:
        if host == self.here:
            return self._meter.read(running)
        return self._engine.read_meter(host, self.books.last(host), running)

    def _settle(self, host: str, lines: Mapping[int, Line], found: HostReading) -> None:
        """Charge the energy of a host since its last reading, and note the power of host and lines."""
        shares = {
            number: LineShare(
                cpu_s_total=found.cpu_s.get(number, 0.0),
                cores_allocated=line.needs.cores,
                gpu_share=found.gpu_share.get(number, 0.0),
                attempt=line.attempts,
            )
            for number, line in lines.items()
        }
        charged_j = {number: self._charged_j(number) for number in lines}
        before = self._before.get(host)
        if before is None and self.books.last(host) is not None:
            # Nobody watched while the floor was away.
            self.books = self.books.gap(host, found.node, shares)
        else:
            self.books = self.books.tick(host, found.node, shares)
        self._before[host] = found
        if before is None or found.node.t_mono <= before.node.t_mono:
            return
        elapsed_s = found.node.t_mono - before.node.t_mono
        for number, before_j in charged_j.items():
            self.charged_w[number] = (self._charged_j(number) - before_j) / elapsed_s
        power = self._power(before.node, found.node)
        self._by_host[host] = power
        used_s = {number: self._used_s(line, before, found) for number, line in lines.items()}
        # By share of CPU time. Lines and host are read one after the other, so the sum may be larger.
        host_s = max(found.node.cpu_s - before.node.cpu_s, fsum(used_s.values()), 1e-9)
        dynamic_w = power.upper_w - power.gpu_w - power.idle_w
        for number, cpu_s in used_s.items():
            gpu_share = found.gpu_share.get(number, 0.0)
            self.line_w[number] = dynamic_w * cpu_s / host_s + power.gpu_w * gpu_share

    def _charged_j(self, line: int) -> float:
        """Return the energy that a line was charged with so far [J]."""
        account = self.books.account(line)
        if account is None:
            return 0.0
        return account.joules

    def _used_s(self, line: Line, before: HostReading, now: HostReading) -> float:
        """Return the CPU time of a line since the last tick [s]; nothing in the first tick of an attempt."""
        if line.id not in before.cpu_s or self._attempts.get(line.id) != line.attempts:
            return 0.0
        return max(0.0, now.cpu_s.get(line.id, 0.0) - before.cpu_s[line.id])

    def _power(self, before: NodeReading, now: NodeReading) -> NodePower:
        elapsed_s = now.t_mono - before.t_mono
        power_w = (now.joules_total - before.joules_total) / elapsed_s
        gpu_w = (now.gpu_hi_j - before.gpu_hi_j) / elapsed_s
        idle_w = (now.idle_j - before.idle_j) / elapsed_s
        upper_w = (now.hi_j - before.hi_j) / elapsed_s
        most_w = inf
        if now.tier in (Tier.ESTIMATED, Tier.SHARED):
            # The bounds of an estimate do not depend on the load, but a budget can only be held on something
            # that does: so the estimate is scaled to meet its upper bound at full load.
            scale = self._coefficients.highest_w_per_core / self._coefficients.max_w_per_core
            cpu_w = power_w - (now.gpu_j - before.gpu_j) / elapsed_s
            upper_w = cpu_w * scale + gpu_w
            idle_w *= scale
            # An estimate ends where all cores are busy; that of a counter, or of GPUs, is unknown.
            if now.gpu_hi_j == 0.0:
                most_w = idle_w + now.num_cores * self._core_w()
        return NodePower(
            power_w=power_w,
            gpu_w=gpu_w,
            upper_w=upper_w,
            idle_w=idle_w,
            most_w=most_w,
            cores_busy=(now.cpu_s - before.cpu_s) / elapsed_s,
            tier=now.tier,
        )

    def _core_w(self) -> float:
        """Return the power of a busy core above an idle one, by the upper bound [W]."""
        coefficients = self._coefficients
        idle_share = coefficients.idle_w_per_core / coefficients.max_w_per_core
        return coefficients.highest_w_per_core * (1.0 - idle_share)


def _sum(hosts: list[NodePower]) -> NodePower:
    """Return the power of all hosts, with the worst tier of any."""
    return NodePower(
        power_w=fsum(host.power_w for host in hosts),
        gpu_w=fsum(host.gpu_w for host in hosts),
        upper_w=fsum(host.upper_w for host in hosts),
        idle_w=fsum(host.idle_w for host in hosts),
        most_w=fsum(host.most_w for host in hosts),
        cores_busy=fsum(host.cores_busy for host in hosts),
        tier=Tier.worst([Tier(host.tier) for host in hosts]).value,
    )
