"""Idle power of the machine before a run, which net energy leaves out."""

from __future__ import annotations

import time

from factory.energy.config import EnergyConfig
from factory.energy.meter import Meter
from factory.energy.types import Interval, Tier


def idle_power(cfg: EnergyConfig, device: str) -> Interval | None:
    """Sleep for `cfg.idle_s` and return the mean power meanwhile [W].

    Returns:
        The power with the bounds of the energy source; None if `cfg.idle_s` is 0 or nothing is metered here.

    Raises:
        ValueError: If `cfg.source` names a source that cannot be used here.
    """
    if cfg.idle_s == 0.0:
        return None
    # A meter of its own: idle energy must not enter the totals of the run.
    meter = Meter.from_config(cfg, device)
    meter.start()
    with meter.phase("idle"):
        time.sleep(cfg.idle_s)
    meter.close()
    reading = meter.read()
    # P = E / t; dividing by a positive time is monotone, so the bounds carry over.
    if reading.tier != Tier.NONE:
        return reading.energy.map(lambda joules: joules / reading.wall_s)
    return None
