"""Cost of the guards against numbers that are not finite: one training, with and without them in turn."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from factory import cli, options  # noqa: E402
from factory.envs.core import episode_env  # noqa: E402
from factory.learners import ppo  # noqa: E402
from factory.runtime import device, hardware, provenance, seeding  # noqa: E402
from factory.training.build import make_env, make_loop, make_policy  # noqa: E402
from factory.training.collector import no_phase  # noqa: E402
from factory.training.guard import Guard  # noqa: E402

TASKS = ("cartpole_swingup", "quadruped_velocity")
WARM_UP = 4
"""Iterations that are left out: kernels are compiled, and caches fill."""
RESAMPLES = 10_000


def main() -> None:
    """Measure every task, print the results, and write `guards.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--num-envs", type=int, help="worlds; the task's own number by default")
    parser.add_argument("--seconds", type=float, default=90.0, help="CPU time for each task")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    options.register()
    results: dict[str, Any] = {
        **provenance.git_tags(),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "tasks": {task: measure(task, args.seconds, args.num_envs) for task in args.tasks},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "guards.json").write_text(json.dumps(results, indent=1) + "\n")
    for task, found in results["tasks"].items():
        low, middle, high = found["added_percent"]
        print(f"{task:<20} {middle:+.2f} % [{low:+.2f}, {high:+.2f}] CPU time of {found['pairs']} pairs")


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training of one task: one call is one iteration."""

    iterate: Callable[[], None]
    guard: Guard
    num_worlds: int


def measure(task: str, seconds: float, num_envs: int | None) -> dict[str, Any]:
    """Return by how much the guards lengthen an iteration [%], with a bootstrap interval over pairs.

    Both halves of a pair are iterations of the same training, in the order on, off or off, on by turns.
    """
    training = build(task, num_envs)
    for _ in range(WARM_UP):
        training.iterate()
    begin_s = time.process_time()
    ratios: list[float] = []
    spent = {True: 0.0, False: 0.0}
    while time.process_time() - begin_s < seconds or len(ratios) < 4:
        order = (True, False) if len(ratios) % 2 else (False, True)
        cost_s = {is_on: cost_of_iteration(training, is_on=is_on) for is_on in order}
        ratios.append(cost_s[True] / cost_s[False])
        spent = {is_on: spent[is_on] + cost_s[is_on] for is_on in spent}
    added = 100.0 * (np.array(ratios) - 1.0)
    # Medians of resampled neighbours in pairs, as the order within a pair alternates.
    blocks = added[: len(added) // 2 * 2].reshape(-1, 2).mean(1)
    picks = np.random.default_rng(0).integers(0, len(blocks), (RESAMPLES, len(blocks)))
    low, high = np.quantile(np.median(blocks[picks], axis=1), [0.025, 0.975])
    return {
        "added_percent": [float(low), float(np.median(blocks)), float(high)],
        "pairs": len(ratios),
        "cpu_s_per_iteration": {"on": spent[True] / len(ratios), "off": spent[False] / len(ratios)},
        "num_envs": training.num_worlds,
    }


def build(task: str, num_envs: int | None = None) -> Training:
    """Return a training with the task's own settings, but one thread and perhaps another number of worlds."""
    overrides = [*options.example(task), "runtime.torch_threads=1", "physics.num_threads=1"]
    if num_envs is not None:
        overrides.append(f"num_envs={num_envs}")
    cfg, _ = cli.compose_config(overrides)
    device.set_up(1)
    seeding.seed_everything(0)
    env = make_env(cfg, num_envs=cfg.num_envs)
    policy = make_policy(cfg, env)
    collector, learner, _ = make_loop(cfg, env, policy, phase=no_phase)
    guard = Guard(policy, learner)

    def iterate() -> None:
        rollout, _ = collector.collect()
        learner.update(rollout)
        if not bool(guard.check()):
            raise RuntimeError("the training is to have nothing to guard against")
        guard.keep()

    return Training(
        iterate=iterate,
        guard=guard,
        num_worlds=env.num_envs,
    )


def cost_of_iteration(training: Training, *, is_on: bool) -> float:
    """Return the CPU time of an iteration, over all threads [s]."""
    context = contextlib.nullcontext() if is_on else without_guards(training)
    with context:
        begin_s = time.process_time()
        training.iterate()
        return time.process_time() - begin_s


@contextlib.contextmanager
def without_guards(training: Training) -> Iterator[None]:
    """Let nothing be looked at inside the block: samples, rollouts, gradients, weights.

    The replacement of a gradient that is not finite stays: it is part of the scaling of long gradients, two
    operations on one vector.
    """
    count = torch.zeros((), dtype=torch.int64)
    one = torch.ones(())
    with (
        mock.patch.object(episode_env, "surely_sound", lambda *values: True),
        mock.patch.object(ppo, "discard_unsound", lambda rollout, *values: (*values, count)),
        mock.patch.object(training.guard, "check", lambda: one),
    ):
        yield


if __name__ == "__main__":
    main()
