"""Baselines of the traffic task: rule drivers, which read what they need from the environment.

All keep to the recommended speed of the route and leave the steering to the lane keeper.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from factory.baselines.base import Baseline
from factory.envs.tasks.traffic.policies import rule_actions
from factory.policies.base import Observations


class Pursuit(Baseline):
    """Drive as if the road were empty."""

    rule: ClassVar[str] = "pursuit"

    def act_deterministic(self, obs: Observations, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions (num_envs, 2) and the memory, which is empty."""
        env = self.env
        actions = rule_actions(env.table, env.cars, env.perception(), rule=self.rule)
        return actions.flatten(0, 1), state


class PursuitYield(Pursuit):
    """Brake for cars that are, or will be within 2 s, in the corridor ahead, and go straight on.

    It reads places, directions and speeds of other cars, but not their routes.
    """

    rule = "pursuit_yield"


class Idm(Pursuit):
    """Follow the car ahead and leave the zones where routes meet to cars that come first.

    It reads the routes of all cars: an upper reference that no sensor gives.
    """

    rule = "idm"
