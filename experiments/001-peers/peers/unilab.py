"""UniLab's own PPO trainer on its own Go2 task, 1024 worlds.

Only the number of iterations is asked for in pieces.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mjbatch
from peers.serving import Measure, serve
from peers.training import training
from rsl_rl.runners import OnPolicyRunner
from unilab.scripts import train_rsl_rl

OVERRIDES = (
    "task=go2_joystick_flat/mujoco",
    "algo.num_envs=1024",
    "algo.num_steps_per_env=24",
    "algo.algorithm.num_learning_epochs=5",
    "algo.algorithm.num_mini_batches=4",
    "algo.actor.hidden_dims=[64,64]",
    "algo.critic.hidden_dims=[64,64]",
    "training.device=cpu",
    "training.no_play=true",
)


class Engine:
    """Clocks the calls of UniLab's physics engine, which is a `mjbatch` of its own."""

    elapsed_s = 0.0

    @classmethod
    def watch(cls) -> None:
        """Put the clock around the calls."""
        for name in ("step", "forward", "reset"):
            setattr(mjbatch.Batch, name, cls._clocked(getattr(mjbatch.Batch, name)))

    @classmethod
    def _clocked(cls, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*args: Any, **kwargs: Any) -> Any:
            begin_s = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                cls.elapsed_s += time.perf_counter() - begin_s

        return clocked


class Runner(OnPolicyRunner):
    """The runner of UniLab's trainer, except that it writes no logs and learns when it is asked to."""

    def __init__(
        self, env: Any, train_cfg: dict[str, Any], log_dir: str | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(env, train_cfg, log_dir=None, device=device)

    def learn(self, num_learning_iterations: int, init_at_random_ep_len: bool = False) -> None:
        """Answer requests in the place of the trainer's one call, then leave the trainer."""
        super().learn(1, init_at_random_ep_len=init_at_random_ep_len)
        serve({"train Go2": self._training})
        raise SystemExit

    def _training(self) -> Measure:
        measure = training(self._iterate, trials=3)

        def measure_with_engine(seconds: float) -> dict[str, float]:
            begin_s, Engine.elapsed_s = time.perf_counter(), 0.0
            figures = measure(seconds)
            share = Engine.elapsed_s / (time.perf_counter() - begin_s)
            return figures | {"engine_share": share, "engine_steps_per_s": figures["steps_per_s"] / share}

        return measure_with_engine

    def _iterate(self) -> int:
        super().learn(1)
        return self.env.num_envs * self.cfg["num_steps_per_env"]


if __name__ == "__main__":
    Engine.watch()
    train_rsl_rl.OnPolicyRunner = Runner
    # As a module it would look for its configuration in a package, which that folder is not.
    sys.argv[1:] = ["--config-path", str(Path(train_rsl_rl.__file__).parents[1] / "conf" / "ppo"), *OVERRIDES]
    train_rsl_rl.main()
