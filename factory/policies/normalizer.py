"""Running mean and variance on the device, for observations and returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from factory.envs.core.soundness import LIMIT
from factory.runtime import distributed

MIN_STD = 1e-4
"""A smaller deviation counts as this one, so that a constant feature is not divided by zero."""


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
        self._may_be_far = False
        self.register_load_state_dict_post_hook(_after_loading)

    @property
    def std(self) -> Tensor:
        """Standard deviation, at least `MIN_STD`. Shape: (size,) float64."""
        return self.var.sqrt().clamp(min=MIN_STD)

    def forward(self, value: Tensor) -> Tensor:
        """Return the standardised value, clipped to +-10. Shape: (..., size) float32."""
        scale = (1.0 / self.std).float()
        mean = self.mean
        if self._may_be_far:
            # (1e6 + 1) / std - 1e6 / std leaves few digits of 1 / std, while (1e6 + 1) - 1e6 is exact.
            subtracted = torch.where(_is_far(mean, self.var), mean, 0.0).float()
            value = value - subtracted
            mean = mean - subtracted

        # (value - mean) / std as one fused multiply-add
        return torch.addcmul(-mean.float() * scale, value, scale).clamp_(-10.0, 10.0)

    @torch.no_grad()
    def update(self, batch: Tensor, live: Tensor | None = None) -> None:
        """Update the statistics with the live rows of a batch, without those that are not finite or absurd.

        Shapes: (..., size), (...,) bool.
        """
        values = batch.reshape(-1, batch.shape[-1])
        if live is None:
            live = torch.ones_like(values[:, 0], dtype=torch.bool)
        mean, var, rows = self._moments(values, live.flatten())
        # A capped count gives every new batch at least the weight rows / (max_count + rows).
        count = self.count.clamp(max=self.max_count)
        total = count + rows

        # A batch without a sound row gets weight 0, since a branch would wait for the device.
        weight = torch.where(rows > 0, rows / total, 0.0)

        # With w = rows / total and delta = batch mean - mean:
        # var' = (1 - w) var + w batch var + w (1 - w) delta^2,  mean' = mean + w delta
        delta = mean - self.mean
        self.var.copy_((1 - weight) * self.var + weight * var + weight * (1 - weight) * delta.square())
        self.mean.add_(delta * weight)
        self.count.copy_(torch.where(rows > 0, total, self.count))
        self._note_far_features()

    def _moments(self, values: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and variance of a batch, float64, and the number of its sound live rows."""
        return _sound_moments(values, live)

    def _note_far_features(self) -> None:
        """Note whether a feature is far from zero; a GPU would have to be asked, and always may have one."""
        self._may_be_far = self.mean.device.type != "cpu" or bool(_is_far(self.mean, self.var).any())


def _sound_moments(values: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `moments` returns, for sound rows alone and also for features far from zero.

    Shapes: (B, size), (B,) bool -> (size,) float64, (size,) float64, ().
    """
    mean, var, rows = moments(values, live)
    on_cpu = values.device.type == "cpu"
    # E[v^2] = Var + mean^2; NaN compares as false.
    if not (on_cpu and bool((var + mean.square() <= LIMIT**2).all())):
        is_sound = values.abs().sum(-1) <= LIMIT
        values = torch.where(is_sound[:, None], values, 0.0)
        live = live & is_sound
        mean, var, rows = moments(values, live)

    is_far = _is_far(mean, var)
    if on_cpu and not is_far.any():
        return mean.double(), var.double(), rows

    # In float32 the mean of features far from zero is off by e, which may be as large as their deviation.
    # With d = value - mean, which loses nothing: e = E[d] and Var = E[d^2] - e^2, the corrected two-pass
    # algorithm (Chan, Golub and LeVeque 1983, eq. 1.7).
    weight = live.to(values.dtype)
    error = distributed.all_reduce_sum_(weight @ (values - mean)) / rows.clamp(min=1.0)
    error = torch.where(is_far, error, 0.0).double()
    return mean.double() + error, (var.double() - error.square()).clamp(min=0.0), rows


def _is_far(mean: Tensor, var: Tensor) -> Tensor:
    """Return the features so far from zero that float32 is too coarse for their deviation.

    At the threshold a digit of float32 is 2^-10 of the deviation. Shapes: (size,), (size,) -> (size,) bool.
    """
    return mean.abs() > 2.0**14 * var.sqrt().clamp(min=MIN_STD)


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
    var = distributed.all_reduce_sum_(weight @ (values - mean).square_()) / rows.clamp(min=1.0)
    return mean, var, rows


def _after_loading(normalizer: RunningNormalizer, keys: object) -> None:
    normalizer._note_far_features()
