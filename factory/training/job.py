"""A training job: its parts, built from the configuration."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from factory import tracking
from factory.config import TrainConfig, label, to_plain
from factory.energy.meter import Meter
from factory.envs.core.training_env import TrainingEnv
from factory.intervals import share_intervals
from factory.learners.base import Learner
from factory.policies.base import Policy
from factory.power import verification
from factory.power.config import DEFAULT
from factory.power.profile import PowerProfile, start_profile
from factory.power.throttle import Throttle
from factory.reporting.console import PATIENCE_S, Console
from factory.runtime import device, distributed, provenance, seeding
from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none
from factory.tracking import Journal, Tracker
from factory.training import checkpoint, checkpoint_files, determinism, own_robot, snapshot, warm_start
from factory.training.build import make_env, make_loop, make_policy
from factory.training.checkpoint import Checkpoint
from factory.training.collector import Collector
from factory.training.control import RunControl
from factory.training.guard import Guard
from factory.training.reward_table import RewardTable
from factory.training.state import TrainState


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """The parts of a job. They stay the same while it runs; what changes is in `TrainState`."""

    cfg: TrainConfig
    run_dir: Path
    meter: Meter
    power: PowerProfile
    throttle: Throttle
    env: TrainingEnv
    policy: Policy
    learner: Learner
    guard: Guard
    collector: Collector
    tracker: Tracker
    journal: Journal
    reward_table: RewardTable
    console: Console
    control: RunControl
    notes: tuple[str, ...]
    """Lines for the user, such as energy sources, damaged checkpoints and variables of MLflow."""

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of a rollout, over all processes."""
        return self.cfg.num_envs * self.cfg.learner.num_steps


def open_job(
    cfg: TrainConfig,
    run_dir: Path,
    *,
    console: Console,
    control: RunControl,
    parent_run_id: str | None = None,
) -> tuple[TrainingJob, TrainState]:
    """Build every part of a job; with `cfg.resume`, restore the newest checkpoint of `run_dir`.

    Args:
        cfg: the job.
        run_dir: folder of the run.
        console: shows the run.
        control: requests to the job.
        parent_run_id: MLflow run of the sweep this job belongs to.

    Returns:
        The job and its first state.

    Raises:
        ValueError: the checkpoint does not fit, or the experiment tracker refuses the run.
    """
    with contextlib.ExitStack() as on_failure:
        meter = Meter.from_config(cfg.energy, cfg.device)
        on_failure.callback(meter.close)
        meter.start()
        with meter.phase("startup"):
            job, state = _open_parts(cfg, run_dir, meter, console, control, parent_run_id, on_failure)
        on_failure.pop_all()
    return job, state


def _open_parts(
    cfg: TrainConfig,
    run_dir: Path,
    meter: Meter,
    console: Console,
    control: RunControl,
    parent_run_id: str | None,
    on_failure: contextlib.ExitStack,
) -> tuple[TrainingJob, TrainState]:
    resumed = None
    if cfg.resume:
        resumed = checkpoint.load(Path(cfg.resume))

    # Threads and seeds come first: everything built later depends on them.
    power = _set_up_process(cfg, on_failure)
    parts = _build_parts(cfg, resumed, meter, console, on_failure)
    tags = _tags(cfg, parts.policy, parts.env) | _power_tags(cfg, power)
    origin_note = ""
    if cfg.start_from and not resumed:
        origin = warm_start.load(cfg, parts.policy)
        origin_note = origin.note
        tags |= origin.tags

    # Up to here a mistake leaves nothing on the disk; from here on there is a run folder.
    robot_note = _write_run_folder(cfg, run_dir)
    tracker = _open_tracker(cfg, run_dir, parts.env, console, tags, resumed, parent_run_id)
    damage = ""
    resumed_at = 0
    if resumed:
        damage = resumed.note
        resumed_at = resumed.env_steps
    notes = (
        *_notes(cfg, meter, power, parts, tags),
        damage,
        origin_note,
        robot_note,
        tracking.environment_note(cfg.tracking),
    )
    job = TrainingJob(
        cfg=cfg,
        run_dir=run_dir,
        meter=meter,
        power=power,
        throttle=Throttle(cfg.profile.watts, meter),
        env=parts.env,
        policy=parts.policy,
        learner=parts.learner,
        guard=Guard(parts.policy, parts.learner),
        collector=parts.collector,
        tracker=tracker,
        journal=Journal(run_dir / "metrics.jsonl"),
        reward_table=RewardTable(run_dir / "reward_terms.csv", parts.env.reward_terms, resumed_at),
        console=console,
        control=control,
        notes=tuple(filter(None, notes)),
    )
    # Last: a checkpoint also restores generators, which everything above may have drawn from.
    state = TrainState()
    if resumed:
        state = snapshot.restore(job, resumed)
    return job, replace(state, tags=tags)


