"""Conformance of a torch vector environment with Gymnasium's contract, in every autoreset mode.

Gymnasium 1.4 checks single environments only; this is the counterpart for `gymnasium.vector.VectorEnv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

MakeEnv = Callable[..., VectorEnv]
"""Builds the environment from the keywords `num_envs, autoreset_mode, seed, max_episode_steps`."""


CHECKED = """\
spaces, shapes, dtypes, devices, and finite rewards
returned tensors that later steps leave alone
equal seeds repeat, other seeds and other actions differ
time limits truncate, and only they
SAME_STEP: final_obs of finished worlds, and their next episode
NEXT_STEP: a step that only resets
DISABLED: resets by mask
outcomes and metrics of episodes"""
"""Parts of the check, for its message."""


def check_vector_env(make: MakeEnv, *, num_envs: int = 4, episode_steps: int = 5) -> None:
    """Check an environment in all three autoreset modes, and print what was checked.

    Args:
        make: the environment's constructor.
        num_envs: worlds to check with, at least 2.
        episode_steps: time limit to check with [control steps].

    Raises:
        AssertionError: the environment breaks the contract; the message says where.
    """

    def build(mode: AutoresetMode, *, seed: int = 0, max_episode_steps: int = episode_steps) -> VectorEnv:
        return make(num_envs=num_envs, autoreset_mode=mode, seed=seed, max_episode_steps=max_episode_steps)

    check_interface(build(AutoresetMode.SAME_STEP), num_envs=num_envs)
    check_seeding(build)
    check_time_limit(build, episode_steps)
    check_same_step(build(AutoresetMode.SAME_STEP), episode_steps)
    check_next_step(build(AutoresetMode.NEXT_STEP), episode_steps)
    check_disabled(build(AutoresetMode.DISABLED), episode_steps)
    check_outcomes(build(AutoresetMode.SAME_STEP), episode_steps)
    listed = "\n".join(f"  {line}" for line in CHECKED.splitlines())
    print(f"{num_envs} environments conform to gymnasium.vector.VectorEnv; checked:\n{listed}")


def check_interface(env: VectorEnv, *, num_envs: int) -> None:
    """Check spaces, shapes, dtypes, device, metadata, and that returned tensors are the caller's own."""
    mode = env.metadata.get("autoreset_mode")
    assert isinstance(mode, AutoresetMode), f"metadata['autoreset_mode'] is {mode!r}, no AutoresetMode"
    assert env.num_envs == num_envs, f"num_envs is {env.num_envs}, built with {num_envs}"
    obs, info = env.reset(seed=0)
    assert isinstance(info, dict), "reset() must return (obs, info dict)"
    _check_contains(env, obs, "reset()")
    # A rollout keeps what it got: a view of the simulator's memory would change under it.
    first = _named_leaves("observation", obs)
    copies = {name: leaf.clone() for name, leaf in first.items()}
    obs, reward, terminated, truncated, info = env.step(_actions(env))
    _check_contains(env, obs, "step()")
    _check_success(env, info)
    _check_reward_terms(env, info)
    device = _leaves(obs)[0].device
    for name, value, dtype in (
        ("reward", reward, torch.float32),
        ("terminated", terminated, torch.bool),
        ("truncated", truncated, torch.bool),
    ):
        assert isinstance(value, Tensor), f"{name} is a {type(value).__name__}, no tensor"
        assert value.dtype == dtype, f"{name} is {value.dtype}, must be {dtype}"
        assert value.shape == (num_envs,), f"{name} has shape {tuple(value.shape)}, must be ({num_envs},)"
        assert value.device == device, f"{name} lives on {value.device}, observations on {device}"
    assert bool(reward.isfinite().all()), f"reward is not finite: {reward.tolist()}"

    returned = _named_leaves("observation", obs)
    returned |= {"reward": reward, "terminated": terminated, "truncated": truncated}
    returned |= _named_leaves("final_obs", _entry(info, "final_obs"))
    # Two more steps with other actions: memory that is used again would show here.
    second = {name: value.clone() for name, value in returned.items()}
    for _ in range(2):
        env.step(_actions(env, sign=-1.0))
    for kept, before in ((first, copies), (returned, second)):
        for name, value in kept.items():
            assert torch.equal(value, before[name]), f"step() changed the {name} returned before"
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
    # An environment that ignores its actions would pass everything else.
    opposite = _trajectory(build(AutoresetMode.SAME_STEP), seed=7, sign=-1.0)
    assert not all(torch.equal(a, b) for a, b in zip(first, opposite, strict=True)), (
        "opposite actions changed nothing"
    )
    built = [_leaves(build(AutoresetMode.SAME_STEP, seed=3).reset()[0])[0] for _ in range(2)]
    assert torch.equal(*built), "the constructor's seed does not decide the first reset"


