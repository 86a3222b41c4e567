"""Properties that hold for every shard and for every state an environment returns."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.envs.core.observations import groups_of
from factory.envs.core.shard import Shard

COUNTS = st.integers(1, 5)
ROWS = st.integers(1, 7)


@given(count=COUNTS, rows=ROWS, size=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_shards_together_draw_what_one_process_draws(count: int, rows: int, size: int, seed: int) -> None:
    """The draws of all shards in order are those of a single one, and all generators end up equal."""
    shape = () if size == 0 else (size,)

    def draw(shard: Shard, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = shard.draw(lambda full: torch.rand(full, generator=generator), num_rows, *shape)
        return drawn, generator.get_state()

    whole, after_whole = draw(Shard(), rows * count)
    parts = [draw(Shard(index=index, count=count), rows) for index in range(count)]
    assert torch.equal(torch.cat([drawn for drawn, _ in parts]), whole)
    assert all(torch.equal(after, after_whole) for _, after in parts)


@given(count=COUNTS, rows=ROWS)
def test_rows_of_shards_are_a_partition(count: int, rows: int) -> None:
    """Every row belongs to exactly one shard, in order."""
    everything = list(range(count * rows))
    owned = [everything[Shard(index=index, count=count).rows(rows)] for index in range(count)]
    assert [row for part in owned for row in part] == everything
    assert {len(part) for part in owned} == {rows}


@pytest.mark.parametrize("task", ["CartpoleSwingup-v0", "Hopper-v5", "QuadrupedVelocity-v0"])
@settings(max_examples=8, deadline=None)
@given(
    mode=st.sampled_from([AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]),
    seed=st.integers(0, 2**31),
    before=st.integers(0, 6),
    after=st.integers(1, 6),
)
def test_a_restored_state_repeats_the_steps(
    task: str, mode: AutoresetMode, seed: int, before: int, after: int
) -> None:
    """Steps after a restore repeat those after the save bit for bit, resets included."""
    env_id = f"factory.envs:factory/{task}"
    options = {"num_envs": 3, "max_episode_steps": 4, "autoreset_mode": mode, "num_threads": 1}
    env: Any = gymnasium.make_vec(env_id, **options).unwrapped
    other: Any = gymnasium.make_vec(env_id, **options).unwrapped
    generator = torch.Generator().manual_seed(seed)
    actions = torch.rand(before + after, *env.action_space.shape, generator=generator) * 2 - 1
    env.reset(seed=seed)
    other.reset(seed=seed + 1)
    for action in actions[:before]:
        env.step(action)
    saved = env.state_dict()
    other.load_state_dict(saved)
    for name, value in other.state_dict().items():
        assert torch.equal(value, saved[name]), name

    for action in actions[before:]:
        outputs = env.step(action)
        repeated = other.step(action)
        observed, observed_again = groups_of(outputs[0]), groups_of(repeated[0])
        assert all(torch.equal(observed[name], observed_again[name]) for name in observed)
        assert all(torch.equal(a, b) for a, b in zip(outputs[1:4], repeated[1:4], strict=True))
