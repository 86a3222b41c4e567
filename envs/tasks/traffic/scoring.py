"""Numbers that describe how cars drove, step by step and over an episode. S scenes of C cars."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.envs.tasks.traffic.map_table import MapTable
from factory.envs.tasks.traffic.perception import Cars

TALLIES = ("steps_braked", "steps_close", "arrivals", "deadlocks")
"""Numbers that add up over an episode: steps of hard braking, steps with a contact within 1.5 s ahead, cars
of the scene that arrived, and 1 once all of the scene have stood still for 5 s."""
EPISODE_METRICS = ("time_s", "delay_s", "speed", "hard_braking", "close", "throughput", "deadlock")
_HARD_BRAKING = 4.0
"""Deceleration that counts as hard braking [m/s^2]."""
_DEADLOCK_S = 5.0


def tallied(tally: dict[str, Tensor], cars: Cars, imminence: Tensor, is_goal: Tensor) -> dict[str, Tensor]:
    """Return `TALLIES` with a step added. Shapes: (S, C) each."""
    # An imminence of 0.5 is a contact in 1.5 s.
    is_close = imminence > 0.45
    arrivals = is_goal.sum(-1, keepdim=True).float()
    # All of the scene: one car that waits for others is no deadlock.
    stands = (cars.standing_s >= _DEADLOCK_S) | ~cars.is_driving
    is_stuck = stands.all(-1, keepdim=True) & cars.is_driving
    return {
        "steps_braked": tally["steps_braked"] + (cars.acceleration < -_HARD_BRAKING),
        "steps_close": tally["steps_close"] + is_close,
        "arrivals": tally["arrivals"] + arrivals,
        "deadlocks": torch.maximum(tally["deadlocks"], is_stuck.float()),
    }


def episode_metrics(
    table: MapTable, cars: Cars, tally: dict[str, Tensor], *, start_m: Tensor, time_s: Tensor, dt_s: float
) -> dict[str, Tensor]:
    """Return `EPISODE_METRICS` of episodes that end now. Shapes: (S, C) each.

    They are the time [s]; that beyond the time at the recommended speed, for cars that arrive [s]; mean speed
    along the route [m/s]; shares of hard braking and of steps with a contact within 1.5 s ahead at constant
    speeds; cars that arrive in the scene in a minute; and 1 if the scene was deadlocked.
    """
    driven_m = cars.along_m - start_m
    length_m = table.length_m[cars.route]
    # For the part of the route that the car drove: at the begin of a scene, cars start along their lanes.
    free_s = table.free_flow_s[cars.route] * driven_m / length_m
    arrives = cars.along_m >= length_m - 1.0
    time_s = time_s.clamp(min=dt_s)
    return {
        "time_s": time_s,
        "delay_s": torch.where(arrives, time_s - free_s, torch.nan),
        "speed": driven_m / time_s,
        "hard_braking": tally["steps_braked"] * dt_s / time_s,
        "close": tally["steps_close"] * dt_s / time_s,
        "throughput": tally["arrivals"] * 60.0 / time_s,
        "deadlock": tally["deadlocks"],
    }
