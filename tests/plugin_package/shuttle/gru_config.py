"""Settings of the recurrent policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.policies.config import PolicyConfig
from factory.validation import require

if TYPE_CHECKING:
    import gymnasium
    import torch

    from shuttle.gru import GruPolicy


@dataclass(kw_only=True)
class GruConfig(PolicyConfig):
    """A gated recurrent unit as the actor, a perceptron as the critic."""

    name: str = "gru"
    cells: int = 16
    """Cells of the actor, and units of the critic."""
    init_std: float = 0.5
    """Initial standard deviation of the exploration noise [action units]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        require(self.cells >= 1, "policy.cells", self.cells, "must be at least 1")
        require(self.init_std > 0, "policy.init_std", self.init_std, "must be positive")

    def build(
        self,
        *,
        obs_sizes: dict[str, int],
        action_space: gymnasium.Space[Any],
        control_hz: float,
        generator: torch.Generator,
    ) -> GruPolicy:
        """Build the policy, see `PolicyConfig.build`."""
        from shuttle.gru import GruPolicy

        return GruPolicy(
            self, obs_sizes=obs_sizes, action_space=action_space, control_hz=control_hz, generator=generator
        )
