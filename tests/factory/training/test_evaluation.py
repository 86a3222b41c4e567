"""What an evaluation says of the spread of its episodes."""

from __future__ import annotations

import math

import pytest
import torch

from factory.training import evaluation


@pytest.mark.parametrize("count", [2, 5, 20])
def test_interval_holds_the_true_mean(count: int) -> None:
    """Of 2000 evaluations 93.5-96.5 % of the intervals hold the mean; 1.96 standard errors of five: 84.5
    %.
    """
    generator = torch.Generator().manual_seed(count)
    hits = 0
    for returns in 7.0 + 2.0 * torch.randn(2000, count, generator=generator):
        _, half_width = evaluation._spread(returns)
        hits += abs(float(returns.mean()) - 7.0) <= half_width
    assert 0.935 < hits / 2000 < 0.965


def test_single_episode_has_no_spread() -> None:
    """Nothing is known of the spread, which is not a spread of zero, and the figures leave it out."""
    std, half_width = evaluation._spread(torch.tensor([3.0]))
    assert math.isnan(std) and math.isnan(half_width)
    figures = evaluation.EvaluationResult(
        episodes=1,
        return_mean=3.0,
        return_std=std,
        return_ci95=half_width,
        length_mean=9.0,
        outcomes={"timeout": 1.0},
        success_rate=math.nan,
        fall_rate=math.nan,
        task={},
        tokens=9,
        table={},
    ).metrics()
    assert figures["eval/return_mean"] == 3.0
    assert all(math.isfinite(value) for value in figures.values())
