"""A detector: a pure function of the view, its entry in the table, and a short way to write evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from factory.operator.thresholds import Thresholds
from factory.operator.view import LineView, View
from factory.operator.words import Evidence, Fault, Finding, Severity

Detect = Callable[[View, Thresholds], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Entry in the table of detectors."""

    fault: Fault
    detect: Detect
    confirm_s: float = 0.0
    """Time for which it has to see the fault in every tick before there is a finding."""
    clear_s: float = 5.0
    """Time for which it has to see none before the finding is closed."""


def finding(
    fault: Fault, line: LineView | None, *evidence: Evidence, severity: Severity = Severity.WARNING
) -> Finding:
    """Return a finding about a line, or about the floor."""
    number = None
    if line is not None:
        number = line.id
    return Finding(fault=fault, line=number, severity=severity, evidence=evidence)


def number(name: str, value: float, unit: str, limit: float, age_s: float = 0.0) -> Evidence:
    """Return a number of evidence."""
    return Evidence(name=name, value=float(value), unit=unit, limit=float(limit), age_s=age_s)
