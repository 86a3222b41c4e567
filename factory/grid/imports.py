"""Files with signals and events, by their content: into the signals and the budget of a floor."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.floor.store import Store
from factory.grid import intake, openadr, services, signals, tables
from factory.grid.signals import Kind, Point
from factory.runtime import stored_files
from factory.runtime.stored_files import parse_json

LARGEST_FILE_BYTES = 16 << 20
_BASELINE_S = 60.0


def import_file(store: Store, path: Path, *, now: float, is_forecast: bool) -> str:
    """Take a file of a known kind, and return a sentence about it; a second time it changes nothing.

    Args:
        store: the floor's store.
        path: the file.
        now: present time.
        is_forecast: True if the values of a table are forecasts.

    Raises:
        ValueError: The file is of no known kind or wrong; nothing is changed.
    """
    content, changed_at = stored_files.read_with_time(path, limit=LARGEST_FILE_BYTES)
    # By content and not by name: exports of services have all sorts of names.
    if content.lstrip()[:1] in (b"{", b"["):
        return _import_json(store, path, content, now)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 (byte {error.start}); save it as CSV in UTF-8") from None
    # A table has no date of its own: that of the file says which of two is newer.
    kind, points, remark = tables.read_table(
        text, name=str(path), issued=min(changed_at, now), is_forecast=is_forecast
    )
    return _join(store, kind, points, remark, now=now)


def _import_json(store: Store, path: Path, content: bytes, now: float) -> str:
    plain: Any = parse_json(content, name=str(path))
    if not isinstance(plain, dict):
        raise ValueError(f"{path}: a list; give one event or one answer of a service")
    if "specversion" in plain:
        return intake.take_bytes(store, content, now=now)
    if openadr.is_event(plain):
        return _import_openadr(store, plain, content, now)
    if "meta" in plain and "data" in plain:
        return _join(store, *services.read_watttime(plain, now=now), now=now)
    if "carbonIntensity" in plain or "zone" in plain:
        return _join(store, *services.read_electricity_maps(plain, now=now), now=now)
    raise ValueError(
        f"{path}: no known kind; give a message of DSX Flex, an event of OpenADR 3.1, or an answer of"
        " WattTime or Electricity Maps"
    )


def _join(store: Store, kind: Kind, points: list[Point], remark: str, *, now: float) -> str:
    intake.check_issued(max(point.issued for point in points), now=now)
    num_new = signals.join(store, kind, points)
    return f"{remark}: {num_new} of {len(points)} values of {kind} are new"


def _import_openadr(store: Store, plain: dict[str, Any], content: bytes, now: float) -> str:
    """Take an event; it has no key of its own, so its content is the key."""
    contents = openadr.read_event(plain, now=now, baseline_w=baseline_w(store, now))
    key = f"openadr {hashlib.sha256(content).hexdigest()}"
    intake.check_issued(contents.issued, now=now)
    said: list[str] = []
    with store.transaction():
        # A start that means the present would be another one when the event comes again.
        if contents.points and not intake.remember(store, f"{key} signals"):
            return "taken before; nothing changed"
        if contents.targets:
            outcome = intake.put_targets(
                store,
                contents.targets,
                key=key,
                issued=contents.issued,
                correlation=contents.name,
                now=now,
            )
            said.append(outcome)
        said += [
            _join(store, kind, points, contents.name, now=now) for kind, points in contents.points.items()
        ]
    return "; ".join([*said, *contents.remarks])


def baseline_w(store: Store, now: float) -> float | None:
    """Return the mean power of the last minute by the bound of the budget [W]; None without samples."""
    samples = store.samples(since=now - _BASELINE_S)
    if not samples:
        return None
    return fmean(sample.power_w for sample in samples)


def import_now(store: Store, path: Path, *, is_forecast: bool) -> str:
    """Take a file at the present time."""
    return import_file(store, path, now=time.time(), is_forecast=is_forecast)
