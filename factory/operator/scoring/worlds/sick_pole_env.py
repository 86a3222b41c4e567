"""Worlds of the sick cart-pole."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from sick_pole import SickPoleConfig
from torch import Tensor

from factory.envs.core.observations import Observation
from factory.envs.tasks.cartpole import CartpoleSwingup

_LEAK_BYTES_PER_S = 30 << 20
"""Memory that is lost in a second, however slow the machine is."""
_LONGEST_S = 2.0
"""Time for which one control step loses memory."""
_FATAL_STEPS = 100
"""Control steps until a world that is doomed ends its process."""


class SickPole(CartpoleSwingup):
    """Looks once a control step for the name of a sickness; well without one."""

    config = SickPoleConfig
    _num_steps = 0
    _leaked_s = 0.0
    _tensors: list[Tensor] = []

    def _get_observations(self) -> Observation:
        observation = super()._get_observations()
        self._num_steps += 1
        time.sleep(self.cfg.pause_s)
        try:
            sickness = (Path(self.cfg.folder) / "sickness").read_text()
        except OSError:
            return observation
        if sickness == "leak":
            self._leak()
        elif sickness == "poison":
            # One world in the batch: the others go on learning.
            observation["policy"][0] = float("nan")
        elif sickness == "exit" and self._num_steps > _FATAL_STEPS:
            raise OSError("the disk of the world is gone")
        return observation

    def _leak(self) -> None:
        """Keep a tensor for the time that has passed."""
        now_s = time.monotonic()
        elapsed_s = min(_LONGEST_S, now_s - self._leaked_s)
        self._leaked_s = now_s
        self._tensors.append(torch.ones(int(elapsed_s * _LEAK_BYTES_PER_S) // 4))
