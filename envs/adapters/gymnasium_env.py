"""Any environment of Gymnasium's registry as one that speaks torch."""

from __future__ import annotations

import contextlib
import functools
import os
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from factory.envs.adapters import gymnasium_worlds as worlds
from factory.envs.adapters.gymnasium_workers import Workers
from factory.envs.adapters.spaces import flat_size, flatten, native_actions
from factory.envs.core.errors import WorldError
from factory.envs.core.shard import Shard
from factory.envs.core.soundness import blank, blank_step, unsound
from factory.envs.core.training_env import TrainingEnv
from factory.envs.physics import PhysicsConfig
from factory.envs.rendering import RenderingUnavailableError
from factory.envs.rendering.in_process import load_triton_first
from factory.envs.rendering.renderer import PassthroughRenderer, Renderer
from factory.runtime.awake_time import awake_s

_DEFAULT_EPISODE_STEPS = 1000
_SUCCESS_KEYS = ("success", "is_success")
"""Keys of an environment's info that report success, the first that is there counts."""
_SEED_LIMIT = 2**31 - 2**24
"""Many simulators take seeds of 31 bits; this leaves room for the consecutive seeds of 16 million worlds."""


class GymnasiumEnv(TrainingEnv):
    """`num_envs` worlds of a registered environment, built by `gymnasium.make_vec`.

    Observations are flattened as by `gymnasium.spaces.flatten`; the policy's actions lie in [-1, 1] where the
    environment's are bounded, or are indices. A world with unsound values starts anew, see `TrainingEnv`, but
    goes on in an environment's own batched version.

    A world that ended is reset in the same step where Gymnasium does the batching; an environment's own
    batched version may take a step for it (`AutoresetMode.NEXT_STEP`), in which the world is not `live`.

    An episode is a success if info says so (`success` or `is_success`; of an array, all entries), else if its
    return reaches the registered `reward_threshold`. Without either, success is not defined.
    """

    reward_terms = ("reward",)
    resumes_exactly = False

    def __init__(
        self,
        env_id: str,
        *,
        num_envs: int = 1,
        kwargs: Mapping[str, Any] | None = None,
        wrapper_names: Sequence[str] = (),
        vectorization: str = "auto",
        max_episode_steps: int = 0,
        step_timeout_s: float = 0.0,
        device: str | torch.device = "cpu",
        physics: str | PhysicsConfig = "",
        num_threads: int = 0,
        seed: int | None = None,
        render_mode: str | None = None,
        shard: Shard = Shard(),  # noqa: B008  it is immutable
    ) -> None:
        """Build the worlds.

        Args:
            env_id: as registered, or `module:Id` to import `module` first.
            num_envs: worlds.
            kwargs: keywords of the environment's constructor.
            wrapper_names: `module:Wrapper` of every wrapper of a single environment, the innermost first.
            vectorization: one of `factory.envs.adapters.gymnasium_config.VECTORIZATIONS`.
            max_episode_steps: time limit [control steps]; 0 takes the registered one, or 1000.
            step_timeout_s: longest step of worlds in processes of their own [s]; 0 sets no limit.
            device: where tensors live.
            physics: without effect, as is `num_threads`: the environment brings its own engine.
            num_threads: see `physics`.
            seed: of the first reset.
            render_mode: None or rgb_array.
            shard: of a run's worlds; each world's seed is that of its place among all.

        Raises:
            ValueError: there is no such environment, it cannot be built, or no policy fits its spaces.
            RenderingUnavailableError: it cannot be built with this `render_mode`.
        """
        self.env_id = env_id
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.render_mode = render_mode
        self._next_seed = seed
        self._seed = seed or 0
        self._first_world = shard.rows(num_envs).start
        self._engine_s = 0.0
        self._failed = False
        self.closed = True  # while there is nothing to close
        self._workers = Workers(env_id, timeout_s=step_timeout_s)
        if render_mode:
            load_triton_first()
        with worlds.refusals(env_id, is_rendered=bool(render_mode)):
            spec = worlds.find_spec(env_id)
            own = dict(kwargs or {})
            self.inner = self._build(spec, own, wrapper_names, vectorization, max_episode_steps)
        self.closed = False
        self._set_spaces()
        self._control_steps = torch.zeros((), dtype=torch.int64)
        self._pending_reset = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._returns = torch.zeros(num_envs, device=self.device)
        self._threshold = spec.reward_threshold
        self.defines_success = self._threshold is not None

    def _build(
        self,
        spec: Any,
        kwargs: dict[str, Any],
        wrappers: Sequence[str],
        vectorization: str,
        max_episode_steps: int,
    ) -> Any:
        """Return the worlds; set time limit, notes and engine name."""
        mode = worlds.choose_batching(spec, vectorization, is_wrapped=bool(wrappers))
        self.physics_name = f"gymnasium {mode}"
        self.max_episode_steps = max_episode_steps or spec.max_episode_steps or _DEFAULT_EPISODE_STEPS
        if self.max_episode_steps != spec.max_episode_steps:
            kwargs["max_episode_steps"] = self.max_episode_steps
        if not max_episode_steps and spec.max_episode_steps is None:
            limit = f"they end after {_DEFAULT_EPISODE_STEPS} steps at the latest (task.max_episode_steps)"
            self.notes = (f"{self.env_id} is registered without a time limit of its episodes: {limit}",)
        if self.render_mode:
            os.environ.setdefault("SDL_VIDEODRIVER", "offscreen,dummy")  # no window, and no screen needed
            kwargs["render_mode"] = self.render_mode

        batching: dict[str, Any] = {}
        if mode != "vector_entry_point":
            kwargs["disable_env_checker"] = True
            batching["vector_kwargs"] = {"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False}
            batching["wrappers"] = [self._workers.prepare, *worlds.load_wrappers(wrappers)]
        # Gymnasium reports a worker's traceback as warnings of this process.
        self._collect_warnings: Callable[[], Any] = functools.partial(contextlib.nullcontext, ())
        if mode == "async":
            self.limits_steps = True
            self._collect_warnings = functools.partial(warnings.catch_warnings, record=True)
        return gymnasium.make_vec(spec, self.num_envs, vectorization_mode=mode, **batching, **kwargs)

    def _set_spaces(self) -> None:
        """Take over spaces, autoreset mode and control rate; close the worlds if that is impossible."""
        self.autoreset_mode = self.inner.metadata.get("autoreset_mode")
        try:
            self.native_actions = native_actions(self.inner.single_action_space)
            size = flat_size(self.inner.single_observation_space)
            if self.autoreset_mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
                raise ValueError(
                    "its batched version does not reset worlds by itself; add task.vectorization=sync"
                )
        except ValueError as error:
            self.close()
            raise ValueError(f"env_id={self.env_id}: {error}") from error
        rate_hz = float(self.inner.metadata.get("render_fps") or 1.0)
        self.step_dt_s = 1.0 / rate_hz
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": rate_hz,
        }
        self.single_action_space = self.native_actions.policy_space
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    # Gymnasium's interface.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Start a new episode in every world; equal seeds start equal ones if the environment respects them.

        Raises:
            WorldError: a world failed.
        """
        seed = self._next_seed if seed is None else seed
        self._next_seed = None
        first_seed = None
        if seed is not None:
            # Worlds get consecutive seeds: spread them, so that the next seed's worlds are others.
            spread = int(np.random.SeedSequence(seed).generate_state(1)[0]) >> 1
            first_seed = spread % _SEED_LIMIT + self._first_world
        obs, _ = self._run("reset", seed=first_seed, options=options)
        self._pending_reset.zero_()
        self._returns.zero_()
        first = self._to_torch(flatten(self.inner, obs))
        return blank(unsound(first), first), {}

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every world by one control step.

        Shape of `actions`: (num_envs, size) float, or of indices (num_envs,) int64 or (num_envs, 1) float.

        Raises:
            WorldError: a world failed.
        """
        given = torch.as_tensor(actions).cpu().reshape(self.action_space.shape or (-1,))
        bad_actions = unsound(given)
        native = self.native_actions(blank(bad_actions, given)).numpy()
        native = native.astype(self.inner.action_space.dtype, copy=False)
        started = awake_s()
        raw_obs, raw_reward, raw_terminated, raw_truncated, inner_info = self._run("step", native)
        self._engine_s += awake_s() - started
        self._control_steps += 1
        obs = self._to_torch(flatten(self.inner, raw_obs))
        reward = self._to_torch(np.array(raw_reward, dtype=np.float32))
        terminated = self._to_torch(np.array(raw_terminated, dtype=np.bool_))
        truncated = self._to_torch(np.array(raw_truncated, dtype=np.bool_))
        done = terminated | truncated
        final_obs = self._final(obs, done, inner_info)
        nonfinite = unsound(obs, final_obs, reward) | bad_actions.to(self.device)
        info = {"live": ~self._pending_reset, "nonfinite": nonfinite, "reward_terms": reward[:, None]}
        self._pending_reset = done & (self.autoreset_mode is AutoresetMode.NEXT_STEP)
        if nonfinite.any():
            last, reward, info = blank_step(nonfinite, {"policy": final_obs}, reward, info)
            final_obs = last["policy"]
            obs = self._restart(nonfinite & ~done, blank(nonfinite, obs))
            terminated = terminated | nonfinite
            done = done | nonfinite
        success = self._success(inner_info, reward, done)
        if success is not None:
            info["success"] = success
            self.defines_success = True
        info["outcome"] = self.outcome_of(info, terminated, nonfinite)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            info |= {"final_obs": final_obs, "_final_obs": done}
        return obs, reward, terminated, truncated & ~terminated, info

    def close_extras(self, **kwargs: Any) -> None:
        """End the worlds and their processes."""
        if self._failed and self.limits_steps:
            self._workers.end(self.inner)
        else:
            self.inner.close()

    # What training asks of an environment.

    @property
    def physics_s(self) -> float:
        """Wall time spent in steps of the environment's own code since construction [s]."""
        return self._engine_s

    @property
    def robot_name(self) -> str:
        """Return `none`: these tasks offer no choice of robots."""
        return "none"

    @property
    def layout(self) -> dict[str, str]:
        """Describe an exported policy's inputs and outputs: the environment's own values."""
        observation = f"gymnasium.spaces.flatten of {self.inner.single_observation_space}"
        return {"observation": observation, "action": str(self.inner.single_action_space)}

    def snapshot(self) -> np.ndarray:
        """Return the picture of world 0. Shape: (height, width, 3) uint8.

        Raises:
            RenderingUnavailableError: the environment draws none here.
        """
        try:
            pictures = self.inner.render()
        except Exception as error:
            reason = worlds.one_line(error, trace=traceback.format_exc())
            raise RenderingUnavailableError(f"env_id={self.env_id}: {reason}") from error
        if pictures is None or pictures[0] is None:
            raise RenderingUnavailableError(f"env_id={self.env_id}: it draws no rgb_array pictures")
        return np.array(pictures[0], dtype=np.uint8)

    def open_renderer(self, *, width: int, height: int, backend: str) -> Renderer:
        """Return a renderer that shows the pictures as they were taken, in the environment's own size."""
        return PassthroughRenderer()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that decides the episodes after a resume: running episodes cannot be saved."""
        return {"control_steps": self._control_steps.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Let the next reset start episodes that the run has not played yet."""
        self._control_steps = state["control_steps"].clone()
        entropy = [self._seed, int(self._control_steps)]
        self._next_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        note = f"the episodes of {self.env_id} cannot be saved: new ones start"
        self.notes = tuple(dict.fromkeys((*self.notes, note)))

    def _success(self, inner_info: dict[str, Any], reward: Tensor, done: Tensor) -> Tensor | None:
        """Return the worlds that succeed in this step (num_envs,), or None if success is not defined."""
        self._returns += reward
        reaches = None if self._threshold is None else done & (self._returns >= self._threshold)
        self._returns.masked_fill_(done, 0.0)
        # Where the next episode began in the same step, the last info of the old one is kept apart.
        last = inner_info.get("final_info", inner_info)
        for key in _SUCCESS_KEYS:
            if key in last:
                return self._to_torch(worlds.flags(self.env_id, key, last[key], num_envs=self.num_envs))
        return reaches

    def _final(self, obs: Tensor, done: Tensor, inner_info: dict[str, Any]) -> Tensor:
        """Return the last observations (num_envs, size) of episodes that ended, and `obs` elsewhere."""
        last = inner_info.get("final_obs")
        if last is None:
            return obs
        if isinstance(last, np.ndarray) and last.dtype == object:
            # Gymnasium's batching: one entry for each world that ended.
            final = obs.clone()
            single = self.inner.single_observation_space
            for world in done.nonzero().flatten().tolist():
                row = np.array(spaces.flatten(single, last[world]), dtype=np.float32)
                final[world] = self._to_torch(row)
            return final
        return torch.where(done[:, None], self._to_torch(flatten(self.inner, last)), obs)

    def _restart(self, mask: Tensor, obs: Tensor) -> Tensor:
        """Return `obs` with the first ones of new episodes in `mask`, if worlds can be reset one by one."""
        if not (mask.any() and worlds.can_reset_some(self.inner)):
            return obs
        first, _ = self._run("reset", options={"reset_mask": mask.numpy(force=True)})
        return torch.where(mask[:, None], self._to_torch(flatten(self.inner, first)), obs)

    def _to_torch(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(value).to(self.device)

    def _run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call `step` or `reset` of the worlds; an exception of theirs becomes one line."""
        with self._collect_warnings() as collected:
            try:
                return self._workers.call(self.inner, name, *args, **kwargs)
            except Exception as error:
                self._failed = True
                if isinstance(error, WorldError):
                    raise
                trace = "\n".join(str(warning.message) for warning in collected) or traceback.format_exc()
                reason = worlds.one_line(error, trace=trace)
                raise WorldError(f"env_id={self.env_id}: a world failed: {reason}", trace=trace) from error
