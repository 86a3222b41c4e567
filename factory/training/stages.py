"""The stages of a line: train -> evaluate -> record -> export -> register -> report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

from factory.config import TrainConfig, label
from factory.energy.types import Interval
from factory.envs.core.training_env import TrainingEnv
from factory.envs.rendering import RenderingUnavailableError
from factory.policies.base import Policy
from factory.policies.export import Deterministic, export_policy
from factory.reporting.report import write_report
from factory.reporting.run_folder import read_records
from factory.reporting.video import film
from factory.runtime import distributed, provenance
from factory.training import checkpoint, metrics
from factory.training.collector import groups
from factory.training.evaluation import evaluate as play
from factory.training.job import Line, make_env, write_summary
from factory.training.reward_table import RewardTable

EVAL_SEED = 1_000_003
"""Seed of the evaluation's environment; equal for all runs, so that policies meet equal episodes."""
_RETURN_WINDOW = 20
"""Iterations whose finished episodes make up the training return."""


def train(line: Line) -> None:
    """Collect and learn until `total_steps`, or until a process is asked to stop; end with a checkpoint."""
    cfg, meter = line.cfg, line.meter
    line.console.start(_header(line), total_steps=cfg.total_steps, start_steps=line.env_steps)
    for note in filter(None, (*meter.explanation, *line.env.notes, line.no_graphs)):
        line.console.message(note)
    window: deque[dict[str, float]] = deque(maxlen=_RETURN_WINDOW)
    with RewardTable(line.run_dir / "reward_terms.csv", line.env.reward_terms, line.env_steps) as table:
        stop = False  # as agreed: a signal may come at any time, and processes must leave the loop together
        while line.env_steps < cfg.total_steps and not stop:
            rollout, stats = line.collector.collect()
            with meter.phase("learn"):
                update = line.learner.update(rollout, progress=line.env_steps / cfg.total_steps)
            with meter.phase("io"):
                sums, means, terms = metrics.read_device(stats, update)
                window.append(sums)
                _advance(line, sums, means)
                stop = distributed.any_rank(line.stop_asked)
                _log(line, window, means)
                table.append(line.env_steps, terms)
                _warn(line, line.env)
            if line.iteration % cfg.checkpoint_every == 0:
                _checkpoint(line)
    if line.iteration % cfg.checkpoint_every != 0:
        _checkpoint(line)
    if stop:  # perhaps another process was asked
        line.stop_asked = True


def finish(line: Line) -> None:
    """Evaluate, film, export and register, until asked to stop."""
    for stage in (evaluate, record, export, register):
        line.interrupted = line.stop_asked
        if line.interrupted:
            return
        stage(line)


def evaluate(line: Line) -> None:
    """Play fixed-seed episodes with the deterministic policy."""
    episodes = line.cfg.runtime.eval_episodes
    with line.console.stage("evaluate"), line.meter.phase("eval"):
        env = make_env(line.cfg, num_envs=min(episodes, line.cfg.task.eval_worlds))
        with contextlib.closing(env):
            result = play(env, line.policy, episodes=episodes, seed=EVAL_SEED)
            _warn(line, env)
    line.tokens.add_evaluation(result.tokens)
    line.metrics |= result.metrics()
    if line.cfg.task.return_threshold is not None:
        line.tokens.gate(result.return_mean - result.return_ci95, threshold=line.cfg.task.return_threshold)
        line.metrics["factory/tokens_good"] = float(line.tokens.good)


def record(line: Line) -> None:
    """Film the deterministic policy."""
    runtime = line.cfg.runtime
    if runtime.video_s == 0:
        return
    path = line.run_dir / "videos" / f"policy_{line.env_steps:09d}.mp4"
    with line.console.stage("film"), line.meter.phase("io"):
        try:
            record_film(line.cfg, line.policy, path)
        except RenderingUnavailableError as reason:
            line.console.message(f"no film: {reason}")


