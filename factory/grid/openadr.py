"""Events of OpenADR 3.1: limits and levels become targets, prices and greenhouse gas become signals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from factory.grid.messages import MOST_TARGETS, LoadTarget
from factory.grid.signals import Kind, Point
from factory.grid.times import LATEST_S, duration_s, moment, shown
from factory.runtime.plain_types import is_number
from factory.validation import require

NOW = "0001-01-01"
"""Beginning of a start that means the present."""
LIMITS = ("IMPORT_CAPACITY_LIMIT", "DISPATCH_SETPOINT")
LEVELS = {0: inf, 1: 0.90, 2: 0.75, 3: 0.0}
"""Share of the baseline that each level of SIMPLE leaves; level 3 leaves what cannot be shed."""
_UNITS_W = {"W": 1.0, "KW": 1e3, "MW": 1e6}
_PER_KWH = {"KWH": 1.0, "MWH": 1e-3}
_GRAMS = {"G_PER_KWH": 1.0, "KG_PER_KWH": 1000.0}
_MOST_INTERVALS = 10_000
_MOST_REMARKS = 20
_HIGHEST = 1e12


@dataclass(kw_only=True)
class Contents:
    """Targets and signals of an event."""

    name: str
    issued: float
    targets: list[LoadTarget] = field(default_factory=list)
    points: dict[Kind, list[Point]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def is_event(plain: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object looks like an event of OpenADR."""
    return "intervals" in plain and ("programID" in plain or "eventName" in plain)


def read_event(plain: Mapping[str, Any], *, now: float, baseline_w: float | None) -> Contents:
    """Return the targets and signals of an event; one payload that is wrong makes the whole event wrong.

    Args:
        plain: the event.
        now: present time.
        baseline_w: power to which the levels of SIMPLE relate; None if it is not known.

    Raises:
        ValueError: The event is wrong; one line names key, value and remedy.
    """
    stamp = plain.get("modificationDateTime") or plain.get("createdDateTime")
    issued = now
    if stamp is not None:
        issued = moment(stamp, key="modificationDateTime")
    contents = Contents(name=shown(plain.get("eventName") or plain.get("id") or "event"), issued=issued)
    units = dict(_units(plain.get("payloadDescriptors")))
    for start, end, payloads, key in _intervals(plain, now):
        is_list = isinstance(payloads, list) and bool(payloads)
        require(is_list, f"{key}.payloads", shown(payloads), "must be a list")
        for payload in payloads:
            _add(contents, payload, start, end, units, baseline_w, key=f"{key}.payloads")
    num_targets = len(contents.targets)
    require(num_targets <= MOST_TARGETS, "intervals", num_targets, f"must set at most {MOST_TARGETS} targets")
    return contents