def check_time_limit(build: Callable[..., VectorEnv], episode_steps: int) -> None:
    """Check that an episode is truncated exactly at the time limit, and terminated by the task alone."""
    # With a longer limit, the same episodes show which of them the task itself ends.
    limited = build(AutoresetMode.SAME_STEP)
    longer = build(AutoresetMode.SAME_STEP, max_episode_steps=3 * episode_steps)
    for env in (limited, longer):
        env.reset(seed=0)
    is_first = torch.ones(limited.num_envs, dtype=torch.bool)
    for step in range(1, episode_steps + 1):
        _, _, terminated, truncated, _ = limited.step(_actions(limited))
        _, _, ended, cut, _ = longer.step(_actions(longer))
        at_limit = step == episode_steps
        # Worlds in their first episode: later ones began at different times.
        for name, flags in (("truncated", cut), ("truncated", truncated & (not at_limit))):
            assert not bool((flags.cpu() & is_first).any()), f"{name} before the time limit, at step {step}"
        unlike = (terminated != ended).cpu() & is_first
        assert not bool(unlike.any()), (
            f"terminated at step {step} depends on the time limit; a time limit must set truncated instead"
        )
        if at_limit:
            going_on = is_first & ~ended.cpu()
            assert bool(truncated.cpu()[going_on].all()), "the time limit did not set truncated"
        is_first &= ~(terminated | truncated | ended).cpu()
    limited.close()
    longer.close()


def check_same_step(env: VectorEnv, episode_steps: int) -> None:
    """Check that a finished world returns its next episode, and its last observation in `final_obs`."""
    env.reset(seed=0)
    for step in range(2 * episode_steps):
        obs, _, terminated, truncated, info = env.step(_actions(env))
        done = terminated | truncated
        assert torch.equal(_entry(info, "_final_obs"), done), "_final_obs must mark the finished worlds"
        finals = _leaves(_entry(info, "final_obs"))
        assert len(finals) == len(_leaves(obs)), "final_obs must have the groups of the observation"
        for new, final in zip(_leaves(obs), finals, strict=True):
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
            assert not bool(_entry(info, "live")[done].any()), (
                "a world that was reset did not execute its action"
            )
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
    before = _state_rows(env)
    env.reset(options={"reset_mask": mask})
    after = _state_rows(env)
    assert any(not torch.equal(before[name][0], after[name][0]) for name in before), (
        "the masked world was not reset"
    )
    for name, value in before.items():
        assert torch.equal(value[1:], after[name][1:]), f"a world outside the mask changed: {name}"
    # None selected, one too many, and no booleans.
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


def check_outcomes(env: VectorEnv, episode_steps: int) -> None:
    """Check that every episode ends with one outcome that the environment names, and has its metrics."""
    own: Any = env.unwrapped
    if not hasattr(own, "outcome_names"):
        return
    names: tuple[str, ...] = own.outcome_names
    assert len(set(names)) == len(names), f"outcome_names has a name twice: {names}"
    keys = (*names, *own.episode_metrics)
    unfit = [name for name in keys if not re.fullmatch("[a-z][a-z0-9_]*", name)]
    assert not unfit, f"{unfit}: names of outcomes and episode metrics have lower case letters, digits and _"
    env.reset(seed=0)
    for _ in range(2 * episode_steps):
        _, _, terminated, truncated, info = env.step(_actions(env))
        _check_ends(env, names, terminated, truncated, info)
    env.close()


