"""Evaluate a trained policy.

usage: python -m factory.evaluate run=<run folder | MLflow run id | last> [episodes=...] [video=true]
                                  [seed=...] [device=cpu|cuda] [output_root=outputs] [plugins=[<file.py>,...]]
                                  [robot=file:<path.xml>] [env_id=<module:Id>] [task.wrappers=[...]]
       python -m factory.evaluate task=... baseline=NAME [options.<keyword>=...] [episodes=...] [seed=...]
                                  [video=FILE.mp4] [out=FILE.json] [any key=value of factory.train]
       python -m factory.evaluate suite=amr-v1 run=...|baseline=NAME [split=test] [seed=0] [device=cpu|cuda]
                                  [out=FILE.json]

A run folder is taken as data. Where it names code or a file outside itself, one line asks for it: plug-ins,
modules and robot files outside the folder are used only if the command names them.

A baseline is a controller that is not learned: zero, random, or one that the task offers.
A suite is a benchmark of frozen episodes (docs/benchmarks).
"""

from __future__ import annotations

import contextlib
import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from factory import cli, config, plugins
from factory.baselines import command
from factory.config import TrainConfig
from factory.intervals import share_intervals
from factory.reporting.console import print_evaluation
from factory.reporting.waiting import waiting
from factory.runtime import strict_json
from factory.runtime.atomic_write import atomic_write
from factory.runtime.stored_files import visible
from factory.suites import command as suite_command
from factory.training import own_robot, stored_config
from factory.validation import require

if TYPE_CHECKING:
    from factory.envs.core.task import TaskConfig
    from factory.envs.core.training_env import TrainingEnv
    from factory.policies.base import Policy
    from factory.training.evaluation import EvaluationResult


@dataclass(kw_only=True)
class NamedTaskParts:
    """Settings of the task `gymnasium` that may stand for code."""

    wrappers: list[str] | None = None
    """Wrappers of the environment, as `module:Wrapper`."""
    kwargs: dict[str, Any] | None = None
    """Keywords of the environment's constructor."""


@dataclass(kw_only=True)
class EvaluateConfig:
    """Settings of an evaluation."""

    run: str = MISSING
    """Run folder, MLflow run id, or `last` for the newest under `output_root`."""
    episodes: int | None = None
    """Episodes to play, rounded up to whole batches; by default the task's number."""
    seed: int | None = None
    """Seed of the environment; by default that of the evaluation at the end of training."""
    video: bool = False
    """Record a video of the policy as well."""
    device: str = ""
    """cpu or cuda; empty: the one it was trained on."""
    output_root: str = "outputs"
    """Folder of the runs and of the MLflow store."""
    plugins: list[str] | None = None
    """Files of plug-ins that the run needs."""
    robot: str | None = None
    """Robot, if the run has one from a file outside its folder."""
    env_id: str | None = None
    """Environment, if it is one whose module has to be imported first."""
    task: NamedTaskParts = field(default_factory=NamedTaskParts)
    """Parts of the task that have to be named."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.run != MISSING, "run", "", "name a run folder, an MLflow run id or last")
        is_some = self.episodes is None or self.episodes >= 1
        require(is_some, "episodes", self.episodes, "must be at least 1")
        is_seed = self.seed is None or 0 <= self.seed < 2**31
        require(is_seed, "seed", self.seed, "must be in [0, 2^31)")
        require(self.device in ("", "cpu", "cuda"), "device", self.device, "choose cpu or cuda")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation, and where its files are."""

    result: EvaluationResult
    run_dir: Path
    video: Path | None
    """Video of the policy, if one was asked for and could be drawn."""


def run_evaluation(cfg: EvaluateConfig) -> Evaluated:
    """Play the newest checkpoint's policy and write `evaluation.json` into the run folder.

    Raises:
        ValueError: there is no such run, or its checkpoint cannot be read.
    """
    run_dir = cli.find_run(cfg.run, key="run", output_root=Path(cfg.output_root))
    # A mistake may still be found in the run, and shall be the only line.
    with waiting("load the run", lines=False):
        # Only a run that exists is worth the seconds in which torch is loaded.
        from factory.envs.rendering import RenderingUnavailableError
        from factory.training.evaluation import evaluate
        from factory.training.stages import EVAL_SEED, write_policy_video
        from factory.training.watchdog import watching

        train_cfg, env, policy, env_steps = load_run(cfg, run_dir)
    seed = cfg.seed
    if seed is None:
        seed = EVAL_SEED
    watch = watching(run_dir, train_cfg.task.step_timeout_s, close=lambda: None)
    with cli.one_line_faults(run_dir), contextlib.closing(env), watch, waiting("evaluate") as progress:
        episodes = cfg.episodes or train_cfg.task.eval_episodes
        result = evaluate(env, policy, episodes=episodes, seed=seed, on_progress=progress)
    found = result.metrics()
    intervals = share_intervals(found)
    # Written before the video, which may fail and takes longer.
    content = {"env_steps": env_steps, "seed": seed, "metrics": found, "intervals": intervals}
    # A new file in its place, in case that it is a hard link to one elsewhere.
    with atomic_write(run_dir / "evaluation.json") as unfinished:
        unfinished.write_text(strict_json.dumps(content))

    video = None
    if cfg.video:
        video = run_dir / "videos" / f"policy_{env_steps:09d}.mp4"
        try:
            with waiting("video") as progress:
                write_policy_video(train_cfg, lambda env: policy, video, on_progress=progress)
        except RenderingUnavailableError as reason:
            video = None
            print(f"no video: {reason}")
    return Evaluated(result=result, run_dir=run_dir, video=video)


