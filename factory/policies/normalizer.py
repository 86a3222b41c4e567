"""Running mean and variance, on the device, for observations and returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from factory.runtime import distributed


class RunningNormalizer(nn.Module):
    """Standardise by the mean and variance of what was seen so far (Chan et al. 1979, parallel update).

    Statistics are float64 buffers, so that millions of samples do not drown the increments.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, *, max_count: float = float("inf")) -> None:
        """Start at mean 0 and variance 1.

        Args:
            size: number of features.
            max_count: samples after which the past fades, so that a drifting target is followed.
        """
        super().__init__()
        self.max_count = max_count
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @property
    def std(self) -> Tensor:
        """Standard deviation, at least 1e-4. Shape: (size,) float64."""
        return self.var.sqrt().clamp(min=1e-4)

    def forward(self, value: Tensor) -> Tensor:
        """Return the standardised value, clipped to +-10. Shape: (..., size) float32."""
        scale = (1.0 / self.std).float()
        return torch.addcmul(-self.mean.float() * scale, value, scale).clamp_(-10.0, 10.0)

    @torch.no_grad()
    def update(self, batch: Tensor, live: Tensor | None = None) -> None:
        """Take in a batch, or its rows that are live; one that is not finite is passed over.

        Shapes: (..., size), (...,) bool.
        """
        live = torch.ones_like(batch[..., 0]) if live is None else live
        mean, var, rows = moments(batch.reshape(-1, batch.shape[-1]), live.flatten())
        count = self.count.clamp(max=self.max_count)
        total = count + rows
        healthy = (mean.isfinite() & var.isfinite()).all() & (rows > 0)
        mean, var = torch.where(healthy, mean, 0.0), torch.where(healthy, var, 0.0)
        weight = torch.where(healthy, rows / total, 0.0)
        delta = mean.double() - self.mean
        self.var.copy_(
            (1 - weight) * self.var + weight * var.double() + weight * (1 - weight) * delta.square()
        )
        self.mean.add_(delta * weight)
        self.count.copy_(torch.where(healthy, total, self.count))


def moments(values: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of the live rows of all processes, and their number; without one, 0, 0 and 0.

    Shapes: (B, size), (B,) -> (size,), (size,), ().
    """
    weight = live.to(values.dtype)
    sums = distributed.all_reduce_sum_(torch.cat([weight @ values, weight.sum()[None]]))
    rows = sums[-1]
    mean = sums[:-1] / rows.clamp(min=1.0)
    var = distributed.all_reduce_sum_(weight @ (values - mean).square()) / rows.clamp(min=1.0)
    return mean, var, rows