def _check_ends(
    env: VectorEnv, names: tuple[str, ...], terminated: Tensor, truncated: Tensor, info: dict[str, Any]
) -> None:
    """Check the outcomes and metrics of the episodes that a step ended."""
    own: Any = env.unwrapped
    codes = _entry(info, "outcome")
    assert codes.dtype == torch.int64 and codes.shape == (env.num_envs,), (
        f"info['outcome'] is {codes.dtype} {tuple(codes.shape)}, must be int64 ({env.num_envs},)"
    )
    done = terminated | truncated
    wrong = sorted(set(codes[done].tolist()) - set(range(len(names))))
    assert not wrong, f"info['outcome'] has the codes {wrong} for {len(names)} outcomes"
    # The last two are the time limit and divergence.
    timed_out = codes == len(names) - 2
    assert not bool((timed_out & terminated).any()), "an episode that the task ended has the outcome timeout"
    if own.defines_success:
        succeeded = codes == names.index("success")
        assert torch.equal(succeeded[done], _entry(info, "success")[done]), (
            "info['success'] and the outcome success differ where episodes ended"
        )
        timed_out |= succeeded
    assert bool(timed_out[truncated].all()), "an episode cut by the time limit has the outcome of another end"
    metrics = info.get("episode_metrics", {})
    assert sorted(metrics) == sorted(own.episode_metrics), (
        f"info['episode_metrics'] has {sorted(metrics)}, but episode_metrics names {own.episode_metrics}"
    )
    for name, value in metrics.items():
        shape = tuple(value.shape)
        assert shape == (env.num_envs,), f"episode_metrics[{name!r}] has shape {shape}"
        assert not bool(value[done].isinf().any()), f"episode_metrics[{name!r}] is infinite"


def _state_rows(env: VectorEnv) -> dict[str, Tensor]:
    """Return copies of the tensors that a reset writes, with a row for each world."""
    own: Any = env.unwrapped
    if hasattr(own, "physics"):
        return {"qpos": own.physics.field("qpos").clone()}
    assert own.persistent, "persistent names no tensor: a resumed run could not go on"
    return {name: getattr(own, name).clone() for name in own.persistent}


def _actions(env: VectorEnv, *, sign: float = 1.0) -> Tensor:
    """Return fixed, not constant actions within the action space, or their opposites."""
    single = env.single_action_space
    if isinstance(single, Discrete):
        choices = torch.arange(env.num_envs) % int(single.n)
        if sign < 0.0:
            choices = int(single.n) - 1 - choices
        return choices
    shape = env.action_space.shape or ()
    return sign * torch.linspace(-0.5, 0.5, int(np.prod(shape))).reshape(shape)


def _entry(info: dict[str, Any], key: str) -> Any:
    """Return an entry of info.

    Raises:
        AssertionError: it is missing.
    """
    assert key in info, f"step() returned an info without {key!r}; it has {sorted(info)}"
    return info[key]


def _trajectory(env: VectorEnv, *, seed: int, sign: float = 1.0) -> list[Tensor]:
    collected = list(_leaves(env.reset(seed=seed)[0]))
    for _ in range(8):
        obs, reward, *_ = env.step(_actions(env, sign=sign))
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


def _check_reward_terms(env: VectorEnv, info: dict[str, Any]) -> None:
    """Check that the named reward terms are the columns of `info["reward_terms"]`."""
    names: tuple[str, ...] = getattr(env.unwrapped, "reward_terms", ())
    if names:
        shape = tuple(_entry(info, "reward_terms").shape)
        expected = (env.num_envs, len(names))
        assert shape == expected, f"info['reward_terms'] has shape {shape}, must be {expected} for {names}"


def _named_leaves(name: str, obs: Any) -> dict[str, Tensor]:
    """Return the tensors of an observation with names for messages."""
    if isinstance(obs, dict):
        return {f"{name}[{group!r}]": value for group, value in obs.items()}
    return {name: obs}


def _leaves(obs: Any) -> list[Tensor]:
    if isinstance(obs, dict):
        return list(obs.values())
    return [obs]


def _check_contains(env: VectorEnv, obs: Any, where: str) -> None:
    as_numpy: Any
    if isinstance(obs, dict):
        as_numpy = {k: v.cpu().numpy() for k, v in obs.items()}
    else:
        assert isinstance(obs, Tensor), f"{where} returned a {type(obs).__name__}, no tensor"
        as_numpy = obs.cpu().numpy()
    assert env.observation_space.contains(as_numpy), f"{where} returned an observation outside the space"
