"""The stages after training: evaluation, video, export, registration and report."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from factory.config import TrainConfig, label
from factory.energy.types import Interval
from factory.envs.core.training_env import TrainingEnv
from factory.envs.rendering import RenderingUnavailableError
from factory.policies.base import Controller
from factory.policies.export import Deterministic, export_policy
from factory.reporting.report import write_report
from factory.reporting.run_folder import read_records
from factory.reporting.video import draw_video
from factory.runtime import provenance
from factory.training import checkpoint, evaluation, metrics
from factory.training.build import make_env
from factory.training.collector import groups
from factory.training.job import TrainingJob, write_summary
from factory.training.loop import show_warnings
from factory.training.state import TrainState

EVAL_SEED = 1_000_003
"""Seed of the evaluation's environment; equal for all runs, so that policies meet equal episodes."""

Stage = Callable[[TrainingJob, TrainState], TrainState]
"""Does its work and returns the state with what it added."""


def evaluate(job: TrainingJob, state: TrainState) -> TrainState:
    """Run fixed-seed episodes with the deterministic policy."""
    cfg = job.cfg
    episodes = cfg.runtime.eval_episodes or cfg.task.eval_episodes
    with job.console.stage("evaluate") as progress, job.meter.phase("eval"):
        num_envs = cfg.task.whole_worlds(min(episodes, cfg.task.eval_worlds))
        env = make_env(cfg, num_envs=num_envs, evaluation=True)
        with contextlib.closing(env):
            result = evaluation.evaluate(
                env, job.policy, episodes=episodes, seed=EVAL_SEED, on_progress=progress
            )
            show_warnings(job, env)

    # States are values: the tokens of the earlier one stay as they were.
    tokens = copy.copy(state.tokens)
    tokens.add_evaluation(result.tokens)
    added = result.metrics()
    if cfg.task.return_threshold is not None:
        # Tokens count as good if the policy they led to reaches the threshold with 95 % confidence.
        lower_bound = result.return_mean - result.return_ci95
        tokens.gate(lower_bound, threshold=cfg.task.return_threshold)
        added["factory/tokens_good"] = float(tokens.good)
    return replace(state, tokens=tokens, metrics=state.metrics | added)


def record_video(job: TrainingJob, state: TrainState) -> TrainState:
    """Record a video of the deterministic policy."""
    if job.cfg.runtime.video_s == 0:
        return state
    path = job.run_dir / "videos" / f"policy_{state.env_steps:09d}.mp4"
    with job.console.stage("video") as progress, job.meter.phase("io"):
        try:
            write_policy_video(job.cfg, lambda env: job.policy, path, on_progress=progress)
        except RenderingUnavailableError as reason:
            job.console.message(f"no video: {reason}")
    return state


def export(job: TrainingJob, state: TrainState) -> TrainState:
    """Write the policy as a program that needs only torch."""
    with job.console.stage("export"), job.meter.phase("io"):
        memory = job.policy.initial_state(1)
        export_policy(
            Deterministic(job.policy, job.env.native_actions),
            job.collector.obs["policy"][:2],
            job.run_dir / "export",
            metadata=_policy_metadata(job, state),
            initial_state=memory if memory.shape[-1] > 0 else None,
        )
    return state


def register(job: TrainingJob, state: TrainState) -> TrainState:
    """Log files to the experiment tracker and register the exported policy under the task's name."""
    tracker = job.tracker
    run_dir = job.run_dir
    with job.console.stage("register"), job.meter.phase("io"):
        manifest = run_dir / "checkpoint_manifest.json"
        manifest.write_text(json.dumps(checkpoint.manifest(run_dir), indent=1))
        for file in ("config.yaml", "metrics.jsonl", "reward_terms.csv", "checkpoint_manifest.json"):
            tracker.log_artifacts(run_dir / file)
        for folder in (".hydra", "videos", "export"):
            if (run_dir / folder).is_dir():
                tracker.log_artifacts(run_dir / folder, folder.lstrip("."))
        if job.cfg.runtime.register_model:
            # Metrics of training come with later rows; a model shows its evaluation.
            quality = {key: value for key, value in state.metrics.items() if key.startswith("eval/")}
            tracker.log_policy(run_dir / "export", registered_name=label(job.cfg), metrics=quality)
    return state


STAGES: tuple[Stage, ...] = (evaluate, record_video, export, register)
"""Stages between training and report, in order."""


