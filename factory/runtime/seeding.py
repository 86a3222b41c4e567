"""Random generators: one seed for all of them, and their state for checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  third-party code draws from it
    torch.manual_seed(seed)


def make_generator(seed: int, *, stream: int, device: torch.device) -> torch.Generator:
    """Return a generator that is independent of those of other streams of the same seed."""
    # SeedSequence mixes seed and stream; adding them would give seed 1, stream 0 the draws of seed 0,
    # stream 1. Shifted by one bit, since torch takes seeds as signed 64-bit integers.
    word = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    generator = torch.Generator(device=device)
    generator.manual_seed(int(word >> 1))
    return generator


def global_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the global generators' state: tensors, and plain values for JSON."""
    # NumPy's Mersenne Twister has 624 words, which go into a tensor; what is left fits JSON.
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    # torch has no uint32, so the words are widened.
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    plain = {
        "python": [version, list(words), gauss],
        "numpy": [str(name), int(position), int(has_gauss), float(cached)],
    }
    return tensors, plain


def set_global_state(tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Restore what `global_state` returned."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
