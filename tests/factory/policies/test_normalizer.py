"""The running normaliser against NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.policies.normalizer import RunningNormalizer


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    offset=st.floats(-1e3, 1e3),
    seed=st.integers(0, 999),
)
def test_statistics_of_batches_are_those_of_all_samples(sizes: list[int], offset: float, seed: int) -> None:
    """However samples are cut into batches, mean and variance are those of all together."""
    rng = np.random.default_rng(seed)
    batches = [(rng.normal(size=(size, 3)) * [0.1, 1.0, 10.0] + offset).astype(np.float32) for size in sizes]
    normalizer = RunningNormalizer(3)
    for batch in batches:
        normalizer.update(torch.from_numpy(batch))
    samples = np.concatenate(batches).astype(np.float64)
    scale = 1.0 + abs(offset)
    np.testing.assert_allclose(normalizer.mean, samples.mean(0), rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(normalizer.var, samples.var(0), rtol=1e-3, atol=1e-5 * scale)
    assert float(normalizer.count) == sum(sizes)


def test_rows_that_are_not_live_do_not_count() -> None:
    """Mean, variance and count are those of the live rows; without one, nothing changes."""
    torch.manual_seed(0)
    data, live = torch.randn(4, 50, 3) + 2.0, torch.rand(4, 50) < 0.3
    masked, plain = RunningNormalizer(3), RunningNormalizer(3)
    masked.update(torch.where(live[..., None], data, 1e4), live)
    plain.update(data[live])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    before = {name: value.clone() for name, value in masked.state_dict().items()}
    masked.update(data, torch.zeros_like(live))
    assert all(torch.equal(value, before[name]) for name, value in masked.state_dict().items())


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf, 1e35])
def test_unsound_rows_are_left_out(poison: float) -> None:
    """Mean, variance and count are those of the other rows; without any other, nothing changes."""
    torch.manual_seed(0)
    batch = torch.randn(50, 2)
    clean, spoilt = RunningNormalizer(2), RunningNormalizer(2)
    for normalizer in (clean, spoilt):
        normalizer.update(torch.randn(30, 2, generator=torch.Generator().manual_seed(1)))
    clean.update(torch.cat([batch[:7], batch[8:]]))
    before = {name: value.clone() for name, value in spoilt.state_dict().items()}
    batch[7, 1] = poison
    spoilt.update(batch[7:8])
    assert all(torch.equal(value, before[name]) for name, value in spoilt.state_dict().items())
    spoilt.update(batch)
    for name, value in clean.state_dict().items():
        torch.testing.assert_close(spoilt.state_dict()[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", [1e5, -1e6, 3e6])
def test_a_feature_far_from_zero_keeps_its_deviation(level: float) -> None:
    """Normalised to mean 0 and deviation 1 within 1 %, also after loading; a feature beside it is as ever."""
    torch.manual_seed(0)
    far, alone = RunningNormalizer(2), RunningNormalizer(1)
    batches = []
    for _ in range(6):
        beside = torch.randn(2000, 1)
        spread = torch.randint(0, 2, (2000, 1)) * 2.0 - 1.0
        batches.append(torch.cat([level + spread, beside], -1))
        far.update(batches[-1])
        alone.update(beside)
    loaded = RunningNormalizer(2)
    loaded.load_state_dict(far.state_dict())
    data = torch.cat(batches)
    for normalizer in (far, loaded, copy.deepcopy(far)):
        out = normalizer(data)
        assert abs(float(out[:, 0].mean())) < 0.01
        assert float(out[:, 0].std()) == pytest.approx(1.0, rel=0.01)
        torch.testing.assert_close(out[:, 1:], alone(data[:, 1:]), rtol=1e-5, atol=1e-5)


def test_output_is_standardised_and_clipped() -> None:
    """Seen data comes out with mean 0 and deviation 1; outliers stop at 10."""
    torch.manual_seed(0)
    data = torch.randn(2, 500, 2) * torch.tensor([3.0, 0.01]) + torch.tensor([5.0, -1.0])
    normalizer = RunningNormalizer(2)
    normalizer.update(data)
    out = normalizer(data)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.mean((0, 1)), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.flatten(0, 1).std(0), torch.ones(2), atol=1e-2, rtol=0)
    assert normalizer(torch.full((1, 2), 1e6)).tolist() == [[10.0, 10.0]]


def test_fresh_normaliser_changes_nothing_within_its_limits() -> None:
    """Before anything was seen the value passes through, up to the clip at 10."""
    value = torch.tensor([[-3.0, 0.0, 9.5, -50.0]])
    assert torch.equal(RunningNormalizer(4)(value), value.clamp(-10.0, 10.0))


def test_constant_feature_stays_finite() -> None:
    """A feature without variance is not divided by zero."""
    normalizer = RunningNormalizer(1)
    normalizer.update(torch.full((100, 1), 7.0))
    assert normalizer(torch.full((2, 1), 7.0)).isfinite().all()


def test_limited_memory_follows_a_drift() -> None:
    """With `max_count` the past fades; without it, it does not."""
    bounded, unbounded = RunningNormalizer(1, max_count=100), RunningNormalizer(1)
    for level in (0.0, 10.0):
        for _ in range(50):
            for normalizer in (bounded, unbounded):
                normalizer.update(torch.full((20, 1), level))
    assert abs(float(bounded.mean) - 10.0) < 0.1
    assert abs(float(unbounded.mean) - 5.0) < 1e-6


def test_millions_of_samples_do_not_drown_an_increment() -> None:
    """Statistics are kept in double precision: a batch still counts after 1e9 samples."""
    normalizer = RunningNormalizer(1)
    normalizer.count.fill_(1e9)
    normalizer.update(torch.ones(10, 1))
    np.testing.assert_allclose(float(normalizer.mean), 1e-8, rtol=1e-6)
