"""The command `sweep`: check settings and ranges, put sweeps on the floor, show and cancel them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from factory import cli
from factory.floor import commands, floor_lock, submission
from factory.floor.lines import Line
from factory.floor.store import Store
from factory.floor.submission import Order
from factory.floor.sweeps import driver, methods, table, view
from factory.floor.sweeps.methods import SweepSettings
from factory.floor.sweeps.space import Choice, SearchSpace, parse
from factory.floor.sweeps.table import StoredSweep
from factory.runtime import strict_json

_QUIET = ("runtime.video_s=0", "runtime.register_model=false")
"""Arguments of trials unless they are given: at every rung a trial would make a video and a model."""
_MAX_CHECKED = 64
"""Configurations that are composed and checked before the first trial starts."""
_MOST_DIGITS = 18
"""Most digits of the number of a sweep; SQLite holds no more."""


def sweep(given: argparse.Namespace) -> int:
    """Put a sweep on the floor and print its id, show the sweeps that are there, or cancel one."""
    if given.what == "status":
        return _status(given)
    if given.what == "cancel":
        return _cancel(given)
    if not given.overrides:
        raise ValueError("sweep: give arguments of factory.train, one of them with several values")
    cli.check_writable(given.root, key="--root")
    order = commands.order_of(given)
    stored = submit(given.what, given.overrides, order, root=given.root, cwd=Path.cwd())
    print(stored.id)
    rungs = ", ".join(f"{steps:,}" for steps in stored.plan.rungs)
    print(f"compares trials by {', '.join(stored.plan.metric)} at {rungs} environment steps", file=sys.stderr)
    return 0


def _status(given: argparse.Namespace) -> int:
    with Store(given.root) as store:
        found = [table.sweep(store, _number(text)) for text in given.overrides] or table.sweeps(store)
        if given.json:
            print(strict_json.dumps([view.plain(store, stored) for stored in found]))
            return 0
        for stored in found:
            view.show(store, stored)
        if not found:
            print("no sweep on this floor")
    return 0


def _cancel(given: argparse.Namespace) -> int:
    if len(given.overrides) != 1:
        raise ValueError("sweep cancel: give the number of one sweep; `sweep status` lists them")
    with Store(given.root) as store:
        stored = table.sweep(store, _number(given.overrides[0]))
        lines = driver.cancel(store, stored)
        print(f"sweep {stored.id} is cancelled; {len(lines)} of its lines end with a checkpoint")
        if lines and not floor_lock.is_held(store.root):
            print("the next `floor run` ends them")
    return 0


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise ValueError(f"{text}: give the number of a sweep; `sweep status` lists them")
    return int(text)


def submit(method: str, arguments: Sequence[str], order: Order, *, root: Path, cwd: Path) -> StoredSweep:
    """Put a sweep on a floor; nothing is written before all is checked.

    Args:
        method: name of the method.
        arguments: settings of the sweep, and arguments of `factory.train`, some of them with ranges.
        order: priority and the like of its lines.
        root: folder of the floor.
        cwd: folder from which relative paths in the arguments count.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    own = {field.name for field in fields(SweepSettings)}
    mine = [argument for argument in arguments if argument.lstrip("-").partition("=")[0] in own]
    settings = cli.parse(SweepSettings, mine)
    overrides = cli.spelled([argument for argument in arguments if argument not in mine])
    for key in ("stop_at_steps", "start_from"):
        if any(override.startswith(f"{key}=") for override in overrides):
            raise ValueError(f"{key}: a sweep sets it for its trials; leave it out")
    space = parse(overrides)
    lines, total_steps = _checked(space, order, root=root, cwd=cwd)
    ranges = tuple(override for override in overrides if override not in space.fixed)
    plan = methods.plan(method, settings, ranges, total_steps=total_steps)
    varying = {dimension.key for dimension in space.dimensions}
    template = replace(
        lines[0],
        name=order.name or lines[0].task,
        overrides=tuple(text for text in lines[0].overrides if text.partition("=")[0] not in varying),
        # Enough for any trial, whichever comes first.
        needs=max((line.needs for line in lines), key=lambda needs: needs.memory_bytes),
    )
    with Store(root, create=True) as store, store.transaction():
        sweep = table.add_sweep(store, plan, template)
        driver.advance(store, [sweep])
    return sweep


def _checked(space: SearchSpace, order: Order, *, root: Path, cwd: Path) -> tuple[list[Line], int]:
    """Return lines of configurations in which every value, or bound, occurs, and their `total_steps`.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: training would refuse one of them.
    """
    columns: list[list[str]] = []
    for dimension in space.dimensions:
        if isinstance(dimension, Choice):
            values = list(dimension.values)
        else:
            values = [dimension.text(dimension.low), dimension.text(dimension.high)]
        columns.append([f"{dimension.key}={value}" for value in values])
    first = [column[0] for column in columns]
    # One configuration with the first values, and for every other value one that differs in it alone: each
    # value is checked once, and not every combination.
    configurations = [first]
    for index, column in enumerate(columns):
        configurations += [[*first[:index], value, *first[index + 1 :]] for value in column[1:]]
    given = {text.partition("=")[0] for text in (*space.fixed, *first)}
    quiet = [text for text in _QUIET if text.partition("=")[0] not in given]
    lines: list[Line] = []
    for configuration in configurations[:_MAX_CHECKED]:
        lines += submission.prepare([*space.fixed, *quiet, *configuration], order, root=root, cwd=cwd)
    steps = {line.total_steps for line in lines}
    if len(steps) > 1:
        raise ValueError(f"total_steps: a sweep needs the same for all trials, not {sorted(steps)}")
    return lines, steps.pop()
