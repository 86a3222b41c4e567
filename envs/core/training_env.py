"""The interface between environments and training, whatever simulates."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import torch
from torch import Tensor, nn

from factory.envs.core.outcomes import outcome_codes, outcome_names, outcome_shares

if TYPE_CHECKING:
    from factory.envs.rendering.camera import Camera
    from factory.envs.rendering.renderer import Renderer


COMMON_STATE = ("generator", "control_steps")
"""Keys of a `state_dict` whose tensors all worlds share; every other tensor has a row for each world."""


class TrainingEnv(gymnasium.vector.VectorEnv, ABC):
    """A vector environment that speaks torch, with everything else that training, videos and resuming need.

    `step` returns observations `(num_envs, ...)` and rewards `(num_envs,)` as float32 and flags `(num_envs,)`
    as bool, all on `device`. Its info has `live` and `nonfinite` `(num_envs,)` bool, `reward_terms`
    `(num_envs, len(reward_terms))`, `outcome` `(num_envs,)` int64, an index of `outcome_names` that is valid
    where an episode ended, `success` `(num_envs,)` bool if the task defines success, and optionally two dicts
    of `(num_envs,)` floats: `diagnostics` of this step, and `episode_metrics`, valid where an episode ended.

    Worlds in `nonfinite` have met a value that is not finite or absurdly large (`factory.envs.core.soundness`
    finds them): their step is not learned from, and they start a new episode. Their numbers are zeros;
    `raw` may hold the true `reward` and the groups `obs`, for the user who searches the cause.
    """

    device: torch.device
    generator: torch.Generator
    """Source of all randomness, on `device`; only environments that are `capturable` must have it."""
    max_episode_steps: int
    step_dt_s: float
    """Simulated time of a control step [s]."""
    physics_name: str
    """Name of the simulator, for tags."""
    reward_terms: tuple[str, ...] = ()
    """Names of the columns of `info["reward_terms"]`."""
    defines_success: bool = False
    """True if `info["success"]` is set; without it no success rate is reported."""
    defines_fall: bool = False
    """True if a terminated episode means that the robot fell; else no fall rate is reported."""
    outcomes: tuple[str, ...] = ()
    """Names of the ways in which the task itself ends an episode, `success` among them if it is one."""
    episode_metrics: tuple[str, ...] = ()
    """Keys of `info["episode_metrics"]`. A mean leaves out episodes in which the value is NaN."""
    camera: Camera | None = None
    """Camera of videos; None follows the first body that moves."""
    native_actions: nn.Module = nn.Identity()
    """Turns the policy's actions into those a user of the exported policy sends to the environment."""
    resumes_exactly: bool = True
    """True if `state_dict` holds everything that later steps depend on."""
    capturable: bool = False
    """True if `step` on a GPU can be captured as a CUDA graph: static shapes and addresses, no host reads."""
    limits_steps: bool = False
    """True if `step` raises `WorldError` by itself when it takes longer than `task.step_timeout_s`."""
    notes: tuple[str, ...] = ()
    """Lines to show when a training starts."""

    @property
    @abstractmethod
    def physics_s(self) -> float:
        """Wall time spent in the engine since construction [s]."""

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Names of all ways in which an episode ends, in the order of their codes in `info["outcome"]`."""
        return outcome_names(self.outcomes, falls=self.defines_fall)

    def outcome_of(self, info: Mapping[str, Any], terminated: Tensor, nonfinite: Tensor) -> Tensor:
        """Return the codes of the ends of a step, see `outcome_codes`. Shape: (num_envs,) int64."""
        return outcome_codes(self.outcome_names, info, terminated=terminated, nonfinite=nonfinite)

    def outcome_shares(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each outcome from the number of episodes by name; they add up to 1."""
        return outcome_shares(counts, self.outcomes, successes=self.defines_success, falls=self.defines_fall)

    @property
    def robot_name(self) -> str:
        """Name of the robot for tags and titles."""
        return "default"

    @property
    def layout(self) -> dict[str, str]:
        """Description of an exported policy's inputs and outputs."""
        return {
            "observation": str(self.single_observation_space),
            "action": str(self.single_action_space),
            "meaning": inspect.getdoc(type(self)) or "",
        }

    def eval_metrics(self, means: dict[str, float]) -> dict[str, float]:
        """Turn means of `info["diagnostics"]` over an evaluation into metrics, without the `eval/` prefix."""
        return {}

    def warnings(self) -> tuple[str, ...]:
        """Return one line for each problem since the last call; this may wait for the device."""
        return ()

    # Video.

    def set_demo_command(self, time_s: float) -> None:
        """Set the commands of the demonstration video at `time_s`; tasks without commands do nothing."""

    def captions(self) -> list[str]:
        """Return one line for each world, shown in the video."""
        return [""] * self.num_envs

    @abstractmethod
    def snapshot(self) -> Any:
        """Return the data from which the renderer draws world 0 as it is now, or all worlds side by side.

        Raises:
            RenderingUnavailableError: this environment cannot be drawn here.
        """

    @abstractmethod
    def open_renderer(self, *, width: int, height: int, backend: str) -> Renderer:
        """Return a renderer of snapshots; environments with pictures of their own set the size themselves."""

    # Resuming.

    def randomize_episode_phase(self) -> None:
        """Let running episodes end at different times, if the environment can."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all state that `load_state_dict` restores, keyed by name."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`."""
