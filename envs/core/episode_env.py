"""Episodes of many worlds in one batch, whatever simulates them."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from factory.envs.core.observations import (
    ClampToBox,
    Observation,
    checked_actions,
    checked_mask,
    unwrap_single_group,
    unwrap_single_space,
)
from factory.envs.core.outcomes import FALL, SUCCESS
from factory.envs.core.shard import Shard
from factory.envs.core.single_env import SingleEnv
from factory.envs.core.soundness import blank_step, surely_sound, unsound
from factory.envs.core.training_env import TrainingEnv
from factory.envs.physics import PhysicsConfig
from factory.envs.rendering import RenderingUnavailableError
from factory.envs.rendering.renderer import Renderer
from factory.runtime.awake_time import awake_s


class EpisodeEnv(TrainingEnv):
    """`num_envs` rows that speak torch, each with an episode of its own; one subclass a task.

    A row is a world, or one of the `agents_per_world` agents of a world: rows of the same world are
    neighbours, `view(num_worlds, agents_per_world, ...)` groups them, and each starts anew by itself while
    the others go on. Observations, rewards (float32) and flags (bool) live on `device`. Every step is
    graph-safe: static shapes, masked resets, randomness from the environment's own generator.

    A task that torch alone simulates names its `config` and `step_dt_s`, and implements `_action_box`,
    `_reset_envs`, `_advance`, `_get_rewards_and_dones` and `_get_observations`; `BatchEnv` has MuJoCo.

    Order within `step`: `_advance` -> `_get_rewards_and_dones` (task clocks, reward, termination) ->
    final observation -> reset of the finished rows -> observation. In SAME_STEP mode `obs` of a
    finished row is the first of its next episode and `info["final_obs"]` (dense, valid where
    `info["_final_obs"]`) the last of the old one.
    """

    config: type[Any]
    """Class of the task's settings, a `TaskConfig`; its `engines` name what may simulate the task."""
    persistent: tuple[str, ...] = ()
    """Names of the task's own tensors (num_envs, ...) that `state_dict` keeps beside episode clocks."""
    capturable = True

    def __init__(
        self,
        *,
        num_envs: int = 1,
        device: str | torch.device = "cpu",
        physics: str | PhysicsConfig = "auto",
        num_threads: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        seed: int | None = None,
        render_mode: str | None = None,
        shard: Shard = Shard(),  # noqa: B008  it is immutable
        **task: Any,
    ) -> None:
        """Build `shard` of all worlds; `task` are the values of `config` that differ from its defaults."""
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}: must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode}: choose None or rgb_array")
        self.num_envs = num_envs
        self.shard = shard
        self.device = torch.device(device)
        # A CPU may look at a value and save work; to wait for a GPU's would cost more than it saves.
        self._reads_values = self.device.type == "cpu"
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.cfg: Any = self.config(**task)
        self.cfg.check_num_envs(num_envs)
        self.agents_per_world: int = self.cfg.agents_per_world
        self.num_worlds = num_envs // self.agents_per_world
        self.max_episode_steps: int = self.cfg.max_episode_steps
        self.defines_success = self.defines_success or SUCCESS in self.outcomes
        self.defines_fall = self.defines_fall or FALL in self.outcomes
        engine = PhysicsConfig.of(physics).one_of(self.cfg.engines)
        self.physics_name = engine.name
        self._open_engine(engine, num_threads=num_threads)
        self.generator = torch.Generator(device=self.device)
        self._seed(seed)
        self.episode_steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._pending_reset = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._all_worlds = torch.ones(num_envs, dtype=torch.bool, device=self.device)
        self._no_worlds = ~self._all_worlds
        self._advance_s = 0.0
        self._setup()
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": round(1.0 / self.step_dt_s),
        }
        self._set_spaces()

    @classmethod
    def single(cls, **kwargs: Any) -> SingleEnv:
        """Build the version of a task with one row, for `gymnasium.make`."""
        if "agents_per_world" in {entry.name for entry in dataclasses.fields(cls.config)}:
            # One agent, alone in its world.
            kwargs = {"agents_per_world": 1} | kwargs
        return SingleEnv(cls(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **kwargs))

    # Hooks that a task implements.

    def _open_engine(self, engine: PhysicsConfig, *, num_threads: int) -> None:
        """Open the physics engine, where there is one; `num_threads` are those that it may have."""
        if engine.name != "none":
            raise ValueError(
                f"physics={engine.name}: {type(self).__name__} has no engine; set engines = ('none',) in "
                f"{self.config.__name__}, or derive the task from BatchEnv"
            )

    def _setup(self) -> None:
        """Place constants and the task's own tensors on the device."""

    @abstractmethod
    def _action_box(self) -> Box:
        """Return the bounds of one row's action."""

    @abstractmethod
    def _reset_envs(self, mask: Tensor) -> None:
        """Write a new initial state for the rows in `mask` (num_envs,), and for no other."""

    @abstractmethod
    def _advance(self, action: Tensor) -> None:
        """Carry out `action` (num_envs, action_size) for one control step.

        Actions beyond the bounds arrive as they are; `self.native_actions` moves them inside.
        """

    @abstractmethod
    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return reward (num_envs,) float32, terminated (num_envs,) bool and info for the step just made."""

    @abstractmethod
    def _get_observations(self) -> Observation:
        """Return fresh observation tensors for the state now. Shapes: (num_envs, size) float32."""

    # Gymnasium's interface.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all rows, or those in `options["reset_mask"]` (numpy or torch bool, (num_envs,)).

        Raises:
            ValueError: the mask has a wrong shape or type, or selects nothing.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._seed(seed)
        mask = self._all_worlds
        if options and options.get("reset_mask") is not None:
            mask = checked_mask(self, options["reset_mask"])
        self._reset(mask)
        return unwrap_single_group(self._get_observations()), {}

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every row by one control step. Shape of `actions`: (num_envs, action_size) float.

        `info["live"]` marks rows that executed their action (all, except those NEXT_STEP resets in
        this call). A row with an action, observation or reward that is not finite or absurdly large
        is terminated and marked in `info["nonfinite"]`, see `TrainingEnv`.
        """
        action = checked_actions(self, actions)
        # NEXT_STEP: these rows are simulated with the others, and the results are thrown away.
        reset_now = self._pending_reset.clone()
        start_s = awake_s()
        self._advance(action)
        self._advance_s += awake_s() - start_s
        self.episode_steps += 1
        reward, terminated, info = self._get_rewards_and_dones()
        obs = self._get_observations()
        nonfinite = self._no_worlds
        # MuJoCo takes a control that is not finite for 0, so that only the action itself shows it.
        if not (self._reads_values and surely_sound(action, reward, *obs.values())):
            nonfinite = unsound(action, reward, *obs.values())
            if self._any_or_gpu(nonfinite):
                obs, reward, info = blank_step(nonfinite, obs, reward, info)
        terminated = terminated | nonfinite
        # A terminal state at the time limit is terminal: there is nothing to bootstrap.
        truncated = (self.episode_steps >= self.max_episode_steps) & ~terminated
        # A task knows of further rows that no action moves, such as cars that wait for a free road.
        live = ~reset_now & info.get("live", self._all_worlds)
        info |= {"nonfinite": nonfinite, "live": live} | self._outcome(info, terminated, nonfinite)
        return self._autoreset(obs, reward, terminated, truncated, info, reset_now=reset_now)

    # Video. Tasks that are drawn derive from `PlanView`, too, or from `BatchEnv`.

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return None without `render_mode="rgb_array"`.

        Raises:
            RenderingUnavailableError: this task has no pictures.
        """
        if self.render_mode is None:
            return None
        return self.snapshot()

    def snapshot(self) -> Any:
        """Raise RenderingUnavailableError: this task has no pictures."""
        raise RenderingUnavailableError(f"{type(self).__name__} has no pictures")

    def open_renderer(self, *, width: int, height: int, backend: str = "auto") -> Renderer:
        """Raise RenderingUnavailableError: this task has no pictures."""
        return self.snapshot()

    # State.

    @property
    def physics_s(self) -> float:
        """Wall time on a CPU in which the rows were advanced, since construction [s]; 0 on a GPU."""
        if self.device.type != "cpu":
            return 0.0
        return self._advance_s

    def randomize_episode_phase(self) -> None:
        """Let running episodes end at different times, so that a rollout holds every part of an episode.

        They end in 32 groups: on a CPU a step in which no world ends is cheaper.
        """
        group = (self.uniform(0.0, 1.0) * 32).floor()
        self.episode_steps.copy_((group * self.max_episode_steps / 32).long())

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of episode clocks, generator and task tensors, keyed by name."""
        own = ("episode_steps", "_pending_reset", *self.persistent)
        state = {f"env/{name}": getattr(self, name).clone() for name in own}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict()`; later steps repeat exactly."""
        for key in (key for key in state if key.startswith("env/")):
            getattr(self, key.removeprefix("env/")).copy_(state[key])
        self.generator.set_state(state["generator"].cpu())

    # Helpers of subclasses.

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Draw from U(low, high). Shape: (num_envs, *size) float32."""
        sample = partial(torch.rand, generator=self.generator, device=self.device)
        return self.shard.draw(sample, self.num_envs, *size) * (high - low) + low

    def normal(self, *size: int) -> Tensor:
        """Draw from N(0, 1). Shape: (num_envs, *size) float32."""
        sample = partial(torch.randn, generator=self.generator, device=self.device)
        return self.shard.draw(sample, self.num_envs, *size)

    def _outcome(self, info: dict[str, Any], terminated: Tensor, nonfinite: Tensor) -> dict[str, Tensor]:
        """Return the entries `outcome` and, where it is an end that the task names, `success`."""
        codes = self.outcome_of(info, terminated, nonfinite)
        if SUCCESS in self.outcomes:
            return {"outcome": codes, SUCCESS: codes == self.outcomes.index(SUCCESS)}
        return {"outcome": codes}

    def _autoreset(
        self,
        obs: Observation,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        info: dict[str, Any],
        *,
        reset_now: Tensor,
    ) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            reward = torch.where(reset_now, torch.zeros_like(reward), reward)
            terminated = terminated & ~reset_now
            truncated = truncated & ~reset_now
            obs = self._merge_reset_obs(reset_now, obs)
            self._pending_reset.copy_(terminated | truncated)
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            done = terminated | truncated
            info |= {"final_obs": unwrap_single_group(obs), "_final_obs": done}
            obs = self._merge_reset_obs(done, obs)
        return unwrap_single_group(obs), reward, terminated, truncated, info

    def _merge_reset_obs(self, mask: Tensor, obs: Observation) -> Observation:
        """Reset the rows in `mask` and return `obs` with their first observations."""
        with self._isolated_rng():
            if not self._any_or_gpu(mask):
                return obs
            self._reset(mask)
            return self._first_observations(mask, obs)

    def _first_observations(self, mask: Tensor, obs: Observation) -> Observation:
        """Return `obs` with fresh observations of the rows in `mask`; a task may compute these alone."""
        fresh = self._get_observations()
        return {name: torch.where(mask[:, None], fresh[name], old) for name, old in obs.items()}

    def _any_or_gpu(self, mask: Tensor) -> bool:
        """Return whether any entry of `mask` is True; on a GPU always True, without a look."""
        return not self._reads_values or bool(mask.any())

    @contextmanager
    def _isolated_rng(self) -> Iterator[None]:
        """Draw in the block from a generator of its own, seeded by one draw from the environment's.

        A CPU draws there only if a world ended; later draws shall not depend on that. A GPU always draws.
        """
        if not self._reads_values:
            yield
            return
        seed = torch.randint(2**63 - 1, (), generator=self.generator)
        kept = self.generator
        self.generator = torch.Generator().manual_seed(int(seed))
        try:
            yield
        finally:
            self.generator = kept

    def _reset(self, mask: Tensor) -> None:
        self._reset_envs(mask)
        self.episode_steps.masked_fill_(mask, 0)
        self._pending_reset.masked_fill_(mask, False)

    def _seed(self, seed: int | None) -> None:
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.generator.manual_seed(seed)

    def _set_spaces(self) -> None:
        """Set the spaces, that of observations from the first one."""
        self.single_action_space = box = self._action_box()
        self.action_space = batch_space(box, self.num_envs)
        self.native_actions = ClampToBox(box, device=self.device)
        self._reset(self._all_worlds)
        groups = self._get_observations()
        self.single_observation_space = unwrap_single_space(
            {name: Box(-np.inf, np.inf, tuple(group.shape[1:])) for name, group in groups.items()}
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