def report(job: TrainingJob, state: TrainState, *, idle: Interval | None = None) -> TrainState:
    """Log the final metrics and write `summary.json` and `report.html`.

    Args:
        job: the job.
        state: its state after all other stages.
        idle: power before the run, for net energy [W].
    """
    cfg = job.cfg
    with job.meter.phase("io"):
        reading = state.total(job.meter.read())
        final = metrics.energy(reading, state.tokens.total)
        joules_per_token = final.get("factory/joules_per_token", math.nan)
        final |= metrics.site(reading.total_j, joules_per_token, cfg.energy.site)
        records = read_records(job.run_dir / "metrics.jsonl")
        final |= metrics.steady([record.metrics for record in records if record.step > state.resumed_at])
        peers = [*state.peers_before, *state.peers]
        net_metrics, net_tags = metrics.net(reading, state.tokens.total, idle, peers)
        final |= net_metrics
        tags = metrics.energy_tags(reading) | net_tags
        tags |= job.power.tags(mean_power=job.throttle.mean_power())
        if cfg.task.return_threshold is not None:
            tags["threshold.reached"] = str(bool(state.threshold)).lower()
        state = replace(state, metrics=state.metrics | final, tags=state.tags | tags)

        job.journal.append_last(state.metrics, state.env_steps)
        job.tracker.log(state.metrics, state.env_steps)
        job.tracker.set_tags(state.tags)
        write_summary(job, state, "interrupted" if state.is_interrupted else "finished")
        # A line that leaves the floor for another is expected back; drawing a report would keep that waiting.
        if not (state.is_interrupted and provenance.floor_tags()):
            job.tracker.log_artifacts(write_report(job.run_dir))
        job.tracker.log_artifacts(job.run_dir / "summary.json")
    return state


def write_policy_video(
    cfg: TrainConfig,
    make_controller: Callable[[TrainingEnv], Controller],
    path: Path,
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Record environments that follow the task's demo commands, with a strip of stills beside the video.

    Args:
        cfg: the job.
        make_controller: returns what plays the environments of the video, such as a policy.
        path: the video, `*.mp4`.
        on_progress: takes the share of the frames that are drawn.

    Raises:
        RenderingUnavailableError: the environment cannot be drawn here.
    """
    runtime = cfg.runtime
    num_envs = cfg.task.video_worlds * cfg.task.agents_per_world
    built = make_env(cfg, num_envs=num_envs, render_mode="rgb_array", evaluation=True)
    with contextlib.closing(built) as env:
        controller = make_controller(env)
        recording, captions = _record(env, controller, duration_s=runtime.video_s, fps=runtime.video_fps)
        renderer = env.open_renderer(
            width=runtime.video_width, height=runtime.video_height, backend=runtime.renderer
        )
        camera = env.camera
    draw_video(
        renderer,
        recording,
        path,
        fps=runtime.video_fps,
        captions=captions,
        camera=camera,
        on_progress=on_progress,
    )


@torch.no_grad()
def _record(
    env: TrainingEnv, policy: Controller, *, duration_s: float, fps: int
) -> tuple[list[Any], list[str]]:
    """Return a snapshot and a caption for every frame of the video."""
    raw_obs, _ = env.reset(seed=EVAL_SEED)
    start = policy.initial_state(env.num_envs)
    state = start
    frames: list[Any] = []
    captions: list[str] = []
    next_frame_s = 0.0
    for step in range(max(1, round(duration_s / env.step_dt_s))):
        time_s = step * env.step_dt_s
        env.set_demo_command(time_s)
        if time_s >= next_frame_s:
            picture = env.snapshot()
            caption = env.captions()[0]
        # Where control steps are longer than frames, a snapshot is shown more than once.
        while time_s >= next_frame_s:
            frames.append(picture)
            captions.append(caption)
            next_frame_s += 1.0 / fps

        action, state = policy.act_deterministic(groups(raw_obs), state)
        raw_obs, _, terminated, truncated, _ = env.step(action)
        ended = terminated | truncated
        # A policy's memory does not outlive the episode.
        state = torch.where(ended[:, None], start, state)
    return frames, captions


def _policy_metadata(job: TrainingJob, state: TrainState) -> dict[str, Any]:
    spec = job.policy.token_spec
    return {
        "task": job.cfg.task.name,
        "env_id": job.cfg.env_id or job.cfg.task.id,
        "robot": job.cfg.robot,
        **job.env.layout,
        "env_steps": state.env_steps,
        "control_hz": spec.control_hz,
        "token_spec": dataclasses.asdict(spec) | {"hash": spec.hash},
        "versions": provenance.versions(),
    }


def tracking_uri(cfg: TrainConfig) -> str | None:
    """Return the MLflow tracking URI of a job; None without MLflow."""
    if cfg.tracking.kind != "mlflow":
        return None
    from factory.tracking.uri import resolve_uri

    return resolve_uri(cfg.tracking, output_root=Path(cfg.output_root))
