"""The compiled senses are those of torch, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from factory import kernels
from factory.envs.tasks.traffic.env import Traffic
from factory.envs.tasks.traffic.senses import compiled_senses, observe_again, senses

pytestmark = pytest.mark.skipif(not kernels.are_enabled(), reason="kernels are switched off")
SETTINGS: dict[str, dict[str, Any]] = {
    "eight cars": {},
    "some neighbours": {"neighbours": 3},
    "more neighbours than cars": {"neighbours": 9},
    "sixteen cars": {"agents_per_world": 16, "maps": "topology"},
    "alone": {"agents_per_world": 1, "neighbours": 2},
}


def driven(steps: int, **values: Any) -> Traffic:
    """Return an environment after some steps of careless driving."""
    env = Traffic(**{"num_envs": 96, "num_maps": 6, "seed": 0, **values})
    env.reset(seed=2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        action = torch.rand(96, 2, generator=generator)
        env.step(torch.stack([2.0 * action[:, 0] - 0.7, 0.8 * action[:, 1] - 0.4], -1))
    return env


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_the_kernel_computes_what_torch_does(values: dict[str, Any]) -> None:
    """Observations and facts agree in every bit, with cars in contact, waiting, near and far."""
    env = driven(35, **values)
    count = env.cfg.neighbours
    seen = senses(env.table, env.cars, env.perception(), neighbours=count)
    found = compiled_senses(env.table, env.cars, neighbours=count)
    driving = env.cars.is_driving
    for name in ("seen", "is_touching", "is_to_blame", "imminence"):
        assert torch.equal(getattr(found, name), getattr(seen, name)), name
    assert torch.equal(found.along_route[driving], seen.along_route[driving])
    if env.agents_per_world > 1:
        assert bool(seen.imminence.any()) and bool((~driving).any())


def test_only_the_rows_asked_for_are_observed_again() -> None:
    """All other rows keep what stood there."""
    env = driven(20)
    rows = torch.arange(96).view(env.shape) % 5 == 0
    before = torch.full((*env.shape, 132), 7.0)
    seen = before.clone()
    observe_again(env.table, env.cars, rows, seen, neighbours=7)
    now = compiled_senses(env.table, env.cars, neighbours=7).seen
    assert torch.equal(seen, torch.where(rows[..., None], now, before))


def test_contacts_and_blame_are_found() -> None:
    """A car that drives into another one from behind is to blame, and not the one that it struck."""
    env = Traffic(num_envs=8, num_maps=1, seed=0)
    env.reset(seed=0)
    env.is_driving.copy_(torch.arange(8) < 2)
    still = torch.zeros(1, 8)
    entry = torch.zeros(1, 8, dtype=torch.int64)
    along_m = torch.tensor([[10.0, 13.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    env._put(torch.arange(8) < 2, entry, along_m, still, torch.zeros(1, 8, 2))
    found = compiled_senses(env.table, env.cars, neighbours=7)
    assert found.is_touching.tolist() == [[True, True] + [False] * 6]
    assert found.is_to_blame.tolist() == [[True] + [False] * 7]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e30])
def test_states_that_are_not_sound_stay_within_the_table(number: float) -> None:
    """A car anywhere is looked up at an end of its route."""
    env = driven(3)
    env.along_m[:4] = number
    env.speed[4:8] = number
    found = compiled_senses(env.table, env.cars, neighbours=7)
    assert bool(found.seen[1:].isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, {"rule_drivers": 2}, {"autoreset_mode": "NextStep"}], ids=str)
def test_episodes_are_the_same_without_kernels(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The off-switch changes no bit of observations, rewards and ends, resets included."""
    compiled = Traffic(num_envs=64, num_maps=6, seed=0, **values)
    plain = Traffic(num_envs=64, num_maps=6, seed=0, **values)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        action = torch.rand(64, 2, generator=generator) * 2.0 - 0.7
        monkeypatch.setenv("FACTORY_KERNELS", "on")
        found = compiled.step(action)
        monkeypatch.setenv("FACTORY_KERNELS", "off")
        wanted = plain.step(action)
        assert all(torch.equal(one, other) for one, other in zip(found[:4], wanted[:4], strict=True))
