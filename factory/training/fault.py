"""Evidence of a training that was stopped because it went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from factory.config import to_plain
from factory.runtime import provenance
from factory.runtime.strict_json import nan_to_none
from factory.training.job import TrainingJob
from factory.training.state import TrainState

_KEPT_SAMPLES = 256


def write_fault(job: TrainingJob, state: TrainState, problem: str, folder: Path) -> None:
    """Write samples, numbers, settings and versions into `folder`.

    `samples.safetensors` holds, under `step<i>/`, the last steps with unsound values as they were, and under
    `rollout/` the first rows of the last rollout, as it was learned from. `fault.json` holds the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rollout = job.collector.rollout
    parts = {
        "actions": rollout.actions,
        "rewards": rollout.rewards,
        "live": rollout.live,
        **{f"obs/{name}": group for name, group in rollout.obs.items()},
        **{f"extras/{name}": value for name, value in rollout.extras.items()},
    }
    tensors = {f"rollout/{name}": value.flatten(0, 1)[:_KEPT_SAMPLES] for name, value in parts.items()}
    for index, sample in enumerate(job.collector.bad_samples):
        tensors |= {f"step{index}/{name}": value for name, value in sample.items()}
    # Tensors that share memory cannot be saved as they are.
    save_file({name: value.cpu().clone() for name, value in tensors.items()}, folder / "samples.safetensors")

    content = {
        "problem": problem,
        "env_steps": state.env_steps,
        "iteration": state.iteration,
        "health": state.health.to_plain(),
        "metrics": state.metrics,
        "config": to_plain(job.cfg),
        "versions": provenance.versions(),
        "device": str(torch.device(job.cfg.device)),
    }
    (folder / "fault.json").write_text(json.dumps(nan_to_none(content), indent=1, allow_nan=False))
