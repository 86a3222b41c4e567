"""Facts about the robot and its lidar."""

from __future__ import annotations

from factory.envs.tasks.amr.table import GOAL_RADIUS_MM, ROBOT_RADIUS_MM

ROBOT_RADIUS_M = ROBOT_RADIUS_MM / 1000.0
GOAL_RADIUS_M = GOAL_RADIUS_MM / 1000.0
STEP_S = 0.1
"""Length of a control step."""
MAX_SPEED_M_PER_S = 1.0
MAX_TURN_RAD_PER_S = 1.5
ACCELERATION = (1.0, 4.0)
"""Largest changes of speed [m/s^2] and turn rate [rad/s^2]."""
NUM_BEAMS = 64
RANGE_M = 6.0
LAG_STEPS = 3
"""Age of the second scan in the observation [control steps]."""
