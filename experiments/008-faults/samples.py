"""Faults of the kind: samples that are not finite, absurd, or never come."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from promises import STOPPED, Fault, finished_with
from sick_worlds import SICKNESSES, env_id
from workshop import FILES_ONLY, ITERATION, Seen, Workshop, lost_checkpoint, newest_run

JOB = (
    "task=gymnasium",
    "num_envs=16",
    "learner.num_steps=8",
    "learner.num_minibatches=2",
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
    "runtime.register_model=false",
    "checkpoint_every=1",
    FILES_ONLY,
)


def _not_finite(run_dir: Path) -> str:
    """Say which weights of the newest checkpoint are not finite, or that nothing was learned at all."""
    import numpy as np
    from safetensors.numpy import load_file

    weights = load_file(run_dir / "checkpoints" / "last" / "policy.safetensors")
    bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        return f"weights are not finite: {bad[0]}"
    first = min((run_dir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    before = load_file(first / "policy.safetensors")
    if all(np.array_equal(before[name], value) for name, value in weights.items()):
        return "learning ended in silence"
    return ""


def _train(sickness: str, more: Sequence[str], shop: Workshop, folder: Path) -> Seen:
    seen = shop.run(
        "train", *JOB, f"env_id={env_id(sickness)}", f"total_steps={24 * ITERATION}", *more, folder=folder
    )
    if not list(folder.glob("outputs/**/checkpoints/last/state.json")):
        return seen
    run_dir = newest_run(folder)
    return dataclasses.replace(seen, lost=lost_checkpoint(run_dir) or _not_finite(run_dir))


def faults() -> Iterator[Fault]:
    """Yield one fault for every sickness."""
    for sickness, (place, _) in SICKNESSES.items():
        stops = place in ("exception", "shape", "sleep")
        more = ("task.step_timeout_s=5",) if place == "sleep" else ()
        promise = STOPPED if stops else finished_with("not finite" if "1e35" not in sickness else "health")
        yield Fault(kind="sample", name=sickness, promise=promise, inject=partial(_train, sickness, more))
