"""Evaluate a trained policy.

usage: python -m factory.evaluate run=<run folder | MLflow run id | last> [episodes=256] [video=true]
                                  [seed=...] [device=cpu|cuda] [output_root=outputs] [plugins=[<file.py>,...]]
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from factory import cli, config
from factory.reporting.console import print_evaluation
from factory.validation import require

if TYPE_CHECKING:
    from factory.training.evaluation import EvaluationResult


@dataclass(kw_only=True)
class EvaluateConfig:
    """Settings of an evaluation."""

    run: str = MISSING
    """Run folder, MLflow run id, or `last` for the newest under `output_root`."""
    episodes: int = 256
    """Episodes to play, rounded up to whole batches of at most 256."""
    seed: int | None = None
    """Seed of the environment; by default that of the evaluation at the end of training."""
    video: bool = False
    """Record a video of the policy as well."""
    device: str = ""
    """cpu or cuda; empty: the one it was trained on."""
    output_root: str = "outputs"
    """Folder of the runs and of the MLflow store."""
    plugins: list[str] = field(default_factory=list)
    """Where the run's plug-in files are now, if they were moved."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.run != MISSING, "run", "", "name a run folder, an MLflow run id or last")
        require(self.episodes >= 1, "episodes", self.episodes, "must be at least 1")
        is_seed = self.seed is None or 0 <= self.seed < 2**31
        require(is_seed, "seed", self.seed, "must be in [0, 2^31)")
        require(self.device in ("", "cpu", "cuda"), "device", self.device, "choose cpu or cuda")


def run_evaluation(cfg: EvaluateConfig) -> tuple[EvaluationResult, Path]:
    """Play the newest checkpoint's policy and write `evaluation.json` into the run folder.

    Raises:
        ValueError: there is no such run, or its checkpoint cannot be read.
    """
    run_dir = cli.find_run(cfg.run, key="run", output_root=Path(cfg.output_root))

    # Only a run that exists is worth the seconds in which torch is loaded.
    from factory.envs.rendering import RenderingUnavailableError
    from factory.runtime import device
    from factory.training import checkpoint
    from factory.training.build import make_env, make_policy
    from factory.training.evaluation import evaluate
    from factory.training.stages import EVAL_SEED, write_policy_video

    if cfg.seed is None:
        seed = EVAL_SEED
    else:
        seed = cfg.seed
    found = checkpoint.load(run_dir, key="run")
    if cfg.plugins:
        moved = {"plugins": cfg.plugins}
    else:
        moved = {}
    train_cfg = config.from_plain(_on(cfg.device or found.config["device"], found.config | moved))
    device.set_up(train_cfg.runtime.torch_threads, precision=train_cfg.policy.precision)
    env = make_env(train_cfg, num_envs=min(cfg.episodes, train_cfg.task.eval_worlds))
    policy = make_policy(train_cfg, env)
    policy.load_state_dict(found.tensors["policy"])
    with cli.one_line_faults(run_dir), contextlib.closing(env):
        result = evaluate(env, policy, episodes=cfg.episodes, seed=seed)
    content = {"env_steps": found.env_steps, "seed": seed, "metrics": result.metrics()}
    (run_dir / "evaluation.json").write_text(json.dumps(content, indent=1))
    if cfg.video:
        try:
            write_policy_video(train_cfg, policy, run_dir / "videos" / f"policy_{found.env_steps:09d}.mp4")
        except RenderingUnavailableError as reason:
            print(f"no video: {reason}")
    return result, run_dir


def _on(device: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration for a device, with the precision that a CPU has instead of a GPU's."""
    policy = plain["policy"]
    if device == "cpu" and policy["precision"] == "tf32":
        policy = policy | {"precision": "float32"}
    return plain | {"device": device, "policy": policy}


def main() -> None:
    """Evaluate what the command line names."""
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    with cli.one_line_errors():
        cfg = cli.parse(EvaluateConfig, sys.argv[1:])
        result, run_dir = run_evaluation(cfg)
    print_evaluation(result.metrics(), run_dir)


if __name__ == "__main__":
    main()
