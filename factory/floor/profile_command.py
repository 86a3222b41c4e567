"""Action of `floor profile`: list the power profiles, or calibrate them on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import inf

from factory import cli, options
from factory.cli.spelling import near_names
from factory.power import calibrate
from factory.power.calibrate import Sample
from factory.power.config import ProfileConfig
from factory.power.verification import UNTESTED, Verification, Verifications
from factory.runtime import strict_json
from factory.validation import require

_LEAST_ITERATIONS = 4
"""Two of them warm up, and a speed is the difference of two more."""
_MOST = 10_000
"""Most rounds, and most iterations of a training."""
_FIXED = ("profile", "total_steps", "resume", "start_from")
"""Keys that a calibration sets itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("overrides", nargs="*", metavar="key=value|PROFILE", help="of --calibrate")
    parser.add_argument("--calibrate", action="store_true", help="train with each profile and compare them")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="trainings of each (default 3)")
    parser.add_argument("--iterations", type=int, default=12, metavar="N", help="of a training (default 12)")
    parser.add_argument(
        "--watts", type=float, default=0.0, metavar="W", help="limit of the profile capped; else 75 %% of all"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def profile(given: argparse.Namespace) -> int:
    """List the profiles with what their calibrations found here; with `--calibrate`, find it out."""
    require(1 <= given.rounds <= _MOST, "--rounds", given.rounds, f"must be in [1, {_MOST}]")
    is_enough = _LEAST_ITERATIONS <= given.iterations <= _MOST
    remedy = f"must be in [{_LEAST_ITERATIONS}, {_MOST}]"
    require(is_enough, "--iterations", given.iterations, remedy)
    require(0.0 <= given.watts < inf, "--watts", given.watts, "must be 0 (automatic) or more")
    verifications = Verifications()
    # A file that cannot be read is reported before minutes of work.
    shown = verifications.read()
    if given.calibrate:
        shown = _calibrate(given, verifications)
    elif given.overrides:
        raise ValueError(f"{given.overrides[0]}: add --calibrate to measure profiles")
    if given.json:
        print(strict_json.dumps([asdict(entry) for entry in shown]))
    elif given.calibrate:
        for entry in shown:
            print(f"{entry.profile:<16} {entry.text()}")
    else:
        print(listing(shown))
    return 0


def _calibrate(given: argparse.Namespace, verifications: Verifications) -> list[Verification]:
    """Calibrate the profiles that the arguments name, or all, and keep the results."""
    overrides, profiles = _checked(given.overrides)
    try:
        # Hydra's errors are among those of the operating system.
        with cli.one_line_errors():
            found = calibrate.calibrate(
                overrides,
                profiles,
                rounds=given.rounds,
                iterations=given.iterations,
                cap_w=given.watts,
                on_sample=_report,
            )
    except RuntimeError as error:
        cli.fail(error, status=1)
    # Kept at once, since minutes of work are in them.
    verifications.add(found)
    return found


def _checked(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return overrides of the training and profiles to calibrate.

    Raises:
        ValueError: a profile is unknown, or an override is not allowed here.
    """
    overrides = [word for word in words if "=" in word]
    chosen = [word for word in words if "=" not in word]
    known = calibrate.names()
    for name in chosen:
        if name not in known:
            near = " or ".join(near_names(name, known)) or ", ".join(known)
            raise ValueError(f"{name}: no such profile; choose {near}")
    for override in overrides:
        key = override.partition("=")[0]
        if key.split(".")[0] in _FIXED:
            raise ValueError(f"{override}: a calibration sets {key} itself; leave it out")
        if override == "energy=null":
            raise ValueError("energy=null: a calibration needs a meter; leave it out")
    return overrides, chosen or known


def _report(index: int, name: str, sample: Sample) -> None:
    speed = f"{sample.tokens_per_s:.0f} tokens/s, {sample.watts:.3g} W ({sample.tier})"
    print(f"round {index}: {name}: {speed}; enforced: {sample.enforced}", file=sys.stderr, flush=True)


def listing(stored: Sequence[Verification]) -> str:
    """Return every profile with its intent, its promise, and what its calibrations found here."""
    # Imported here: describing the machine loads torch.
    from factory.runtime import hardware

    machine = hardware.name()
    lines: list[str] = []
    for name in options.choices("profile"):
        profile = calibrate.shipped(name)
        lines.append(f"{name:<16} {profile.intent}")
        if profile.promise:
            lines.append(f"{'':<16} promise: {profile.promise}")
        lines += [f"{'':<16} {text}" for text in _results(profile, stored, machine)]
    return "\n".join(lines)


def _results(profile: ProfileConfig, stored: Sequence[Verification], machine: str) -> list[str]:
    """Return a line for each calibration of a profile on this machine."""
    settings = _comparable(asdict(profile))
    found = [
        entry.text()
        for entry in stored
        if entry.machine == machine and _comparable(entry.settings) == settings
    ]
    if not found and profile.name != ProfileConfig.name:
        return [UNTESTED]
    return found


def _comparable(settings: dict[str, object]) -> dict[str, object]:
    """Return the settings without the limit, which is the user's."""
    return {key: value for key, value in settings.items() if key != "watts"}
