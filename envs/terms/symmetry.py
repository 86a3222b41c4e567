"""Left-right symmetry of a robot: mirror images of observations and actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mirror:
    """A signed permutation of the last dimension; applying it twice changes nothing."""

    index: Tensor
    """Shape: (size,) int64."""
    sign: Tensor
    """Shape: (size,) float32."""

    def __call__(self, value: Tensor) -> Tensor:
        """Return the mirror image. Shape: (..., size)."""
        return value.index_select(-1, self.index) * self.sign

    @staticmethod
    def signs(*signs: float) -> Mirror:
        """Return a mirror that only changes signs."""
        return Mirror(torch.arange(len(signs)), torch.tensor(signs))

    @staticmethod
    def concatenate(*parts: Mirror) -> Mirror:
        """Return the mirror of vectors laid end to end."""
        offsets = torch.tensor([0, *(part.index.numel() for part in parts)]).cumsum(0)
        index = torch.cat([part.index + offset for part, offset in zip(parts, offsets, strict=False)])
        return Mirror(index, torch.cat([part.sign for part in parts]))

    def to(self, device: torch.device) -> Mirror:
        """Return the mirror on `device`."""
        return Mirror(self.index.to(device), self.sign.to(device))
