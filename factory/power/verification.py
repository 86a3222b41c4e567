"""Calibrations of profiles: measurements on this machine beside max_performance, kept for all later runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from factory.power.config import ProfileConfig
from factory.runtime import stored_files
from factory.runtime.atomic_write import atomic_write
from factory.runtime.plain_types import check_mapping
from factory.runtime.state_folder import state_folder

SCHEMA = "factory.profiles/1"
UNTESTED = "untested here"
_TOLERANCE = 0.02
"""Share by which a mean power may exceed its limit: a meter ticks, and a pause has slices."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """One profile on one machine and task, relative to max_performance in the same rounds."""

    profile: str
    settings: dict[str, Any]
    """Settings of the profile; the result of others is another one."""
    task: str
    machine: str
    device: str
    date: str
    """Day of the calibration, UTC."""
    commit: str
    rounds: int
    load: float
    """Processes that wanted to run, on average over a minute, at the end."""
    speed_ratio: float
    """Median ratio of tokens/s, pauses counted."""
    speed_lo: float
    speed_hi: float
    watts_ratio: float
    joules_ratio: float
    """Median ratio of joules per token."""
    tokens_per_s: float
    watts: float
    joules_per_token: float
    cpu_s_per_token: float
    tier: str
    has_equal_weights: bool

    @property
    def is_kept(self) -> bool:
        """True if the promise of the profile held."""
        limit_w = self.settings["watts"]
        is_fast = self.speed_ratio >= self.settings["min_speed"]
        return is_fast and (not limit_w or self.watts <= (1.0 + _TOLERANCE) * limit_w)

    def text(self) -> str:
        """Return the result on one line."""
        word = "verified"
        if not self.is_kept:
            word = "promise not kept"
        weights = "weights equal"
        if not self.has_equal_weights:
            weights = "weights differ"
        speed = f"{self.speed_ratio:.2f} x tokens/s ({self.speed_lo:.2f} to {self.speed_hi:.2f})"
        power = f"{self.watts_ratio:.2f} x W, {self.joules_ratio:.2f} x J/token ({self.tier})"
        return f"{word}: {speed}, {power}, {weights}; {self.task}, {self.machine}, {self.date}"


class Verifications:
    """The file of all calibrations."""

    def __init__(self, path: Path | None = None) -> None:
        """Name the file; the one of the user if None."""
        self.path = path or state_folder() / "profiles.json"

    def read(self) -> list[Verification]:
        """Return all calibrations; none if the file is missing.

        Raises:
            ValueError: it is no such file.
        """
        if not self.path.exists():
            return []
        content = stored_files.read_json(self.path)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"{self.path}: no calibrations of the layout {SCHEMA}; move it away")
        found: list[Verification] = []
        for values in content.get("verifications", []):
            check_mapping(values, Verification, name=self.path.name)
            check_mapping(values["settings"], ProfileConfig, name=self.path.name)
            known = {field.name for field in fields(Verification)}
            found.append(Verification(**{key: value for key, value in values.items() if key in known}))
        return found

    def add(self, new: Iterable[Verification]) -> None:
        """Keep new calibrations, in place of those of the same profile, task and machine."""
        # Later entries of a key replace earlier ones.
        found = {_key(entry): entry for entry in self.read()}
        found |= {_key(entry): entry for entry in new}
        content = {
            "schema": SCHEMA,
            "verifications": [asdict(entry) for entry in found.values()],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1, allow_nan=False))


def text(cfg: ProfileConfig, *, task: str, device: str) -> str:
    """Return what the last calibration of a profile found for a task on this machine."""
    # Imported here: describing the machine loads torch.
    from factory.runtime import hardware

    try:
        stored = Verifications().read()
    except ValueError as error:
        return str(error)
    wanted = (asdict(cfg), task, hardware.name(), device)
    for entry in stored:
        if (entry.settings, entry.task, entry.machine, entry.device) == wanted:
            return entry.text()
    return UNTESTED


def _key(entry: Verification) -> tuple[str, ...]:
    limit_w = str(entry.settings["watts"])
    return (entry.profile, entry.task, entry.machine, entry.device, limit_w)
