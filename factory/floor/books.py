"""Attribution of the node's energy to lines: lines and the unattributed rest add up to the node.

The dynamic energy of a tick goes to the lines by their share of the node's CPU time, a GPU's energy by their
share of the GPU, and the idle energy by the cores that each line occupies. The rest is the energy of no line:
other processes, free cores, and the time when no floor was watching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import fsum
from typing import Any

from factory.floor.node_meter import NodeReading
from factory.runtime.decoding import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class LineShare:
    """Resources that a line has used and occupies, at the moment of a tick."""

    cpu_s_total: float
    """CPU time of the attempt's process tree since the attempt started [s]."""
    cores_allocated: float
    """CPUs that are reserved for the line; a paused line keeps them."""
    gpu_share: float = 0.0
    """Share of the node's GPUs since the last tick, from 0 to 1."""
    attempt: int = 0
    """Number of the attempt; another one starts from 0 s of CPU time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAccount:
    """Energy and CPU time that a line was charged with, over all its attempts."""

    joules: float = 0.0
    waste_j: float = 0.0
    """Part of `joules` that went into work that was lost."""
    cpu_s: float = 0.0
    """CPU time over all attempts [s], that of the ticks without a floor included."""
    attempt: Count = 0
    """Last attempt seen."""
    attempt_cpu_s: float = 0.0
    """CPU time of that attempt so far [s]."""

    @property
    def useful_j(self) -> float:
        """Return the energy in work that still counts [J]."""
        return self.joules - self.waste_j


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Totals of a node since its floor was founded; each tick returns new ones."""

    node_j: float = 0.0
    """Energy of the node [J]: the lines and the rest."""
    rest_j: float = 0.0
    """Energy that no line was charged with [J]."""
    lines: Mapping[int, LineAccount] = field(default_factory=dict)
    last: NodeReading | None = None
    """Reading of the last tick; None before the first."""

    def tick(self, reading: NodeReading, shares: Mapping[int, LineShare]) -> Books:
        """Charge the energy since the last tick to the lines, and return the new totals.

        Args:
            reading: Totals of the node's meter; the first one only sets the zero.
            shares: Each line that has processes, running or paused, or whose last attempt has just ended.
        """
        step = _Step.between(self.last, reading)
        used_s = {line: self._used_s(line, share) for line, share in shares.items()}
        charged_j = _charge(step, used_s, shares)
        return self._add(reading, step, shares, used_s, charged_j)

    def gap(self, reading: NodeReading, shares: Mapping[int, LineShare]) -> Books:
        """Charge the energy since the last tick to the rest: nobody watched who used it.

        Args:
            reading: As for `tick`; the first one of a floor that was started again.
            shares: As for `tick`; their CPU time counts, but costs the lines nothing.
        """
        step = _Step.between(self.last, reading)
        used_s = {line: self._used_s(line, share) for line, share in shares.items()}
        return self._add(reading, step, shares, used_s, dict.fromkeys(shares, 0.0))

    def roll_back(self, line: int, *, useful_j: float) -> Books:
        """Count all energy of a line as waste that went in after a state, and return the new totals.

        Call it when work was lost: with the `useful_j` that the line had when the checkpoint was written from
        which it goes on, or with 0 if it starts again or is given up.
        """
        account = self.lines.get(line, LineAccount())
        # What has become useful since that state is lost with it.
        lost_j = max(0.0, account.useful_j - max(0.0, useful_j))
        account = replace(account, waste_j=min(account.joules, account.waste_j + lost_j))
        return replace(self, lines={**self.lines, line: account})

    def close(self, line: int) -> Books:
        """Take the account of a line that has ended off the books; its energy stays in the total.

        Whoever calls this keeps the account: lines, closed ones included, and the rest add up to the node.
        """
        return replace(self, lines={number: kept for number, kept in self.lines.items() if number != line})

    def reopen(self, line: int, account: LineAccount) -> Books:
        """Take the account of a line that goes on, such as a promoted trial, back onto the books."""
        return replace(self, lines={**self.lines, line: account})

    def to_plain(self) -> dict[str, Any]:
        """Return values for JSON."""
        last = None
        if self.last is not None:
            last = asdict(self.last)
        lines = {str(line): asdict(account) for line, account in self.lines.items()}
        return {"node_j": self.node_j, "rest_j": self.rest_j, "lines": lines, "last": last}

    def _used_s(self, line: int, share: LineShare) -> float:
        """Return the CPU time of a line since the last tick [s]."""
        account = self.lines.get(line, LineAccount())
        before_s = 0.0
        if share.attempt == account.attempt:
            before_s = account.attempt_cpu_s
        # A count that falls is a process that was lost from sight; it costs nothing until it rises again.
        return max(0.0, share.cpu_s_total - before_s)

    def _add(
        self,
        reading: NodeReading,
        step: _Step,
        shares: Mapping[int, LineShare],
        used_s: Mapping[int, float],
        charged_j: Mapping[int, float],
    ) -> Books:
        """Return the totals with a tick's energy on them."""
        lines = dict(self.lines)
        for line, share in shares.items():
            account = lines.get(line, LineAccount())
            lines[line] = replace(
                account,
                joules=account.joules + charged_j[line],
                cpu_s=account.cpu_s + used_s[line],
                attempt=share.attempt,
                attempt_cpu_s=share.cpu_s_total,
            )
        # What is left over, so that lines + rest = node; rounding must not make it negative.
        rest_j = max(0.0, step.joules - fsum(charged_j.values()))
        return Books(node_j=self.node_j + step.joules, rest_j=self.rest_j + rest_j, lines=lines, last=reading)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """Energy and CPU time of the node between two readings."""

    dynamic_j: float = 0.0
    gpu_j: float = 0.0
    idle_j: float = 0.0
    cpu_s: float = 0.0
    num_cores: float = 1.0

    @property
    def joules(self) -> float:
        return self.dynamic_j + self.gpu_j + self.idle_j

    @classmethod
    def between(cls, before: NodeReading | None, now: NodeReading) -> _Step:
        """Return the step; nothing before the first reading, and nothing negative."""
        if before is None:
            return cls(num_cores=now.num_cores)
        return cls(
            dynamic_j=max(0.0, now.dynamic_j - before.dynamic_j),
            gpu_j=max(0.0, now.gpu_j - before.gpu_j),
            idle_j=max(0.0, now.idle_j - before.idle_j),
            cpu_s=max(0.0, now.cpu_s - before.cpu_s),
            num_cores=now.num_cores,
        )


def _charge(step: _Step, used_s: Mapping[int, float], shares: Mapping[int, LineShare]) -> dict[int, float]:
    """Return the energy of a step that each line is charged with [J]."""
    # The node's CPU time and the lines' are read one after the other, so the lines may show a little more
    # than the node; the same holds for shares of a GPU. The larger sum is the whole.
    whole_cpu_s = max(step.cpu_s, fsum(used_s.values()))
    whole_gpu = max(1.0, fsum(share.gpu_share for share in shares.values()))
    whole_cores = max(step.num_cores, fsum(share.cores_allocated for share in shares.values()))
    charged_j: dict[int, float] = {}
    for line, share in shares.items():
        by_cpu = 0.0
        if whole_cpu_s > 0.0:
            by_cpu = used_s[line] / whole_cpu_s
        by_gpu = share.gpu_share / whole_gpu
        by_cores = share.cores_allocated / whole_cores
        charged_j[line] = step.dynamic_j * by_cpu + step.gpu_j * by_gpu + step.idle_j * by_cores
    return charged_j
