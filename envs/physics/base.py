"""The contract between tasks and physics engines."""

from __future__ import annotations

from typing import Protocol

import mujoco
import torch
from torch import Tensor


class Physics(Protocol):
    """`num_envs` worlds of one `mujoco.MjModel`, stepped together.

    After `step`, state fields (`qpos`, `qvel`, ...) are current; derived fields (`xpos`, `site_xpos`,
    `sensordata`, ...) belong to the last substep's start, as with `mujoco.mj_step`. After `forward`
    and `reset` both are current.
    """

    model: mujoco.MjModel
    num_envs: int
    device: torch.device

    @property
    def elapsed_s(self) -> float:
        """Wall time spent inside the engine since construction [s]; does not wait for the device."""
        ...

    def field(self, name: str, *, precise: bool = False) -> Tensor:
        """Return the live view of an `MjData` field. Shape: (num_envs, ...).

        State fields keep the engine's precision; derived fields are float32, unless the first call for a
        field asks for `precise` and the engine can.
        """
        ...

    def model_field(self, name: str) -> Tensor:
        """Return writable per-world values of an `MjModel` field. Shape: (num_envs, ...)."""
        ...

    def step(self, num_substeps: int) -> None:
        """Advance every world by `num_substeps` integrator steps."""
        ...

    def forward(self) -> None:
        """Recompute every derived field from the state."""
        ...

    def reset(self, mask: Tensor) -> None:
        """Reset the worlds in `mask` to the model's defaults. Shape: (num_envs,) bool.

        Values of `qpos`, `qvel`, `ctrl`, `mocap_pos` and `mocap_quat` of those worlds survive the call as
        their new state; time, warm start and actuator activations start anew; derived fields become current.
        """
        ...

    def rays(
        self,
        origin: Tensor,
        direction: Tensor,
        *,
        max_group: int = 3,
        body_exclude: int = -1,
        worlds: Tensor | None = None,
    ) -> Tensor:
        """Return the distance to the first geom hit, -1 for none.

        Shapes: (num_envs, R, 3) -> (num_envs, R).

        Args:
            origin: origins of the rays in the world's frame [m].
            direction: their directions.
            max_group: geom groups from this one on are not hit.
            body_exclude: number of a body whose geoms are not hit, such as the one that carries the sensor;
                -1 for none.
            worlds: mask of the worlds that matter, (num_envs,); the result is undefined in the others.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return a copy of everything the integrator and the bound fields need to go on exactly."""
        ...

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; on a CPU the next steps repeat bit for bit on the same machine."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """Return one line for each problem since the last call; this may wait for the device."""
        ...
