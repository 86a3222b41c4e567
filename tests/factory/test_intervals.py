"""Intervals of shares."""

from __future__ import annotations

import numpy as np
import pytest

from factory.intervals import share_intervals, wilson


def test_wilson_interval_solves_its_equation() -> None:
    """Each bound is 1.96 standard errors, at the bound, from the share; and stays within 0 and 1."""
    for share, count in ((0.9, 256), (0.5, 10), (0.03, 1024), (0.0, 20), (1.0, 20)):
        found = wilson(share, count)
        assert 0.0 <= found.lo <= share <= found.hi <= 1.0
        for bound in {found.lo, found.hi} - {0.0, 1.0}:
            assert abs(share - bound) == pytest.approx(1.959964 * (bound * (1 - bound) / count) ** 0.5)
    with pytest.raises(ValueError, match="count=0"):
        wilson(0.5, 0)


@pytest.mark.parametrize("true_share", [0.02, 0.5, 0.97])
def test_wilson_interval_holds_the_true_share(true_share: float) -> None:
    """About 95 % of intervals do, near 0 and 1 as well."""
    rng = np.random.default_rng(0)
    found = [wilson(hits / 256, 256) for hits in rng.binomial(256, true_share, size=2000)]
    assert 0.93 < np.mean([interval.lo <= true_share <= interval.hi for interval in found]) < 0.975


def test_only_shares_of_episodes_have_one() -> None:
    """Neither training, other metrics nor what a broken file calls a share has an interval."""
    metrics = {
        "eval/episodes": 256.0,
        "eval/outcome/success": 0.9,
        "eval/success_rate": 1.7,
        "eval/return_mean": 0.5,
        "train/success_rate": 0.9,
    }
    expected = wilson(0.9, 256)
    assert share_intervals(metrics) == {"eval/outcome/success": [expected.lo, expected.hi]}
    for episodes in (0.0, float("inf"), float("nan")):
        assert share_intervals(metrics | {"eval/episodes": episodes}) == {}
