"""Load targets on their way into the budget of a floor: once, in the order in which they were made.

A target of the grid becomes a target of the budget (`factory.floor.budget`), where the latest wins. Messages
may come twice, late, or in any order: the time of the message decides, not that of its arrival.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from factory.floor.budget import Target
from factory.floor.budget_commands import add_targets
from factory.floor.keys import Key
from factory.floor.store import Store
from factory.floor.store_errors import StoreError
from factory.grid.messages import LARGEST_EVENT_BYTES, Event, LoadTarget, load_targets, parse_event
from factory.runtime import stored_files
from factory.runtime.decoding import Within
from factory.runtime.stored_files import visible

SOURCE = "grid"
"""First word of the source of a target that came from a grid."""
DEFAULT_FEED = "floor"
_SEEN = Key("grid_seen", list[str], [])


class Settings(TypedDict):
    """Settings of the grid, as they are stored."""

    feed: NotRequired[str]
    pue: NotRequired[Annotated[float, Within(1.0, 10.0)]]


SETTINGS = Key("grid", Settings, {})
_MOST_SEEN = 5000
_LATEST_AHEAD_S = 600.0
"""Time by which a sender's clock may be ahead; from the far future it would win for ever."""
_UNFINISHED_S = 2.0
"""Age below which an unreadable file is possibly still being written."""
_LONGEST_STEM = 60
_MOST_FILES = 100
"""Files of the inbox that are taken at once."""


def settings(store: Store) -> dict[str, Any]:
    """Return the settings of the grid: the name of this floor's feed."""
    return {"feed": DEFAULT_FEED, **store.get(SETTINGS)}


def take(store: Store, event: Event, *, now: float) -> str:
    """Make the targets of a message targets of the budget, and return a sentence about it.

    A message that was taken before changes nothing, and neither does one that is over or for another feed.

    Raises:
        ValueError: The message is wrong; nothing is changed.
    """
    targets = load_targets(event)
    check_issued(event.time, now=now)
    feed = settings(store)["feed"]
    # Without feeds, a target is for everybody.
    own = [target for target in targets if not target.feeds or feed in target.feeds]
    if not own:
        return f"not for the feed {feed}; nothing changed"
    return put_targets(
        store, own, key=event.key, issued=event.time, correlation=event.correlation_id, now=now
    )


def check_issued(issued: float, *, now: float) -> None:
    """Raise ValueError if a message claims to be from the future; it would win over all that follow."""
    if issued > now + _LATEST_AHEAD_S:
        raise ValueError(f"time: {issued - now:.0f} s ahead of this machine; set the clocks of both by NTP")


def put_targets(
    store: Store, targets: Sequence[LoadTarget], *, key: str, issued: float, correlation: str, now: float
) -> str:
    """Make targets of a message targets of the budget, and return a sentence about it.

    Args:
        store: the floor's store.
        targets: targets for this floor.
        key: identity of the message; it is taken once.
        issued: time at which the message was made.
        correlation: name under which the floor reports about the targets.
        now: present time.
    """
    with store.transaction():
        # In one transaction with the targets: a message is never half taken.
        if not remember(store, key):
            return "taken before; nothing changed"
        added = [
            Target(
                watts=target.watts,
                start=issued if target.start is None else target.start,
                end=target.end,
                source=f"{SOURCE} {correlation}",
                issued=issued,
                is_hard=target.is_hard,
            )
            for target in targets
            if target.end is None or target.end > now
        ]
        store.record("grid message", details={"key": key, "issued": issued, "targets": len(added)})
        if not added:
            return "already over; nothing changed"
        add_targets(store, added, now=now)
    return f"{len(added)} targets set"


def remember(store: Store, key: str) -> bool:
    """Note that a message was taken; return False if it was before."""
    seen = store.get(_SEEN)
    if key in seen:
        return False
    store.put(_SEEN, [*seen, key][-_MOST_SEEN:])
    return True


def take_bytes(store: Store, content: bytes, *, now: float) -> str:
    """Take a message as it came.

    Raises:
        ValueError: It is wrong; nothing is changed.
    """
    return take(store, parse_event(content), now=now)


def inbox(root: Path) -> Path:
    """Return the folder in which a floor looks for messages."""
    return root / "grid" / "inbox"


def take_inbox(store: Store, *, now: float) -> list[str]:
    """Take the messages in the inbox in the order of their names, and return a sentence for each.

    Files are moved to `grid/taken`, or to `grid/refused` with the reason beside them.

    Raises:
        OSError: A file could not be read or moved; the others were taken all the same.
    """
    said: list[str] = []
    trouble: OSError | None = None
    for path in _files(inbox(store.root)):
        try:
            said.append(f"{visible(path.name)}: {_take_file(store, path, now)}")
        except StoreError:
            raise
        except OSError as error:
            # A file that belongs to somebody else must not hold up those behind it.
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return said


def _files(folder: Path) -> list[Path]:
    """Return the first plain files; a link or a pipe in the inbox is nobody's message."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        found = [
            entry.path
            for entry in entries
            if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False)
        ]
    return [Path(path) for path in sorted(found)[:_MOST_FILES]]


def _take_file(store: Store, path: Path, now: float) -> str:
    try:
        # A link that takes the file's place now would have another file read and quoted.
        content, changed_at = stored_files.read_with_time(path, limit=LARGEST_EVENT_BYTES, follows_link=False)
    except ValueError as error:
        return _refuse(store, path, str(error))
    try:
        outcome = take_bytes(store, content, now=now)
    except ValueError as error:
        # A sender that writes in place is given time to finish; a date in the future is no reason to wait.
        if 0.0 <= time.time() - changed_at < _UNFINISHED_S:
            return "possibly still being written; it is read again later"
        return _refuse(store, path, str(error))
    _put_away(path, "taken")
    return outcome


def _refuse(store: Store, path: Path, reason: str) -> str:
    store.record("grid message refused", details={"file": path.name, "reason": reason})
    moved = _put_away(path, "refused")
    # A name may be as long as the file system allows already.
    moved.with_name(f"{path.stem[:_LONGEST_STEM]}.reason").write_text(f"{visible(reason)}\n")
    return f"refused: {visible(reason)}"


def _put_away(path: Path, name: str) -> Path:
    folder = path.parent.parent / name
    folder.mkdir(exist_ok=True)
    # Within one file system, so the file is never in two places or in none.
    return path.replace(folder / path.name)


def write_inbox(root: Path, plain: dict[str, Any], *, name: str) -> Path:
    """Leave a message in the inbox of a floor, whole or not at all."""
    folder = inbox(root)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.part"
    unfinished.write_text(json.dumps(plain))
    return unfinished.replace(folder / f"{name}.json")