def export(line: Line) -> None:
    """Write the policy as a program that needs only torch."""
    with line.console.stage("export"), line.meter.phase("io"):
        example = line.collector.obs["policy"][:2]
        module = Deterministic(line.policy, line.env.native_actions)
        state = line.policy.initial_state(1)
        export_policy(
            module,
            example,
            line.run_dir / "export",
            metadata=_policy_metadata(line),
            initial_state=state if state.shape[-1] > 0 else None,
        )


def register(line: Line) -> None:
    """Log figures and files to the ledger and register the exported policy under the task's name."""
    with line.console.stage("register"), line.meter.phase("io"):
        tracker, run_dir = line.tracker, line.run_dir
        manifest = run_dir / "checkpoint_manifest.json"
        manifest.write_text(json.dumps(checkpoint.manifest(run_dir), indent=1))
        for path in ("config.yaml", "metrics.jsonl", "reward_terms.csv", "checkpoint_manifest.json"):
            tracker.log_artifacts(run_dir / path)
        for folder in (".hydra", "videos", "export"):
            if (run_dir / folder).is_dir():
                tracker.log_artifacts(run_dir / folder, folder.lstrip("."))
        if line.cfg.runtime.register_model:
            # Only what no later row repeats: the model's figures are stamped when they are sent.
            quality = {key: value for key, value in line.metrics.items() if key.startswith("eval/")}
            tracker.log_policy(run_dir / "export", registered_name=label(line.cfg), metrics=quality)


def report(line: Line, *, idle: Interval | None = None) -> Path:
    """Log the final figures and write `summary.json` and `report.html`.

    Args:
        line: The job.
        idle: Power before the run [W], for net figures.
    """
    with line.meter.phase("io"):
        reading = line.total(line.meter.read())
        final = metrics.energy(reading, line.tokens.total)
        final |= metrics.site(final.get("factory/joules_per_token", math.nan), line.cfg.energy.site)
        records = read_records(line.run_dir / "metrics.jsonl")
        final |= metrics.steady([record.metrics for record in records if record.step > line.resumed_at])
        net_figure, net_tags = metrics.net(reading, line.tokens.total, idle, line.others_before + line.others)
        line.metrics |= final | net_figure
        line.tags |= metrics.gauge_tags(reading) | net_tags
        if line.cfg.task.return_threshold is not None:
            line.tags["threshold.reached"] = str(bool(line.threshold)).lower()
        line.journal.append(line.metrics, line.env_steps)
        line.tracker.log(line.metrics, line.env_steps)
        line.tracker.set_tags(line.tags)
        write_summary(line, "interrupted" if line.interrupted else "finished")
        path = write_report(line.run_dir)
        line.tracker.log_artifacts(path)
        line.tracker.log_artifacts(line.run_dir / "summary.json")
    return path


def record_film(cfg: TrainConfig, policy: Policy, path: Path) -> None:
    """Play the task's script in one world and film it to `path`, with a film strip beside it.

    Raises:
        RenderingUnavailableError: the environment cannot be drawn here.
    """
    runtime = cfg.runtime
    with contextlib.closing(make_env(cfg, num_envs=1, render_mode="rgb_array")) as env:
        recording, captions = _perform(env, policy, duration_s=runtime.video_s, fps=runtime.video_fps)
        renderer = env.open_renderer(width=640, height=360, backend=runtime.renderer)
        camera = env.camera
    film(renderer, recording, path, fps=runtime.video_fps, captions=captions, camera=camera)


