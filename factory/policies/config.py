"""Settings that every policy has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.validation import require

if TYPE_CHECKING:
    import gymnasium
    import torch

    from factory.policies.base import Policy

PRECISIONS = ("float32", "tf32", "bfloat16")
"""Number formats of matrix products."""


@dataclass(kw_only=True)
class PolicyConfig:
    """Settings shared by all policies; a subclass adds its own and builds the policy."""

    name: str = ""
    """Name of the option in the Hydra group `policy`."""
    precision: str = "float32"
    """Number format of matrix products: float32; tf32, on a GPU; or bfloat16, faster on hardware that has it.
    """

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        # The device is not known here: `TrainConfig` checks that tf32 meets a GPU.
        choices = ", ".join(PRECISIONS)
        require(self.precision in PRECISIONS, "policy.precision", self.precision, f"choose one of {choices}")

    def build(
        self,
        *,
        obs_sizes: dict[str, int],
        action_space: gymnasium.Space[Any],
        control_hz: float,
        generator: torch.Generator,
    ) -> Policy:
        """Build the policy; the caller moves it to the device of `generator`.

        Args:
            obs_sizes: features of every observation group, `policy` and `critic` among them.
            action_space: action space of one environment, a flat Box or a Discrete.
            control_hz: control steps per second [Hz].
            generator: source of the exploration noise.
        """
        raise NotImplementedError(f"{type(self).__name__} does not build a policy")
