"""Score baselines and trained policies of the drone tasks; write drones.json and the page.

usage: python experiments/010-mobility/drones.py [runs=<run folder>,<run folder>,...] [episodes=1024]
"""

from __future__ import annotations

from cars import main

_CONTROLLERS: list[tuple[str, dict[str, float], int]] = [
    ("zero", {}, 256),
    ("random", {}, 256),
    *(("cascade", {"speed_m_per_s": speed}, 1024) for speed in (2.0, 3.0, 4.0, 5.0)),
]
BASELINES = {"drone_waypoints": _CONTROLLERS, "drone_gates": _CONTROLLERS}

if __name__ == "__main__":
    main("drones", BASELINES)