@torch.no_grad()
def _perform(
    env: TrainingEnv, policy: Policy, *, duration_s: float, fps: int
) -> tuple[list[np.ndarray], list[str]]:
    """Return a snapshot and a caption for every frame of a performance in world 0."""
    obs, state = groups(env.reset(seed=EVAL_SEED)[0]), policy.initial_state(1)
    frames, captions, next_frame_s = [], [], 0.0
    for step in range(max(1, round(duration_s / env.step_dt_s))):
        time_s = step * env.step_dt_s
        env.set_demo_command(time_s)
        if time_s >= next_frame_s:
            picture, text = env.snapshot(), env.captions()[0]
        while time_s >= next_frame_s:  # more than once where control steps are longer than frames
            frames.append(picture)
            captions.append(text)
            next_frame_s += 1.0 / fps
        action, state = policy.act_deterministic(obs, state)
        raw_obs, _, terminated, truncated, _ = env.step(action)
        obs = groups(raw_obs)
        ended = terminated | truncated
        state = torch.where(ended[:, None], policy.initial_state(1), state)
    return frames, captions


def _advance(line: Line, sums: dict[str, float], means: dict[str, float]) -> None:
    line.iteration += 1
    line.env_steps += line.steps_per_iteration
    line.tokens.add(int(sums["live_steps"]))
    line.tokens.add_processed(int(means.get("processed", 0.0)) * distributed.size())
    line.nonfinite += int(sums["nonfinite"] + means.get("skipped", 0.0))
    line.rollbacks += int(means.get("rolled_back", 0.0))


def _log(line: Line, window: deque[dict[str, float]], means: dict[str, float]) -> None:
    """Assemble this iteration's figures and hand them to journal, tracker and console."""
    own = line.meter.read()
    line.others = distributed.gather_from_peers(own)
    reading = line.total(own)
    line.tags |= metrics.gauge_tags(reading)
    totals = {key: sum(sums[key] for sums in window) for key in window[-1]}
    times = line.times(reading)
    row = {
        **metrics.episodes(totals),
        **metrics.losses(means),
        **times,
        **metrics.energy(reading, line.tokens.total),
        "factory/env_steps": float(line.env_steps),
        "factory/iterations": float(line.iteration),
        "factory/tokens_total": float(line.tokens.total),
        "factory/tokens_per_s": line.tokens.total / times["time/wall_s"],
        "factory/env_steps_per_s": line.env_steps / times["time/wall_s"],
        "health/nonfinite_count": float(line.nonfinite),
        "health/rollbacks": float(line.rollbacks),
    }
    threshold = line.cfg.task.return_threshold
    reached = threshold is not None and row.get("train/return_mean", -np.inf) >= threshold
    if reached and not line.threshold:
        line.threshold = {
            "factory/joules_to_threshold": reading.total_j,
            "factory/seconds_to_threshold": times["time/wall_s"],
        }
    row |= line.threshold
    line.metrics |= row
    line.journal.append(row, line.env_steps)
    line.tracker.log(row, line.env_steps)
    line.note_energy()
    line.console.update(row, reading.tier)


def _warn(line: Line, env: TrainingEnv) -> None:
    for warning in (*env.warnings(), *line.meter.warnings()):
        line.console.message(warning)


def _checkpoint(line: Line) -> None:
    with line.meter.phase("checkpoint"):
        path = line.save()
    line.console.message(f"checkpoint {path}")


def _header(line: Line) -> dict[str, str]:
    cfg = line.cfg
    return {
        "task": line.tags["task"],
        "robot": line.tags["robot"],
        "physics": line.tags["physics"],
        "policy": cfg.policy.name,
        "learner": cfg.learner.name,
        "device": cfg.device,
        "worlds": str(cfg.num_envs),
        "seed": str(cfg.seed),
    }


def _policy_metadata(line: Line) -> dict[str, Any]:
    return {
        "task": line.cfg.task.name,
        "env_id": line.cfg.env_id or line.cfg.task.id,
        "robot": line.cfg.robot,
        **line.env.layout,
        "env_steps": line.env_steps,
        "control_hz": line.policy.token_spec.control_hz,
        "token_spec": dataclasses.asdict(line.policy.token_spec) | {"hash": line.policy.token_spec.hash},
        "versions": provenance.versions(),
    }
