"""List the power profiles, and calibrate them on this machine.

usage: python -m factory.floor profile [--json]
       python -m factory.floor profile --calibrate task=... [key=value ...] [PROFILE ...]
                                       [--rounds N] [--iterations N] [--watts W] [--json]

Without --calibrate, every profile is listed with its intent and with what its last calibration found here.
With it, each profile (or those named) trains in interleaved rounds beside max_performance; the results are
kept for later runs. The keys are those of factory.train.

  --rounds N      trainings of each profile (default 3)
  --iterations N  iterations of a training (default 12)
  --watts W       limit of the profile `capped` (default: 75 % of what max_performance draws)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from omegaconf import OmegaConf

from factory import cli, options
from factory.cli.spelling import near_names
from factory.power import calibrate
from factory.power.calibrate import Sample
from factory.power.config import ProfileConfig
from factory.power.verification import UNTESTED, Verification, Verifications
from factory.validation import require

_LEAST_ITERATIONS = 4
"""Two of them warm up, and a speed is the difference of two more."""


def main(arguments: Sequence[str], *, verifications: Verifications | None = None) -> None:
    """List or calibrate the profiles, as the command line says.

    Args:
        arguments: everything after `profile`.
        verifications: file of the calibrations; the user's own if None.
    """
    if {"--help", "-h"} & set(arguments):
        print(__doc__)
        return
    with cli.one_line_errors():
        args = _parse(arguments)
        verifications = verifications or Verifications()
        # A file that cannot be read is reported before minutes of work.
        verifications.read()
        found = None
        if args.calibrate:
            overrides, profiles = _checked(args)
    if args.calibrate:
        try:
            found = calibrate.calibrate(
                overrides,
                profiles,
                rounds=args.rounds,
                iterations=args.iterations,
                cap_w=args.watts,
                on_sample=_report,
            )
            verifications.add(found)
        except (OSError, RuntimeError) as error:
            cli.fail(error, status=1)
    if args.json:
        print(json.dumps([dataclasses.asdict(entry) for entry in found or verifications.read()], indent=1))
    elif found:
        for entry in found:
            print(f"{entry.profile:<16} {entry.text()}")
    else:
        print(listing(verifications))


def listing(verifications: Verifications) -> str:
    """Return every profile with its intent, its promise, and what its calibrations found here."""
    # Imported here: describing the machine loads torch.
    from factory.runtime import hardware

    machine = hardware.name()
    stored = verifications.read()
    lines: list[str] = []
    for name in options.choices("profile"):
        profile = shipped(name)
        lines.append(f"{name:<16} {profile.intent}")
        if profile.promise:
            lines.append(f"{'':<16} promise: {profile.promise}")
        lines += [f"{'':<16} {text}" for text in _results(profile, stored, machine)]
    return "\n".join(lines)


def shipped(name: str) -> ProfileConfig:
    """Return a profile as its file has it; `capped` without a limit, which its user has to give."""
    path = options.CONF_DIR / "profile" / f"{name}.yaml"
    template = OmegaConf.structured(ProfileConfig)
    profile = OmegaConf.merge(template, OmegaConf.load(path))
    return profile  # type: ignore[return-value]


def _results(profile: ProfileConfig, stored: Sequence[Verification], machine: str) -> list[str]:
    """Return a line for each calibration of a profile on this machine."""
    settings = _comparable(OmegaConf.to_container(profile))  # type: ignore[arg-type]
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


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--watts", type=float, default=0.0)
    parser.add_argument("words", nargs="*")
    parser.error = _refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(arguments)
    require(args.rounds >= 1, "--rounds", args.rounds, "must be at least 1")
    enough = args.iterations >= _LEAST_ITERATIONS
    require(enough, "--iterations", args.iterations, f"must be at least {_LEAST_ITERATIONS}")
    require(args.watts >= 0.0, "--watts", args.watts, "must be 0 (automatic) or more")
    if args.words and not args.calibrate:
        raise ValueError(f"{args.words[0]}: add --calibrate to measure profiles; --help says how")
    return args


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message}; --help lists the flags")


def _checked(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return overrides of the training and profiles to calibrate.

    Raises:
        ValueError: a profile is unknown, or an override chooses one.
    """
    overrides = [word for word in args.words if "=" in word]
    chosen = [word for word in args.words if "=" not in word]
    known = calibrate.names()
    for name in chosen:
        if name not in known:
            near = " or ".join(near_names(name, known)) or ", ".join(known)
            raise ValueError(f"{name}: no such profile; choose {near}")
    for override in overrides:
        key = override.partition("=")[0]
        if key.split(".")[0] in ("profile", "total_steps", "resume", "start_from"):
            raise ValueError(f"{override}: a calibration sets {key} itself; leave it out")
    if "energy=null" in overrides:
        raise ValueError("energy=null: a calibration needs a meter; leave it out")
    cli.single_job(overrides)
    return overrides, chosen or known


def _report(index: int, name: str, sample: Sample) -> None:
    speed = f"{sample.tokens_per_s:.0f} tokens/s, {sample.watts:.3g} W ({sample.tier})"
    print(f"round {index}: {name}: {speed}; enforced: {sample.enforced}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
