"""Correlated draws of uncertain inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from factory.site.quantities import Quantity
from factory.site.site_file import Site

Draws = dict[str, NDArray[np.float64]]
"""Values of each input. Shape of each: (num_draws,)."""


def deviates(site: Site, measured: Sequence[Quantity], *, num_draws: int, seed: int) -> Draws:
    """Return standard normal deviates of the site's inputs, correlated, and of the measured ones.

    Inputs of the same name have the same deviates in every site and workload with one seed, so that a
    comparison shows the difference between two projections and not that between two sets of draws.
    """
    # The measured inputs have a generator of their own: another workload must not move the site's draws.
    site_generator, *others = np.random.default_rng(seed).spawn(1 + len(measured))
    independent = site_generator.standard_normal((num_draws, len(site.inputs)))
    # With C = L L^T, the rows of z L^T have the covariance C.
    correlated = independent @ np.linalg.cholesky(site.correlation_matrix()).T
    found = {name: correlated[:, place] for place, name in enumerate(site.inputs)}
    for quantity, generator in zip(measured, others, strict=True):
        found[quantity.name] = generator.standard_normal(num_draws)
    return found


def at(quantities: Sequence[Quantity], z: Mapping[str, NDArray[np.float64]]) -> Draws:
    """Return the values of inputs at their deviates."""
    return {quantity.name: quantity.at(z[quantity.name]) for quantity in quantities}


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's correlation of two columns; 0 if one of them is constant."""
    if np.ptp(first) == 0.0 or _is_constant(second):
        return 0.0
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _is_constant(values: NDArray[np.float64]) -> bool:
    return bool((values == values[0]).all())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values; equal ones, such as infinities, share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # A group of n equal values ends at rank `last`; its ranks have the mean last - (n - 1) / 2.
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
