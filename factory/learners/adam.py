"""Minimal fused Adam on one flat tensor (Kingma and Ba 2015, arXiv:1412.6980)."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Moments of a gradient's history, and the step they lead to."""

    def __init__(
        self, parameters: Tensor, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-5
    ) -> None:
        """Start without a history.

        Args:
            parameters: changed in place by every step.
            betas: decay of the mean of gradients, and of that of their squares.
            eps: added to the root of the latter.
        """
        self.parameters, self.betas, self.eps = parameters, betas, eps
        self.mean, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.steps = torch.zeros((), device=parameters.device)

    def step(self, grad: Tensor, *, learning_rate: Tensor) -> None:
        """Make one step. Shapes: that of the parameters, ()."""
        self.steps += 1.0
        torch._fused_adam_(
            [self.parameters],
            [grad],
            [self.mean],
            [self.square],
            [],
            [self.steps],
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return moments and number of steps, the tensors themselves."""
        return {"mean": self.mean, "square": self.square, "steps": self.steps}
