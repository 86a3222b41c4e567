"""Parking by shuttling: a scripted controller that looks ahead with the map, the baseline of the parking task."""

from __future__ import annotations

import torch
from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.core.training_env import TrainingEnv
from factory.envs.tasks.cars import parking_lots
from factory.envs.tasks.cars.parking_lots import CAR, GOAL_Y_M, GOAL_YAW
from factory.envs.vehicles.kinematic import RollingState, roll
from factory.policies.base import Observations
from factory.validation import require

_STEERINGS = (-1.0, -0.66, -0.33, 0.0, 0.33, 0.66, 1.0)
_PIECE_S = 0.2
_PIECES = 12
_SPEED_M_PER_S = 1.0


class Shuttle(Baseline):
    """Try arcs forward and backward on the map, and follow the one that ends best.

    It reads pose, steering, lag and map exactly from the environment. In every control step it rolls the car
    along seven steering angles in both directions for up to 2.4 s, stops every arc a margin before it touches
    something, and rates the poses on the way: the rollout method with one decision ahead (Fox et al. 1997,
    "The Dynamic Window Approach to Collision Avoidance", for a car). A change of direction costs extra, so
    that it goes to the end of an arc before it turns around.
    """
