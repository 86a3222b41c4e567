"""Actions of `floor budget`; each takes the arguments and returns the exit status."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf, isfinite
from typing import Annotated, Any

from factory import cli
from factory.floor.budget import Budget, Target, power_text
from factory.floor.budget_input import make_target, read_schedule
from factory.floor.keys import Key
from factory.floor.store import Store
from factory.limits import limit_of
from factory.runtime.decoding import LARGEST_NUMBER, Count, Moment, Within

_SHOWN_ROWS = 10
_KEPT_TARGETS = 1000
_FORGOTTEN_S = 86400.0
_Power = Annotated[float, Within(0.0, LARGEST_NUMBER)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTarget(Target):
    """A target as JSON holds it, which knows no infinity."""

    watts: _Power | None  # type: ignore[assignment]


SCHEDULE = Key("schedule", list[tuple[Moment, _Power]], [])
TARGETS = Key("targets", list[StoredTarget], [])
BUDGET_VERSION = Key("budget_version", Count, 0)


def read_budget(store: Store, *, site_w: float = inf, ramp_w_per_s: float = inf) -> Budget:
    """Return the budget from schedule and targets in the store, and the limit of the site [W]."""
    return Budget(
        site_w=site_w,
        schedule=store.get(SCHEDULE),
        targets=targets(store),
        ramp_w_per_s=ramp_w_per_s,
    )


def budget_version(store: Store) -> int:
    """Return a number that grows with every change of schedule or targets."""
    return int(store.get(BUDGET_VERSION))


def _mark_changed(store: Store) -> None:
    store.put(BUDGET_VERSION, budget_version(store) + 1)


def set_target(given: argparse.Namespace) -> int:
    """Set a target; a floor that runs obeys it at its next tick."""
    target = make_target(given.watts, now=time.time(), duration=given.duration, at=given.at)
    # After the check of the target, so that a mistake creates no floor.
    cli.check_writable(given.root, key="--root")
    with Store(given.root, create=True) as store, store.transaction():
        add_targets(store, [target], now=time.time())
        print(read_budget(store).describe(max(time.time(), target.start)))
    return 0


def add_targets(store: Store, added: Sequence[Target], *, now: float) -> None:
    """Add targets to the budget, at the place in the order at which they were made.

    Call it inside a transaction. Targets that ended a day ago are forgotten.
    """
    known = [target for target in targets(store) if target.end is None or target.end > now - _FORGOTTEN_S]
    # Sorting is stable: of targets that were made at the same time, the one that came last counts.
    ordered = sorted((*known, *added), key=lambda target: target.issued)
    store.put(TARGETS, [_plain(target) for target in ordered[-_KEPT_TARGETS:]])
    _mark_changed(store)
    for target in added:
        store.record("budget set", details=_plain(target))


def import_schedule(given: argparse.Namespace) -> int:
    """Take a schedule from a file, in place of an earlier one."""
    rows = read_schedule(given.file)
    cli.check_writable(given.root, key="--root")
    with Store(given.root, create=True) as store, store.transaction():
        store.put(SCHEDULE, rows)
        _mark_changed(store)
        store.record("schedule imported", details={"file": str(given.file), "rows": len(rows)})
    print(f"{len(rows)} rows from {_moment(rows[0][0])} to {_moment(rows[-1][0])}")
    return 0


def show(given: argparse.Namespace) -> int:
    """Print the budget now and next, and its parts."""
    with Store(given.root) as store:
        now = time.time()
        print(read_budget(store).describe(now))
        for target in targets(store)[-_SHOWN_ROWS:]:
            end = ""
            if target.end is not None:
                end = f" until {_moment(target.end)}"
            print(f"target    {power_text(target.watts)} from {_moment(target.start)}{end}")
        rows = store.get(SCHEDULE)
        upcoming = [row for row in rows if row[0] >= now]
        for at, watts in upcoming[:_SHOWN_ROWS]:
            print(f"schedule  {watts:g} W from {_moment(at)}")
        if len(upcoming) > _SHOWN_ROWS:
            print(f"schedule  {len(upcoming) - _SHOWN_ROWS} more rows")
    return 0


def targets(store: Store) -> list[Target]:
    """Return the targets of a floor in the order in which they were made."""
    stored = store.get(TARGETS)
    return [Target(**asdict(target) | {"watts": limit_of(target.watts)}) for target in stored]


def _plain(target: Target) -> dict[str, Any]:
    """Return a target as JSON holds it, which knows no infinity."""
    plain = asdict(target)
    if not isfinite(target.watts):
        plain["watts"] = None
    return plain


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