def load_run(
    cfg: EvaluateConfig, run_dir: Path, *, task: TaskConfig | None = None
) -> tuple[TrainConfig, TrainingEnv, Policy, int]:
    """Return a run's configuration, environments, policy, and the env steps of its newest checkpoint.

    Args:
        cfg: names the parts of the run that may stand for code.
        run_dir: its folder.
        task: settings of the task instead of those of the run, of which it must be the same task.

    Raises:
        ValueError: the checkpoint cannot be read, or does not fit its environment.
    """
    from factory.runtime import device
    from factory.training import checkpoint, fit
    from factory.training.build import make_env, make_policy

    found = checkpoint.load(run_dir, key="run")
    if found.note:
        print(visible(found.note))
    train_cfg = config.from_plain(_on(cfg.device, _as_named(cfg, found.config, run_dir)))
    if task is not None:
        trained_on = train_cfg.task.name
        require(trained_on == task.name, "run", cfg.run, f"was trained on {trained_on}, not on {task.name}")
        train_cfg.task = task
    device.set_up(train_cfg.runtime.torch_threads, precision=train_cfg.policy.precision)
    stored_policy = found.tensors.get("policy", {})
    try:
        fit.check_size(found.config["policy"], stored_policy)
        task = train_cfg.task
        num_envs = task.whole_worlds(min(cfg.episodes or task.eval_episodes, task.eval_worlds))
        # The environment tells the sizes of the policy, whose stored weights then have to fit.
        env = make_env(train_cfg, num_envs=num_envs, evaluation=True)
        policy = make_policy(train_cfg, env)
        fit.load_part(policy, stored_policy, name="policy")
    except ValueError as error:
        raise ValueError(f"run={cfg.run}: checkpoint {found.env_steps} does not fit ({error})") from error
    return train_cfg, env, policy, found.env_steps


def _as_named(cfg: EvaluateConfig, stored: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return a run's configuration with the parts that the command line names.

    Raises:
        ValueError: it has parts that have to be named, or is no configuration.
    """
    stored_config.require_groups(stored, run_dir=run_dir, key="run")
    plain = copy.deepcopy(stored)
    own_robot.use(plain, run_dir)
    parts = {
        "plugins": cfg.plugins,
        "robot": cfg.robot,
        "env_id": cfg.env_id,
        "task.wrappers": cfg.task.wrappers,
        "task.kwargs": cfg.task.kwargs,
    }
    named = {key: value for key, value in parts.items() if value is not None}
    for key, value in named.items():
        stored_config.put(plain, key, value)
    stored_config.require_named(plain, named=named, run_dir=run_dir, key="run", rules=stored_config.PLAYING)
    plugins.load(cfg.plugins or ())
    # Neither meter nor experiment tracker is opened.
    return plain | {"energy": {}, "tracking": {}, "resume": ""}


def _on(device: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration for a device, with the precision that a CPU has instead of a GPU's.

    Args:
        device: cpu or cuda; empty: the one it was trained on.
        plain: the configuration.
    """
    device = device or plain.get("device", "cpu")
    policy = plain["policy"]
    if device == "cpu" and policy.get("precision") == "tf32":
        policy = policy | {"precision": "float32"}
    return plain | {"device": device, "policy": policy}


def main() -> None:
    """Evaluate what the command line names."""
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    arguments = sys.argv[1:]
    with cli.one_line_errors():
        if suite_command.names_suite(arguments):
            suite_command.run(arguments)
            return
        if command.names_baseline(arguments):
            command.run(arguments)
            return
        cfg = cli.parse(EvaluateConfig, arguments)
        done = run_evaluation(cfg)
    files = {"written to": done.run_dir / "evaluation.json"}
    if done.video:
        files["video"] = done.video
    print_evaluation(done.result.metrics(), files=files)


if __name__ == "__main__":
    main()
