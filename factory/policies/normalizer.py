"""Running mean and variance on the device, for observations and returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from factory.runtime import distributed


class RunningNormalizer(nn.Module):
    """Standardise values by the running mean and variance (Chan et al. 1979, parallel update).

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
        # (value - mean) / std as one fused multiply-add
        scale = (1.0 / self.std).float()
        return torch.addcmul(-self.mean.float() * scale, value, scale).clamp_(-10.0, 10.0)

    @torch.no_grad()
    def update(self, batch: Tensor, live: Tensor | None = None) -> None:
        """Update the statistics with the live rows of a batch; a batch with NaN or infinity is skipped.

        Shapes: (..., size), (...,) bool.
        """
        if live is None:
            live = torch.ones_like(batch[..., 0])
        mean, var, rows = moments(batch.reshape(-1, batch.shape[-1]), live.flatten())
        # A capped count gives every new batch at least the weight rows / (max_count + rows).
        count = self.count.clamp(max=self.max_count)
        total = count + rows

        # A skipped batch gets weight 0, since a branch would wait for the device.
        is_healthy = (mean.isfinite() & var.isfinite()).all() & (rows > 0)
        mean = torch.where(is_healthy, mean, 0.0)
        var = torch.where(is_healthy, var, 0.0)
        weight = torch.where(is_healthy, rows / total, 0.0)

        # With w = rows / total and delta = batch mean - mean:
        # var' = (1 - w) var + w batch var + w (1 - w) delta^2,  mean' = mean + w delta
        delta = mean.double() - self.mean
        self.var.copy_(
            (1 - weight) * self.var + weight * var.double() + weight * (1 - weight) * delta.square()
        )
        self.mean.add_(delta * weight)
        self.count.copy_(torch.where(is_healthy, total, self.count))


def moments(values: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, variance and number of the live rows of all processes; zeros if there are none.

    Shapes: (B, size), (B,) -> (size,), (size,), ().
    """
    # Two passes: the variance about the mean itself loses no digits to a large mean.
    weight = live.to(values.dtype)
    # Sums and count share one message between processes.
    sums = distributed.all_reduce_sum_(torch.cat([weight @ values, weight.sum()[None]]))
    rows = sums[-1]
    mean = sums[:-1] / rows.clamp(min=1.0)
    var = distributed.all_reduce_sum_(weight @ (values - mean).square()) / rows.clamp(min=1.0)
    return mean, var, rows
