"""From single ticks of the detectors to findings that last: confirmed before they open and close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.operator.detectors import DETECTORS
from factory.operator.detectors.base import Detector
from factory.operator.thresholds import Thresholds
from factory.operator.view import View
from factory.operator.words import Finding


@dataclass(slots=True)
class _Trace:
    """A fault that was seen at least once."""

    finding: Finding
    first_s: float
    last_s: float
    is_open: bool = False


class Orientation:
    """Keeps the findings that are open."""

    def __init__(self, limits: Thresholds, detectors: Sequence[Detector] = DETECTORS) -> None:
        """Begin without findings."""
        self._limits = limits
        self._detectors = detectors
        self._traces: dict[str, _Trace] = {}

    @property
    def open(self) -> list[Finding]:
        """Return the open findings, the most urgent first, then the oldest."""
        found = [trace.finding for trace in self._traces.values() if trace.is_open]
        return sorted(found, key=lambda finding: (-finding.severity, finding.since_s, finding.id))

    def tick(self, view: View) -> tuple[list[Finding], list[Finding]]:
        """Run all detectors and return the findings that have opened, and those that have closed."""
        opened: list[Finding] = []
        closed: list[Finding] = []
        for detector in self._detectors:
            seen = {finding.id: finding for finding in detector.detect(view, self._limits)}
            new = [finding.id for finding in seen.values() if self._note(finding, detector, view.now_s)]
            opened += [self._traces[key].finding for key in new]
            closed += self._forget(detector, seen, view)
        return opened, closed

    def _note(self, finding: Finding, detector: Detector, now_s: float) -> bool:
        """Remember a fault that is seen now; return whether a finding opens by that."""
        trace = self._traces.get(finding.id)
        if trace is None:
            trace = _Trace(finding=finding, first_s=now_s, last_s=now_s)
            self._traces[finding.id] = trace
        # Evidence is that of this tick, its age that of the fault.
        trace.finding = replace(finding, since_s=trace.first_s)
        trace.last_s = now_s
        # Confirmed by time, not by a number of ticks: these may be long.
        if trace.is_open or now_s - trace.first_s < detector.confirm_s:
            return False
        trace.is_open = True
        return True

    def _forget(self, detector: Detector, seen: dict[str, Finding], view: View) -> list[Finding]:
        """Drop faults of a detector that are gone, and return the findings that close by that."""
        closed: list[Finding] = []
        for key, trace in list(self._traces.items()):
            if trace.finding.fault is not detector.fault or key in seen:
                continue
            # One tick without the fault ends what was never confirmed.
            if not trace.is_open:
                del self._traces[key]
            elif view.now_s - trace.last_s >= detector.clear_s:
                del self._traces[key]
                closed.append(trace.finding)
        return closed
