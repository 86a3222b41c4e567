"""Worlds of the sick cart-pole."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from sick_pole import SickPoleConfig
from torch import Tensor

from factory.envs.core.observations import Observation
from factory.envs.tasks.cartpole import CartpoleSwingup

_LEAK_BYTES = 128 << 10
"""Memory that is lost in each control step."""
_FATAL_STEPS = 100
"""Control steps until a world that is doomed ends its process."""


class SickPole(CartpoleSwingup):
    """Looks once a control step for the name of a sickness; well without one."""

    config = SickPoleConfig
    _num_steps = 0

    def _get_observations(self) -> Observation:
        observation = super()._get_observations()
        self._num_steps += 1
        time.sleep(self.cfg.pause_s)
        try:
            sickness = (Path(self.cfg.folder) / "sickness").read_text()
        except OSError:
            return observation
        if sickness == "leak":
            self._leaked().append(torch.ones(_LEAK_BYTES // 4))
        elif sickness == "poison":
            # One world in the batch: the others go on learning.
            observation["policy"][0] = float("nan")
        elif sickness == "exit" and self._num_steps > _FATAL_STEPS:
            raise OSError("the disk of the world is gone")
        return observation

    def _leaked(self) -> list[Tensor]:
        if not hasattr(self, "_tensors"):
            self._tensors: list[Tensor] = []
        return self._tensors
