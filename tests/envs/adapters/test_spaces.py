"""Observations and actions of any space, as a policy needs them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from factory.envs.adapters.spaces import BoxActions, flat_size, flatten, native_actions

NESTED = spaces.Dict(
    {
        "pose": spaces.Dict({"arm": spaces.Box(-1, 1, (2, 3)), "gripper": spaces.Discrete(3, start=-1)}),
        "lights": spaces.MultiBinary(4),
        "pair": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(-np.inf, np.inf, (1,), np.float64))),
    }
)
OBSERVABLE = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(-1, 1, (2, 2, 2), np.float64),
    spaces.Box(0, 255, (8,), np.uint8),
    spaces.Discrete(5),
    spaces.Discrete(4, start=7),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiBinary(3),
    spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (2,)))),
    NESTED,
]


class Sampled(gymnasium.Env):
    """Observes samples of a space, and keeps what it gave."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space
        self.given: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.given.append(self.observation_space.sample())
        return self.given[-1], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, False, False, {}


@pytest.mark.parametrize("space", OBSERVABLE, ids=str)
def test_observations_are_flattened_as_gymnasium_does_it(space: spaces.Space[Any]) -> None:
    """Every row of the batch is `gymnasium.spaces.flatten` of that world's observation, and a copy."""
    worlds = [Sampled(space) for _ in range(3)]
    env = SyncVectorEnv(
        [lambda world=world: world for world in worlds], autoreset_mode=AutoresetMode.SAME_STEP
    )
    for observe in (env.reset, lambda: env.step(np.zeros(3, dtype=np.int64))):
        found = flatten(env, observe()[0])
        expected = np.array([spaces.flatten(space, world.given[-1]) for world in worlds], dtype=np.float32)
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (3, flat_size(space))
        assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, 255, (210, 160, 3), np.uint8), r"hold pictures, uint8 of shape \(210, 160, 3\)"),
        (spaces.Box(0, 255, (84, 84), np.uint8), "hold pictures"),
        (spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)}), "hold pictures"),
        (spaces.Sequence(spaces.Discrete(2)), "no fixed size"),
        (spaces.Graph(spaces.Discrete(2), None), "no fixed size"),
    ],
    ids=str,
)
def test_what_cannot_be_seen_is_refused(space: spaces.Space[Any], expected: str) -> None:
    """Pictures, also within others, and observations without a size are named."""
    with pytest.raises(ValueError, match=expected):
        flat_size(space)


def test_actions_stretch_to_the_bounds_and_stop_there() -> None:
    """-1 and 1 are the bounds, 0 the middle; beyond is clipped; where a bound is missing values pass."""
    low, high = np.array([-2.0, 0.0, -np.inf, -1.0]), np.array([2.0, 10.0, np.inf, np.inf])
    native = BoxActions(spaces.Box(low, high, dtype=np.float64))
    rows = torch.tensor(
        [[-1.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [9.0, -9.0, 9.0, -9.0]]
    )
    expected = [[-2.0, 0.0, -1.0, -1.0], [0.0, 5.0, 0.0, 0.0], [2.0, 10.0, 1.0, 1.0], [2.0, 0.0, 9.0, -1.0]]
    assert native(rows).tolist() == expected
    space = native.policy_space
    assert space.low.tolist() == [-1.0, -1.0, -np.inf, -1.0]
    assert space.high.tolist() == [1.0, 1.0, np.inf, np.inf]


def test_actions_get_the_shape_of_their_box() -> None:
    """A box of rank 2 is acted in by a flat policy; bounds of the largest floats count as none."""
    largest = np.finfo(np.float32).max
    native = native_actions(spaces.Box(-largest, largest, (2, 3)))
    assert native.policy_space.shape == (6,)
    action = torch.arange(12.0).reshape(2, 6)
    assert torch.equal(native(action), action.reshape(2, 2, 3))


def test_choices_count_from_where_the_space_starts() -> None:
    """A Discrete space that starts at 3 is a policy's choice 0 plus 3."""
    native = native_actions(spaces.Discrete(4, start=3))
    assert native.policy_space == spaces.Discrete(4)
    assert native(torch.tensor([0, 3])).tolist() == [3, 6]


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (2,), np.int64), spaces.MultiBinary(2)], ids=str
)
def test_actions_no_policy_can_give_are_refused(space: spaces.Space[Any]) -> None:
    """The message shows the space and what would do."""
    with pytest.raises(ValueError, match="policies here act in a Box of floats or a Discrete space"):
        native_actions(space)