def _set_up_process(cfg: TrainConfig, on_failure: contextlib.ExitStack) -> PowerProfile:
    """Set threads, CPUs, power profile and seeds of this process; return the profile, which is in force."""
    device.set_up(cfg.runtime.torch_threads, precision=cfg.policy.precision)
    if cfg.device == "cpu":
        device.keep_to_own_cpus()
    power = start_profile(cfg.profile, device=cfg.device)
    # A job that fails to start must leave the hardware as it was.
    on_failure.callback(power.restore)
    seeding.seed_everything(cfg.seed)
    return power


class _Parts(NamedTuple):
    """The parts of a job that act and learn."""

    env: TrainingEnv
    policy: Policy
    learner: Learner
    collector: Collector
    no_graphs_reason: str
    """Reason for which the job runs without CUDA graphs; empty if there is none to give."""


def _build_parts(
    cfg: TrainConfig,
    resumed: Checkpoint | None,
    meter: Meter,
    console: Console,
    on_failure: contextlib.ExitStack,
) -> _Parts:
    """Build environment, policy and learner; with a checkpoint, load its tensors."""
    with console.stage("build environments", after_s=PATIENCE_S):
        env = make_env(cfg, num_envs=cfg.num_envs // distributed.size(), shard=distributed.shard())
        on_failure.callback(env.close)
    with console.stage("build policy and learner", after_s=PATIENCE_S):
        policy = make_policy(cfg, env)
        collector, learner, no_graphs_reason = make_loop(cfg, env, policy, phase=meter.phase)
    # Before a checkpoint is loaded, which has clocks of its own.
    env.randomize_episode_phase()
    if resumed:
        # The optimiser's state comes first: settings that were changed since then apply to it.
        snapshot.load_tensors(cfg, resumed, env, policy=policy, learner=learner, collector=collector)
        learner.take_changes(_changed_settings(cfg, resumed))
    return _Parts(env, policy, learner, collector, no_graphs_reason)


def _write_run_folder(cfg: TrainConfig, run_dir: Path) -> str:
    """Create the run folder with the configuration and the user's robot; return a note about the robot."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / checkpoint_files.CONFIG_FILE).write_text(yaml.safe_dump(to_plain(cfg), sort_keys=False))
    return own_robot.keep(cfg.robot, run_dir)


def _open_tracker(
    cfg: TrainConfig,
    run_dir: Path,
    env: TrainingEnv,
    console: Console,
    tags: dict[str, str],
    resumed: Checkpoint | None,
    parent_run_id: str | None,
) -> Tracker:
    """Open the experiment tracker; a resumed job goes on with its own run there."""
    resume_run_id = None
    if resumed:
        resume_run_id = resumed.state["mlflow_run_id"]
    with console.stage("open the experiment tracker", after_s=PATIENCE_S):
        return tracking.open_tracker(
            cfg.tracking,
            run_dir=run_dir,
            output_root=Path(cfg.output_root).absolute(),
            experiment=label(cfg),
            run_name=_run_name(cfg, env, run_dir),
            params=to_plain(cfg),
            tags=tags,
            resume_run_id=resume_run_id,
            parent_run_id=parent_run_id,
        )


def _changed_settings(cfg: TrainConfig, resumed: Checkpoint) -> list[str]:
    """Return the settings of the learner in which a resumed run differs from its checkpoint."""
    before = resumed.config["learner"]
    return [key for key, value in to_plain(cfg)["learner"].items() if value != before.get(key)]


def require_folder(job: TrainingJob) -> None:
    """Raise FileNotFoundError if somebody has deleted the run folder: half of it must not come back."""
    if checkpoint_files.is_deleted(job.run_dir):
        raise FileNotFoundError(f"{job.run_dir} was deleted")


def close_job(job: TrainingJob, state: TrainState, status: str) -> None:
    """Close console, tracker, environment and meter, and write `summary.json`.

    Args:
        job: the job.
        state: its last state.
        status: `finished`, `interrupted` or `failed`.
    """
    with contextlib.ExitStack() as closing:
        # In reverse order; each of them also if another one fails.
        closing.callback(job.power.restore)
        closing.callback(job.meter.close)
        closing.callback(job.env.close)
        job.reward_table.close()
        job.console.close()
        # A server that came back tells the run id only now, so the summary is written afterwards.
        job.tracker.close(status)
        require_folder(job)
        write_summary(job, state, status)
        job.meter.read()
        snapshot.write_energy(job, state)


def write_summary(job: TrainingJob, state: TrainState, status: str) -> None:
    """Write `summary.json`: the outcome of the run."""
    content = {
        "status": status,
        "mlflow_run_id": job.tracker.run_id,
        "metrics": state.metrics,
        "intervals": share_intervals(state.metrics),
        "tokens": state.tokens.state_dict(),
        "tags": state.tags,
        "versions": provenance.versions(),
        "device": device.describe(torch.device(job.cfg.device)),
        "determinism": determinism.conditions(job.cfg.device, resumes_exactly=job.env.resumes_exactly),
    }
    with atomic_write(job.run_dir / "summary.json") as unfinished:
        unfinished.write_text(json.dumps(nan_to_none(content), indent=1, allow_nan=False))


def _power_tags(cfg: TrainConfig, power: PowerProfile) -> dict[str, str]:
    """Return the tags of the power profile, with the outcome of its calibration on this machine."""
    if cfg.profile.name == DEFAULT:
        return power.tags()
    verified = verification.text(cfg.profile, task=label(cfg), device=cfg.device)
    return power.tags() | {"power/verified": verified}


def _notes(
    cfg: TrainConfig, meter: Meter, power: PowerProfile, parts: _Parts, tags: dict[str, str]
) -> Iterator[str]:
    """Yield the lines of meter, power profile and environment for the user, some of them empty."""
    yield from meter.explanation
    yield from power.notes
    if "power/verified" in tags:
        yield f"profile={cfg.profile.name}: {tags['power/verified']}"
    yield from parts.env.notes
    yield parts.no_graphs_reason


def _run_name(cfg: TrainConfig, env: TrainingEnv, run_dir: Path) -> str:
    """Return the name of the run for lists: task, robot, seed, and the end of the folder's name."""
    parts = [label(cfg)]
    if env.robot_name not in ("default", "none"):
        parts.append(env.robot_name)
    return " ".join([*parts, f"seed {cfg.seed}", run_dir.name.rpartition("_")[2]])


def _tags(cfg: TrainConfig, policy: Policy, env: TrainingEnv) -> dict[str, str]:
    tags = {
        "task": label(cfg),
        "robot": env.robot_name,
        "physics": env.physics_name,
        "device": device.describe(torch.device(cfg.device)),
        "token_spec.hash": policy.token_spec.hash,
    }
    if cfg.start_from:
        tags |= {"start_from": cfg.start_from}
    return {**tags, **provenance.git_tags(), **provenance.floor_tags()}
