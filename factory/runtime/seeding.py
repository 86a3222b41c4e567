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
    """Return a generator whose draws do not overlap with those of another `stream` of the same seed."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0] >> 1))
    return generator


def global_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the global generators' state: tensors, and what JSON holds."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
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
