"""Plug-in: the cart-pole, which falls ill when a file says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig
from factory.registry import register_task


@register_task
@dataclass(kw_only=True)
class SickPoleConfig(CartpoleSwingupConfig):
    """Swing a pole up while a file in `folder` may name a sickness: leak, poison or exit."""

    env: ClassVar[str] = "sick_pole_env:SickPole"
    name: str = "sick_pole"
    id: str = "factory/SickPole-v0"
    folder: str = ""
    """Folder of the file `sickness`."""
    pause_s: float = 0.0
    """Time to sleep in each control step, for lines that hardly use a CPU [s]."""
