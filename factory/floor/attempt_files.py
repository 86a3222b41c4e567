"""Files of an attempt's folder, through which floor, wrapper and engine speak to each other.

| file | written by | content |
|---|---|---|
| `spec.json` | floor, before the start | command, environment, folders |
| `started.json` | wrapper, first of all | its process; the file is created once, so an attempt starts once |
| `reason.json` | floor, before it ends the attempt | the purpose of the signal that follows |
| `lost.json` | floor, when it gave up an attempt | nothing; a wrapper that is alive after all ends at once |
| `exit.json` | wrapper, last of all | outcome |
| `stdout`, `stderr` | the training | its output |
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from factory.floor.lines import ExitClass, Handle
from factory.runtime import stored_files
from factory.runtime.atomic_write import write_durably

CUDA_DEVICES = "CUDA_VISIBLE_DEVICES"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Order to the wrapper."""

    line: int
    attempt: int
    argv: list[str]
    """Command of the training."""
    run_dir: str
    cwd: str
    cpus: list[int] = field(default_factory=list)
    """CPUs the processes are bound to; empty: all."""
    gpus: int = 0
    """GPUs that the attempt is given, by the floor or by the engine."""
    niceness: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    """Variables in addition to the wrapper's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """End of an attempt, as its wrapper saw it. Times are seconds since 1970, UTC."""

    exit_class: ExitClass
    status: int
    """Exit status; negative for the number of the signal that killed the training."""
    root_cause: str
    """Last line of the error output, or the name of the signal."""
    started_at: float
    ended_at: float
    cpu_s: float
    """CPU time of the training and of its children, as the kernel counted it [s]."""
    peak_memory_bytes: int


def write_spec(folder: Path, spec: Spec) -> None:
    """Write `spec.json` of a new attempt."""
    _write(folder / "spec.json", asdict(spec))


def read_spec(folder: Path) -> Spec:
    """Return the order of an attempt.

    Raises:
        ValueError: the file is missing or malformed.
    """
    return Spec(**_read(folder / "spec.json"))


def claim(folder: Path, *, devices: str = "") -> bool:
    """Write this process and its GPUs into `started.json`.

    Returns:
        False if the attempt was started or given up before.
    """
    return _claim(folder, asdict(replace(own_handle(engine=""), devices=devices)))


def give_up(folder: Path) -> bool:
    """Keep a wrapper that may still be on its way from starting; return False if it has started."""
    return _claim(folder, {})


def _claim(folder: Path, content: dict[str, Any]) -> bool:
    # The content is complete before the file has its name, and a link is made only once.
    unfinished = folder / f".started.{os.getpid()}"
    _write(unfinished, content)
    try:
        os.link(unfinished, folder / "started.json")
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def read_handle(folder: Path, *, engine: str) -> Handle | None:
    """Return the wrapper's process, None if it has not started, or never will."""
    try:
        found = _read(folder / "started.json")
    except ValueError:
        return None
    # An empty object is the mark of `give_up`.
    if not found:
        return None
    return Handle(**{**found, "engine": engine})


def write_reason(folder: Path, reason: str) -> None:
    """Write the reason for ending an attempt, before it is ended: `preempt`, `cancel` or `drain`."""
    _write(folder / "reason.json", {"reason": reason})


def read_reason(folder: Path) -> str:
    """Return the reason for which the floor ended the attempt; empty if it did not."""
    try:
        return str(_read(folder / "reason.json").get("reason", ""))
    except ValueError:
        return ""


def declare_lost(folder: Path) -> None:
    """Have the attempt end at once, without a checkpoint, should its host come back: another one follows."""
    _write(folder / "lost.json", {})


def is_lost(folder: Path) -> bool:
    """Return whether the floor gave up the attempt."""
    return (folder / "lost.json").exists()


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write `exit.json`."""
    _write(folder / "exit.json", asdict(outcome))


def read_outcome(folder: Path) -> Outcome | None:
    """Return the outcome of an attempt, None while there is none."""
    try:
        found = _read(folder / "exit.json")
        return Outcome(**{**found, "exit_class": ExitClass(found["exit_class"])})
    except (ValueError, KeyError, TypeError):
        return None


def own_handle(*, engine: str) -> Handle:
    """Return the handle of this process."""
    return Handle(
        engine=engine,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        boot_id=boot_id(),
    )


def boot_id() -> str:
    """Return the identifier of the running system's start; empty where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, content: dict[str, Any]) -> None:
    write_durably(path, json.dumps(content))


def _read(path: Path) -> dict[str, Any]:
    found = stored_files.read_json(path, limit=_MAX_BYTES)
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: no JSON object")
    return found
