"""Evaluation of a baseline: `python -m factory.evaluate task=... baseline=NAME`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from factory import cli
from factory.intervals import share_intervals
from factory.reporting.console import print_evaluation
from factory.reporting.waiting import waiting
from factory.runtime import provenance
from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none
from factory.validation import require


@dataclass(kw_only=True)
class BaselineConfig:
    """Settings of a baseline's evaluation, besides the training job that names task and device."""

    baseline: str = MISSING
    """Name of the baseline: zero, random, or one of the task's own."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of the baseline."""
    episodes: int | None = None
    """Episodes to play; by default as many as at the end of a training."""
    seed: int | None = None
    """Seed of the environment; by default that of the evaluation at the end of a training."""
    video: str = ""
    """Video to write, FILE.mp4; empty writes none."""
    out: str = ""
    """JSON file to write; empty writes none."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        is_some = self.episodes is None or self.episodes >= 1
        require(is_some, "episodes", self.episodes, "must be at least 1")
        is_seed = self.seed is None or 0 <= self.seed < 2**31
        require(is_seed, "seed", self.seed, "must be in [0, 2^31)")


def names_baseline(arguments: Sequence[str]) -> bool:
    """Return True if a command line asks for a baseline."""
    return any(argument.startswith("baseline=") for argument in arguments)


def run(arguments: Sequence[str]) -> None:
    """Evaluate the baseline that `arguments` name, print its metrics, and write the files asked for.

    Raises:
        ValueError: an argument is wrong.
    """
    known = {entry.name for entry in dataclasses.fields(BaselineConfig)}
    own = [argument for argument in arguments if argument.partition("=")[0].partition(".")[0] in known]
    cfg = cli.parse(BaselineConfig, own)
    cli.check_output(cfg.video, key="video", suffix=".mp4")
    cli.check_output(cfg.out, key="out", suffix=".json")
    job = cli.single_job([argument for argument in arguments if argument not in own])

    # Imported here: mistakes on the command line are answered before torch is loaded.
    from factory.baselines.base import Baseline, make_baseline
    from factory.envs.core.training_env import TrainingEnv
    from factory.runtime import device
    from factory.training.build import make_env
    from factory.training.evaluation import evaluate
    from factory.training.stages import EVAL_SEED, write_policy_video

    device.set_up(job.runtime.torch_threads)
    seed = cfg.seed
    if seed is None:
        seed = EVAL_SEED

    def baseline(env: TrainingEnv) -> Baseline:
        return make_baseline(cfg.baseline, job.task, env, cfg.options)

    # As at the end of a training, so that a baseline's figures compare with those of policies.
    episodes = cfg.episodes or job.runtime.eval_episodes or job.task.eval_episodes
    num_envs = job.task.whole_worlds(min(episodes, job.task.eval_worlds))
    env = make_env(job, num_envs=num_envs, evaluation=True)
    with contextlib.closing(env), waiting("evaluate") as progress:
        result = evaluate(env, baseline(env), episodes=episodes, seed=seed, on_progress=progress)
    files = {}
    if cfg.out:
        files["written to"] = Path(cfg.out)
        content = {
            "task": job.task.name,
            "baseline": cfg.baseline,
            "options": cfg.options,
            "seed": seed,
            "metrics": result.metrics(),
            "intervals": share_intervals(result.metrics()),
            "commit": provenance.git_tags()["git.commit"],
        }
        Path(cfg.out).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(Path(cfg.out)) as unfinished:
            unfinished.write_text(json.dumps(nan_to_none(content), indent=1, allow_nan=False))
    if cfg.video:
        files["video"] = Path(cfg.video)
        with waiting("video") as progress:
            write_policy_video(job, baseline, Path(cfg.video), on_progress=progress)
    print_evaluation(result.metrics(), files=files)
