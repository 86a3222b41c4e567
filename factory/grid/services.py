"""Answers of WattTime and Electricity Maps, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.grid.signals import Kind, Point, closed
from factory.grid.times import moment, shown
from factory.runtime.plain_types import is_number
from factory.validation import require

G_PER_KWH_OF_LBS_PER_MWH = 0.45359237
"""Pounds a megawatt-hour in grams a kilowatt-hour."""
_FIVE_MINUTES_S = 300.0
_HOUR_S = 3600.0
_HIGHEST_G_PER_KWH = 1e5


def read_watttime(plain: Mapping[str, Any], *, now: float) -> tuple[Kind, list[Point], str]:
    """Return the marginal intensities of an answer of WattTime v3; those after its publication are forecasts.

    Raises:
        ValueError: It has another signal or unit, or an entry is wrong.
    """
    meta = plain.get("meta")
    require(isinstance(meta, dict), "meta", shown(meta), "must be an object")
    assert isinstance(meta, dict)
    signal = meta.get("signal_type", "co2_moer")
    require(signal == "co2_moer", "meta.signal_type", shown(signal), "must be co2_moer")
    units = meta.get("units", "lbs_co2_per_mwh")
    require(units == "lbs_co2_per_mwh", "meta.units", shown(units), "must be lbs_co2_per_mwh")
    # Values from before the publication are actual ones, later ones are forecasts.
    issued = now
    if meta.get("generated_at") is not None:
        issued = moment(meta["generated_at"], key="meta.generated_at")
    starts = _entries(plain.get("data"), "point_time", "value", scale=G_PER_KWH_OF_LBS_PER_MWH)
    points = [
        Point(start, end, value, issued, is_forecast=start >= issued)
        for start, end, value in closed(starts, last_s=_FIVE_MINUTES_S)
    ]
    return Kind.CARBON_MARGINAL, points, f"WattTime {shown(meta.get('region', ''))}, marginal"


def read_electricity_maps(plain: Mapping[str, Any], *, now: float) -> tuple[Kind, list[Point], str]:
    """Return the average intensities of an answer of Electricity Maps: one value, a history, or a forecast.

    Raises:
        ValueError: An entry is wrong.
    """
    is_forecast = "forecast" in plain
    entries: Any = plain.get("forecast") or plain.get("history") or plain.get("data") or [plain]
    issued = now
    if plain.get("updatedAt") is not None:
        issued = moment(plain["updatedAt"], key="updatedAt")
    starts = _entries(entries, "datetime", "carbonIntensity", scale=1.0)
    points = [
        Point(start, end, value, issued, is_forecast) for start, end, value in closed(starts, last_s=_HOUR_S)
    ]
    return Kind.CARBON_AVERAGE, points, f"Electricity Maps {shown(plain.get('zone', ''))}, average"


def _entries(entries: Any, time_key: str, value_key: str, *, scale: float) -> list[tuple[float, float]]:
    """Return start and value of each entry, by rising time."""
    is_list = isinstance(entries, Sequence) and not isinstance(entries, str) and len(entries) > 0
    require(is_list, "data", shown(entries), "must be a list of entries")
    found: dict[float, float] = {}
    for place, entry in enumerate(entries):
        require(isinstance(entry, dict), f"data[{place}]", shown(entry), "must be an object")
        value = entry.get(value_key)
        key = f"data[{place}].{value_key}"
        require(is_number(value), key, shown(value), "must be a number")
        is_intensity = 0.0 <= value <= _HIGHEST_G_PER_KWH
        require(is_intensity, key, shown(value), f"must be an intensity in [0, {_HIGHEST_G_PER_KWH:g}]")
        found[moment(entry.get(time_key), key=f"data[{place}].{time_key}")] = value * scale
    return sorted(found.items())
