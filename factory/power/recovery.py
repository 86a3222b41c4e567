"""Settings that a killed process left changed: they are put back at the next start of any command."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from factory.energy.sources.nvml_devices import all_boards
from factory.power import registry
from factory.power.actuator import Refused
from factory.power.board import Board
from factory.power.journal import Entry, Journal, Page, boot_id
from factory.power.session import nvml_session


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A setting that was left changed."""

    is_back: bool
    text: str
    """Event, as a sentence for the user."""


def put_back_leftovers(journal: Journal | None = None, *, lib: Any = None) -> list[Leftover]:
    """Put back every setting whose process is gone, and return what happened to each.

    Args:
        journal: the journal; the user's own if None.
        lib: a module like `pynvml`; the installed one if None.
    """
    journal = journal or Journal()
    found: list[Leftover] = []
    for uuid in journal.uuids():
        try:
            with contextlib.closing(journal.claim(uuid)) as page:
                entry = page.read()
                if entry is not None:
                    found += _put_back(page, entry, lib)
        except (Refused, ValueError) as error:
            # A process that is alive puts its settings back itself.
            is_held = isinstance(error.__cause__, BlockingIOError)
            if not is_held:
                found.append(Leftover(is_back=False, text=str(error)))
    return found


def _put_back(page: Page, entry: Entry, lib: Any) -> list[Leftover]:
    """Put back one setting.

    Raises:
        Refused: it could not be put back; the entry stays.
        ValueError: the entry names no actuator.
    """
    # The driver has forgotten the change with the boot, so there is nothing to put back.
    if entry.boot_id != boot_id():
        _forget(page, entry, lib)
        return []
    if entry.actuator not in registry.BOARD:
        raise ValueError(f"{page.path}: no actuator {entry.actuator!r:.40}; remove the file")
    with nvml_session(lib) as library:
        handle = _handle(library, entry)
        if handle is None:
            raise Refused(f"{entry.actuator} of {entry.device_uuid} was left changed; the board is not here")
        actuator = registry.BOARD[entry.actuator](Board(library, handle, entry.device_uuid), page)
        outcome = actuator.put_back(entry)
    text = f"{entry.actuator} of {entry.device_uuid}, left changed by process {entry.pid}, {outcome}"
    return [Leftover(is_back=True, text=text)]


def _forget(page: Page, entry: Entry, lib: Any) -> None:
    """Remove an entry of an earlier boot, since the driver forgets its settings with every boot.

    Where machines share the folder, an entry may also be of another machine; its board is not here then.
    """
    with contextlib.suppress(Refused), nvml_session(lib) as library:
        if _handle(library, entry) is not None:
            page.remove()


def _handle(library: Any, entry: Entry) -> Any:
    """Return the handle of the board, None if it is not here."""
    boards = {gpu.uuid: gpu.handle for gpu in all_boards(library)}
    return boards.get(entry.device_uuid)
