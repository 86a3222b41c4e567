"""What the project promises under a fault, each as a judgement on how a command ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workshop import Seen, Workshop


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A sentence, and the check of it."""

    words: str
    broken: Callable[[Seen], str]
    """Returns how it was broken; empty if it was kept."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong in a real run."""

    kind: str
    name: str
    promise: Promise
    inject: Callable[[Workshop, Path], Seen]
    """Runs the command in a folder of its own, with the fault."""


def judge(fault: Fault, seen: Seen) -> str:
    """Return how a promise was broken; empty if it was kept."""
    if seen.hung:
        return "hung"
    if "Traceback (most recent call last)" in seen.text:
        return "traceback"
    return seen.lost or fault.promise.broken(seen)


def _refused(seen: Seen) -> str:
    if seen.status != 2:
        return f"status {seen.status}, not 2"
    if len(seen.err.strip().splitlines()) != 1:
        return f"{len(seen.err.strip().splitlines())} lines on standard error, not one"
    if not seen.err.startswith("error: "):
        return "the line is no error line"
    return ""


def _stopped(seen: Seen) -> str:
    if seen.status != 1:
        return f"status {seen.status}, not 1"
    if len(seen.error_lines) != 1:
        return f"{len(seen.error_lines)} error lines, not one"
    return ""


def _finished(seen: Seen) -> str:
    return f"status {seen.status}, not 0: {seen.err.strip()[-200:]}" if seen.status else ""


def _interrupted(seen: Seen) -> str:
    return "" if seen.status in (130, 143, 129) else f"status {seen.status}, not that of an interrupt"


REFUSED = Promise(words="one line, status 2, nothing written", broken=_refused)
STOPPED = Promise(words="one line, status 1, the newest checkpoint whole", broken=_stopped)
FINISHED = Promise(words="the run finishes", broken=_finished)
INTERRUPTED = Promise(words="checkpoint, summary and report; status of an interrupt", broken=_interrupted)


def finished_with(*words: str) -> Promise:
    """Return the promise that a run finishes and a line has these words."""

    def broken(seen: Seen) -> str:
        missing = [word for word in words if word.lower() not in seen.text.lower()]
        return _finished(seen) or (f"not a word of {', '.join(missing)}" if missing else "")

    return Promise(words=f"the run finishes, and a line says so ({', '.join(words)})", broken=broken)


def refused_or_finished(seen: Seen) -> str:
    """Judge a command that may take a value or refuse it."""
    return _finished(seen) if seen.status == 0 else _refused(seen)


ACCEPTED_OR_REFUSED = Promise(words="taken, or one line and status 2", broken=refused_or_finished)
EQUAL = Promise(words="weights, tokens and rows equal to the undisturbed run's", broken=_finished)
