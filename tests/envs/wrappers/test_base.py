"""Every wrapper keeps Gymnasium's contract, is fit for a CUDA graph, and can be saved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from factory.envs import wrappers as ours
from factory.envs.core.check import check_vector_env

CARTPOLE, QUADRUPED = "factory/CartpoleSwingup-v0", "factory/QuadrupedVelocity-v0"


def stack(env: Any) -> Any:
    """Return `env` in every wrapper that speaks torch."""
    env = ours.RescaleAction(ours.ActionDelay(env, (0, 2)), -2.0, 2.0)
    env = ours.RecordEpisodeStatistics(ours.ClipAction(env), buffer_length=7)
    return ours.HistoryObservation(ours.NormalizeReward(ours.NormalizeObservation(env)), 3)


WRAPPERS = {
    "statistics": ours.RecordEpisodeStatistics,
    "observation": ours.NormalizeObservation,
    "reward": ours.NormalizeReward,
    "history": lambda env: ours.HistoryObservation(env, 3),
    "clip": ours.ClipAction,
    "rescale": lambda env: ours.RescaleAction(env, 0.0, 1.0),
    "delay": lambda env: ours.ActionDelay(env, (0, 2)),
    "stack": stack,
}


def make(env_id: str, **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:{env_id}", num_threads=1, **kwargs).unwrapped


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_environment_keeps_the_contract(name: str) -> None:
    """Every wrapper, and all of them together, pass the conformance check in all three autoreset modes."""
    check_vector_env(lambda **kwargs: WRAPPERS[name](make(CARTPOLE, **kwargs)))


def test_observation_groups_keep_the_contract() -> None:
    """The same holds where observations have the groups `policy` and `critic`."""
    check_vector_env(lambda **kwargs: stack(make(QUADRUPED, **kwargs)))


def test_seed_device_and_environment_are_passed_through() -> None:
    """A wrapper shows the seed, the device, the mode and the environment it wraps."""
    base = make(CARTPOLE, num_envs=2)
    env = stack(base)
    env.reset(seed=5)
    assert env.np_random_seed == 5 and env.np_random is base.np_random
    assert env.unwrapped is base and env.device == base.device and env.num_envs == 2
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_returned_tensors_are_the_callers_own() -> None:
    """Nothing that a step returned changes when the environment goes on."""
    env = stack(make(QUADRUPED, num_envs=3, max_episode_steps=4, seed=0))
    env.reset(seed=0)
    kept = []
    for _ in range(9):
        leaves = list(tensors(env.step(torch.zeros(3, 12))))
        kept.append((leaves, [leaf.clone() for leaf in leaves]))
    for leaves, copies in kept:
        assert all(torch.equal(leaf, copy) for leaf, copy in zip(leaves, copies, strict=True))


class NoHostReads(TorchDispatchMode):
    """Raises where the host would read a tensor, which a CUDA graph cannot do."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
    allowed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = itertools.chain.from_iterable(arg for arg in args if isinstance(arg, (list, tuple)))
        by_mask = name.startswith("index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool for i in indices
        )
        assert self.allowed or not (name in self.FORBIDDEN or by_mask), f"{name} reads a tensor on the host"
        return func(*args, **(kwargs or {}))


class AllowedInside(gymnasium.vector.VectorWrapper):
    """Lets the environment, whose physics runs on the host, do what its wrappers must not."""

    env: Any

    def step(self, actions: Any) -> Any:
        NoHostReads.allowed = True
        result = self.env.step(actions)
        NoHostReads.allowed = False
        return result

    @property
    def device(self) -> torch.device:
        return self.env.device


def all_state(env: Any) -> Iterator[Tensor]:
    while isinstance(env, ours.TorchWrapper):
        yield from env._tensors().values()
        env = env.env


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_step_is_fit_for_a_cuda_graph(mode: AutoresetMode) -> None:
    """No wrapper reads a tensor on the host while stepping, and all state stays where it is in memory."""
    env = stack(AllowedInside(make(QUADRUPED, num_envs=3, max_episode_steps=3, seed=0, autoreset_mode=mode)))
    env.reset(seed=0)
    before = [tensor.data_ptr() for tensor in all_state(env)]
    actions = torch.zeros(3, 12)
    with pytest.raises(AssertionError, match="reads a tensor"), NoHostReads():
        bool(actions.any())
    with NoHostReads():
        for _ in range(5):
            env.step(actions)
    assert [tensor.data_ptr() for tensor in all_state(env)] == before and len(before) > 15


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_state_dict_continues_bit_for_bit(mode: AutoresetMode) -> None:
    """Steps after `load_state_dict` repeat those after `state_dict`, in an environment seeded otherwise."""

    def build(seed: int) -> Any:
        return stack(make(QUADRUPED, num_envs=4, max_episode_steps=6, seed=seed, autoreset_mode=mode))

    first, second = build(3), build(99)
    first.reset(seed=3), second.reset(seed=99)
    first.unwrapped.randomize_episode_phase()
    action = torch.linspace(-0.3, 0.3, 48).reshape(4, 12)
    while int(first.env.env.env.episode_count) < 6:  # so some worlds have just finished, others have not
        first.step(action)
    second.load_state_dict(first.state_dict())
    for _ in range(10):
        for expected, got in zip(tensors(first.step(action)), tensors(second.step(action)), strict=True):
            assert torch.equal(expected, got)
    assert torch.equal(first.env.env.env.return_queue, second.env.env.env.return_queue)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor of nested dicts and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def test_bad_arguments_are_named_with_value_and_remedy() -> None:
    """What cannot be is refused with the argument and its value in one line."""
    env = make(CARTPOLE, num_envs=2)
    cases: list[tuple[Any, str]] = [
        (lambda: ours.RecordEpisodeStatistics(env, 0), "buffer_length=0"),
        (lambda: ours.NormalizeObservation(env, epsilon=0.0), "epsilon=0.0"),
        (lambda: ours.NormalizeReward(env, gamma=1.5), "gamma=1.5"),
        (lambda: ours.HistoryObservation(env, 0), "length=0"),
        (lambda: ours.HistoryObservation(env, 2, groups=("critic",)), "choose among policy"),
        (lambda: ours.RescaleAction(env, 1.0, 1.0), "min_action=1.0"),
        (lambda: ours.RescaleAction(ours.ClipAction(env), 0.0, 1.0), "unbounded"),
        (lambda: ours.ActionDelay(env, (2, 1)), r"delay=\(2, 1\)"),
        (lambda: ours.ActionDelay(env, -1), "delay=-1"),
    ]
    for build, message in cases:
        with pytest.raises(ValueError, match=message):
            build()
    for wrapped in (ours.ClipAction(env), ours.RescaleAction(env, 0.0, 1.0), ours.ActionDelay(env, 1)):
        with pytest.raises(ValueError, match=r"\(1, 1\).*\(2, 1\)"):
            wrapped.step(torch.zeros(1, 1))
