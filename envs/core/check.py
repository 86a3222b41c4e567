"""Conformance of a torch vector environment with Gymnasium's contract, in every autoreset mode.

Gymnasium 1.4 checks single environments only; this is the counterpart for `gymnasium.vector.VectorEnv`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

MakeEnv = Callable[..., VectorEnv]
"""Builds the environment from the keywords `num_envs, autoreset_mode, seed, max_episode_steps`."""


def check_vector_env(make: MakeEnv, *, num_envs: int = 4, episode_steps: int = 5) -> None:
    """Check an environment in all three autoreset modes.

    Args:
        make: the environment's constructor.
        num_envs: worlds to check with, at least 2.
        episode_steps: time limit to check with [control steps].

    Raises:
        AssertionError: the environment breaks the contract; the message says where.
    """
    build = lambda mode, seed=0: make(  # noqa: E731
        num_envs=num_envs, autoreset_mode=mode, seed=seed, max_episode_steps=episode_steps
    )
    check_interface(build(AutoresetMode.SAME_STEP))
    check_seeding(build)
    check_same_step(build(AutoresetMode.SAME_STEP), episode_steps)
    check_next_step(build(AutoresetMode.NEXT_STEP), episode_steps)
    check_disabled(build(AutoresetMode.DISABLED), episode_steps)


def check_interface(env: VectorEnv) -> None:
    """Check spaces, shapes, dtypes, device, metadata, and that returned tensors are the caller's own."""
    mode = env.metadata.get("autoreset_mode")
    assert isinstance(mode, AutoresetMode), f"metadata['autoreset_mode'] is {mode!r}, no AutoresetMode"
    obs, info = env.reset(seed=0)
    assert isinstance(info, dict), "reset() must return (obs, info dict)"
    _check_contains(env, obs, "reset()")
    kept = _leaves(obs)
    copies = [leaf.clone() for leaf in kept]
    obs, reward, terminated, truncated, info = env.step(_actions(env))
    _check_contains(env, obs, "step()")
    _check_success(env, info)
    shape = (env.num_envs,)
    device = _leaves(obs)[0].device
    for name, value, dtype in (
        ("reward", reward, torch.float32),
        ("terminated", terminated, torch.bool),
        ("truncated", truncated, torch.bool),
    ):
        assert value.shape == shape and value.dtype == dtype, f"{name} is {value.dtype}{tuple(value.shape)}"
        assert value.device == device, f"{name} lives on {value.device}, observations on {device}"
    # A rollout keeps observations: a view of the simulator's memory would change under it.
    for leaf, copy in zip(kept, copies, strict=True):
        assert torch.equal(leaf, copy), "step() changed an observation returned before"
    env.close()


def check_seeding(build: Callable[..., VectorEnv]) -> None:
    """Check that equal seeds give equal trajectories, and other seeds others."""
    first, second = (_trajectory(build(AutoresetMode.SAME_STEP), seed=7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), (
        "equal seeds gave other trajectories"
    )
    other = _trajectory(build(AutoresetMode.SAME_STEP), seed=8)
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True)), (
        "another seed changed nothing"
    )
    built = [_leaves(build(AutoresetMode.SAME_STEP, seed=3).reset()[0])[0] for _ in range(2)]
    assert torch.equal(*built), "the constructor's seed does not decide the first reset"


def check_same_step(env: VectorEnv, episode_steps: int) -> None:
    """Check that a finished world returns its next episode, and its last observation in `final_obs`."""
    env.reset(seed=0)
    for step in range(2 * episode_steps):
        obs, _, terminated, truncated, info = env.step(_actions(env))
        done = terminated | truncated
        assert torch.equal(info["_final_obs"], done), "_final_obs must mark the finished worlds"
        for new, final in zip(_leaves(obs), _leaves(info["final_obs"]), strict=True):
            assert final.shape == new.shape, "final_obs must be dense"
            assert torch.equal(new[~done], final[~done]), (
                "observation of a running world differs from final_obs"
            )
            if done.any():
                assert not torch.equal(new[done], final[done]), "a finished world was not reset"
        if step == episode_steps - 1:
            assert bool(done.any()), "no episode ended at the time limit"
        assert not bool((terminated & truncated).any()), "an episode both terminated and was truncated"
    env.close()


def check_next_step(env: VectorEnv, episode_steps: int) -> None:
    """Check that the step after an episode's end resets: reward 0, flags False, action ignored."""
    env.reset(seed=0)
    done = torch.zeros(env.num_envs, dtype=torch.bool)
    seen = False
    for _ in range(2 * episode_steps + 2):
        obs, reward, terminated, truncated, info = env.step(_actions(env))
        if done.any():
            seen = True
            assert bool((reward[done] == 0).all()), "the resetting step must give reward 0"
            assert not bool((terminated | truncated)[done].any()), "the resetting step must give no flags"
            assert not bool(info["live"][done].any()), "a world that was reset did not execute its action"
        done = terminated | truncated
        _check_contains(env, obs, "step()")
    assert seen, "no episode ended at the time limit"
    env.close()


def check_disabled(env: VectorEnv, episode_steps: int) -> None:
    """Check that worlds are reset by mask only, and that the others are left alone."""
    env.reset(seed=0)
    for _ in range(episode_steps):
        _, _, terminated, truncated, _ = env.step(_actions(env))
    assert bool((terminated | truncated).all()), "an episode went on after the time limit"

    mask = np.zeros(env.num_envs, dtype=bool)
    mask[0] = True
    physics: Any = getattr(env.unwrapped, "physics")  # noqa: B009  the base class does not know it
    before = physics.field("qpos").clone()
    env.reset(options={"reset_mask": mask})
    after = physics.field("qpos")
    assert not torch.equal(before[0], after[0]), "the masked world was not reset"
    assert torch.equal(before[1:], after[1:]), "a world outside the mask changed"
    for wrong in (
        np.zeros(env.num_envs, dtype=bool),
        np.ones(env.num_envs + 1, dtype=bool),
        np.ones(env.num_envs),
    ):
        try:
            env.reset(options={"reset_mask": wrong})
        except ValueError:
            continue
        raise AssertionError(f"reset_mask {wrong} was accepted")
    env.close()


def _actions(env: VectorEnv) -> Tensor:
    """Return fixed, not constant actions within the action space."""
    shape = env.action_space.shape or ()
    return torch.linspace(-0.5, 0.5, int(np.prod(shape))).reshape(shape)


def _trajectory(env: VectorEnv, *, seed: int) -> list[Tensor]:
    collected = list(_leaves(env.reset(seed=seed)[0]))
    for _ in range(8):
        obs, reward, *_ = env.step(_actions(env))
        collected += [*_leaves(obs), reward]
    env.close()
    return collected


def _check_success(env: VectorEnv, info: dict[str, Any]) -> None:
    """Check that a task reports success exactly if it says so: training shows a success rate only then."""
    defines_success: bool = getattr(env.unwrapped, "defines_success", False)
    reports_success = "success" in info
    assert reports_success == defines_success, (
        f"defines_success is {defines_success}, but step() returned info with the keys {sorted(info)}"
    )


def _leaves(obs: Any) -> list[Tensor]:
    if isinstance(obs, dict):
        return list(obs.values())
    return [obs]


def _check_contains(env: VectorEnv, obs: Any, where: str) -> None:
    if isinstance(obs, dict):
        as_numpy = {k: v.cpu().numpy() for k, v in obs.items()}
    else:
        as_numpy = obs.cpu().numpy()
    assert env.observation_space.contains(as_numpy), f"{where} returned an observation outside the space"
