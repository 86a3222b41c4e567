"""Evaluation on a suite: `python -m factory.evaluate suite=NAME run=...|baseline=NAME`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from factory import cli
from factory.config import TrainConfig
from factory.registry import load
from factory.reporting.waiting import waiting
from factory.runtime import provenance
from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none
from factory.suites import SUITES
from factory.validation import require

if TYPE_CHECKING:
    from factory.envs.core.training_env import TrainingEnv
    from factory.policies.base import Controller
    from factory.suites.base import Suite
    from factory.suites.score import Score
    from factory.training.evaluation import EvaluationResult


@dataclass(kw_only=True)
class SuiteConfig:
    """Settings of an evaluation on a suite."""

    suite: str = MISSING
    """Name of the suite."""
    split: str = ""
    """List of episodes; empty: the one that counts."""
    run: str = ""
    """Run folder, MLflow run id, or `last`: the policy to evaluate."""
    baseline: str = ""
    """Baseline to evaluate instead of a run."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of the baseline."""
    seed: int = 0
    """Seed of noise and slip."""
    device: str = "cpu"
    """cpu or cuda."""
    out: str = ""
    """JSON file to write; empty writes none."""
    output_root: str = "outputs"
    """Folder of the runs and of the MLflow store."""
    plugins: list[str] | None = None
    """Files of plug-ins that the run needs."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.suite in SUITES, "suite", self.suite, f"choose one of {', '.join(SUITES)}")
        one_of = bool(self.run) != bool(self.baseline)
        require(one_of, "suite", self.suite, "name a policy with either run=... or baseline=...")
        require(0 <= self.seed < 2**31, "seed", self.seed, "must be in [0, 2^31)")
        require(self.device in ("cpu", "cuda"), "device", self.device, "choose cpu or cuda")


def names_suite(arguments: Sequence[str]) -> bool:
    """Return True if a command line asks for a suite."""
    return any(argument.startswith("suite=") for argument in arguments)


def run(arguments: Sequence[str]) -> None:
    """Play the episodes of a suite, print the score, and write it to the file asked for.

    Raises:
        ValueError: an argument is wrong, or the policy does not fit the suite's task.
    """
    cfg = cli.parse(SuiteConfig, arguments)
    cli.check_output(cfg.out, key="out", suffix=".json")
    with waiting("load", lines=False):
        # Mistakes on the command line are answered before torch is loaded.
        from factory.training.evaluation import evaluate

        suite: Suite = load(SUITES[cfg.suite])()
        cfg = replace(cfg, split=cfg.split or suite.splits[0])
        require(cfg.split in suite.splits, "split", cfg.split, f"choose one of {', '.join(suite.splits)}")
        of_policy = _of_baseline
        if cfg.run:
            of_policy = _of_run
        env, controller, origin = of_policy(cfg, suite)
    episodes = suite.num_episodes(cfg.split)
    with contextlib.closing(env), waiting("evaluate") as progress:
        result = evaluate(env, controller, episodes=episodes, seed=cfg.seed, on_progress=progress)
        score = _score(cfg, suite, env, result, origin)
    if cfg.out:
        Path(cfg.out).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(Path(cfg.out)) as unfinished:
            unfinished.write_text(json.dumps(nan_to_none(score.plain()), indent=1, allow_nan=False))
    _print(score, cfg.out)


def _of_baseline(cfg: SuiteConfig, suite: Suite) -> tuple[TrainingEnv, Controller, dict[str, Any]]:
    """Return environments, a baseline, and its description."""
    from factory.baselines.base import choices, make_baseline
    from factory.runtime import device
    from factory.training.build import make_env

    job = TrainConfig(task=suite.task_config(cfg.split), device=cfg.device)
    known = choices(job.task)
    require(cfg.baseline in known, "baseline", cfg.baseline, f"choose one of {', '.join(known)}")
    device.set_up(job.runtime.torch_threads)
    env = make_env(job, num_envs=suite.num_episodes(cfg.split), evaluation=True)
    baseline = make_baseline(cfg.baseline, job.task, env, cfg.options)
    return env, baseline, {"baseline": cfg.baseline, "options": cfg.options}


def _of_run(cfg: SuiteConfig, suite: Suite) -> tuple[TrainingEnv, Controller, dict[str, Any]]:
    """Return environments, the policy of a run, and its description."""
    from factory import evaluate

    run_dir = cli.find_run(cfg.run, key="run", output_root=Path(cfg.output_root))
    episodes = suite.num_episodes(cfg.split)
    of_run = evaluate.EvaluateConfig(
        run=cfg.run, episodes=episodes, device=cfg.device, output_root=cfg.output_root, plugins=cfg.plugins
    )
    job, env, policy, env_steps = evaluate.load_run(of_run, run_dir, task=suite.task_config(cfg.split))
    origin = {"run": run_dir.name, "task": job.task.name, "seed": job.seed, "env_steps": env_steps}
    return env, policy, origin


def _score(
    cfg: SuiteConfig, suite: Suite, env: TrainingEnv, result: EvaluationResult, origin: dict[str, Any]
) -> Score:
    """Return the score of what was played."""
    from factory.suites import score

    # Rows of the result are whole passes over the environment's rows.
    counted = suite.counted(env, cfg.split).repeat(result.episodes // env.num_envs)
    table = {name: rows[counted] for name, rows in result.table.items()}
    outcome = table["outcome"]
    names = env.outcome_names
    shares = score.shares(outcome, names, suite.combined)
    metrics = {name: score.mean(table[name]) for name in env.episode_metrics}
    quantiles = {name: score.quantile(table[of], share) for name, (of, share) in suite.quantiles.items()}
    kinds = {
        name: score.shares(outcome[mask[counted]], names, suite.combined)
        for name, mask in suite.kinds(env, cfg.split).items()
    }
    return score.Score(
        suite=suite.name,
        table_sha256=suite.table_sha256(cfg.split),
        split=cfg.split,
        episodes=outcome.numel(),
        seed=cfg.seed,
        outcomes={name: shares[name][1] for name in names},
        metrics=shares | metrics | quantiles,
        kinds=kinds,
        policy=origin,
        commit=provenance.git_tags()["git.commit"],
    )


def _print(score: Score, out: str) -> None:
    """Print the score with its intervals, and a column for each kind of episode."""
    print(f"{score.suite} {score.split}: {score.episodes} episodes, table {score.table_sha256[:12]}")
    print(f"{'':<20}{'mean':>8}   {'95 % interval':<18}" + "".join(f"{kind:>9}" for kind in score.kinds))
    for name, bounds in score.metrics.items():
        line = f"{name:<20}{_text(bounds[1])}   {_text(bounds[0])} to{_text(bounds[2])}"
        for kind in score.kinds.values():
            if name in kind:
                line += f" {_text(kind[name][1])}"
        print(line)
    if out:
        print(f"written to {out}")


def _text(value: float) -> str:
    return f"{value:8.3f}"