def _units(descriptors: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the type, unit and currency of each descriptor."""
    if descriptors is None:
        return
    require(isinstance(descriptors, list), "payloadDescriptors", shown(descriptors), "must be a list")
    for entry in descriptors:
        require(isinstance(entry, dict), "payloadDescriptors", shown(entry), "must hold objects")
        yield str(entry.get("payloadType")), (str(entry.get("units")), str(entry.get("currency")))


def _intervals(plain: Mapping[str, Any], now: float) -> Iterator[tuple[float, float | None, Any, str]]:
    """Yield start, end, payloads and key of each interval; one without a period follows the one before."""
    entries = plain.get("intervals")
    is_list = isinstance(entries, list) and 0 < len(entries) <= _MOST_INTERVALS
    require(is_list, "intervals", shown(entries), f"must be a list of 1 to {_MOST_INTERVALS}")
    assert isinstance(entries, list)
    common = plain.get("intervalPeriod")
    following: float | None = None
    for place, entry in enumerate(entries):
        key = f"intervals[{place}]"
        require(isinstance(entry, dict), key, shown(entry), "must be an object")
        period = entry.get("intervalPeriod") or common
        is_period = isinstance(period, dict)
        require(is_period, f"{key}.intervalPeriod", shown(period), "give one here or for the event")
        assert isinstance(period, dict)
        start = _start(period, key, now)
        if entry.get("intervalPeriod") is None and place > 0:
            require(following is not None, key, "", "the interval before it has no end")
            assert following is not None
            # Intervals without a period of their own follow one another.
            start = following
        end = None
        length = period.get("duration")
        if length is not None:
            seconds = duration_s(length, key=f"{key}.intervalPeriod.duration")
            if start + seconds < LATEST_S:
                end = start + seconds
        following = end
        yield start, end, entry.get("payloads"), key


def _start(period: Mapping[str, Any], key: str, now: float) -> float:
    start = period.get("start")
    if isinstance(start, str) and start.startswith(NOW):
        return now
    return moment(start, key=f"{key}.intervalPeriod.start")


def _add(
    contents: Contents,
    payload: Any,
    start: float,
    end: float | None,
    units: Mapping[str, tuple[str, str]],
    baseline_w: float | None,
    *,
    key: str,
) -> None:
    """Put one payload into the contents."""
    require(isinstance(payload, dict), key, shown(payload), "must hold objects")
    kind = str(payload.get("type"))
    unit, currency = units.get(kind, ("None", "None"))
    if kind in LIMITS:
        scale = _known(unit, _UNITS_W, default=1e3, key=f"{key}.{kind} units")
        watts = _value(payload, key, lowest=0.0) * scale
        contents.targets.append(LoadTarget(watts=watts, start=start, end=end, feeds=(), is_hard=False))
    elif kind == "SIMPLE":
        watts = _level_w(_value(payload, key, lowest=0.0), baseline_w, key)
        contents.targets.append(LoadTarget(watts=watts, start=start, end=end, feeds=(), is_hard=False))
    elif kind == "PRICE":
        # A conversion needs a rate and its day, which an event does not carry.
        is_usd = currency in ("None", "USD")
        require(is_usd, f"{key}.PRICE currency", currency, "must be USD; convert it first")
        scale = _known(unit, _PER_KWH, default=1.0, key=f"{key}.PRICE units")
        _add_point(contents, Kind.PRICE, _value(payload, key) * scale, start, end)
    elif kind == "GHG":
        scale = _known(unit, _GRAMS, default=1.0, key=f"{key}.GHG units")
        _add_point(contents, Kind.CARBON_AVERAGE, _value(payload, key, lowest=0.0) * scale, start, end)
    else:
        remark = f"{shown(kind)} changes nothing"
        if remark not in contents.remarks and len(contents.remarks) < _MOST_REMARKS:
            contents.remarks.append(remark)


def _add_point(contents: Contents, kind: Kind, value: float, start: float, end: float | None) -> None:
    if end is None:
        end = LATEST_S
    # A price for later is the price, not a guess of it.
    contents.points.setdefault(kind, []).append(Point(start, end, value, contents.issued))


def _level_w(level: float, baseline_w: float | None, key: str) -> float:
    require(level in LEVELS, f"{key}.SIMPLE", level, "must be 0, 1, 2 or 3")
    # Level 0 is normal operation: no limit at all.
    share = LEVELS[int(level)]
    if share == inf:
        return inf
    if baseline_w is None:
        raise ValueError(f"{key}.SIMPLE={level:g}: the floor has no power on record yet; let it run first")
    return share * baseline_w


def _known(unit: str, known: Mapping[str, float], *, default: float, key: str) -> float:
    if unit == "None":
        return default
    require(unit in known, key, shown(unit), f"choose from {', '.join(known)}")
    return known[unit]


def _value(payload: Mapping[str, Any], key: str, *, lowest: float = -_HIGHEST) -> float:
    values = payload.get("values")
    is_one = isinstance(values, list) and len(values) == 1
    require(is_one, f"{key}.values", shown(values), "must be a list of one number")
    assert isinstance(values, list)
    value = values[0]
    require(is_number(value), f"{key}.values", shown(value), "must be a number")
    remedy = f"must be in [{lowest:g}, {_HIGHEST:g}]"
    require(lowest <= value <= _HIGHEST, f"{key}.values", shown(value), remedy)
    return float(value)
