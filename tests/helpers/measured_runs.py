"""Run folders and floors as they are left behind, with figures that are easy to work with by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from factory.floor.lines import Line, LineState, Needs
from factory.floor.records import RUNNING, Sample
from factory.floor.store import Store

TAGS = {
    "task": "cartpole_swingup",
    "device": "Some CPU",
    "git.commit": "3e1a9b7c",
    "token_spec.hash": "ac7e27bd0997",
    "energy.boundary": "allocation",
}


def make_measured_run(
    folder: Path, *, seed: int = 0, value: float = 600.0, tier: str = "measured", **changes: Any
) -> Path:
    """Write a run of 1e6 tokens in 100 s at 20 W, whose joules are known to 10 %.

    Args:
        folder: Run folder to make.
        seed: Seed of the run.
        value: Return of the evaluation; the threshold is 500.
        tier: Energy tier.
        changes: Other metrics, and `status`.
    """
    metrics = {
        "eval/return_mean": value,
        "eval/return_ci95": 10.0,
        "factory/tokens_total": 1e6,
        "factory/cpu_s_per_token": 1e-4,
        "energy/total_j": 2000.0,
        "energy/total_j_lo": 1800.0,
        "energy/total_j_hi": 2200.0,
        "energy/mean_power_w": 20.0,
    }
    status = changes.pop("status", "finished")
    metrics |= changes
    config = {"seed": seed, "task": {"name": "cartpole_swingup", "return_threshold": 500.0}}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    row = {"step": 1_000_000, "time_unix_s": 1.79e9, "metrics": metrics}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    summary = {"status": status, "metrics": metrics, "tags": TAGS | {"energy.tier": tier}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def make_measured_floor(root: Path, *, start: float = 1.79e9) -> Path:
    """Write a floor on which one line, then two lines ran for a minute each, and one of three failed.

    One line draws 20 W for 1000 tokens/s, two draw 30 W for 1800 tokens/s.
    """
    with Store(root, create=True) as store, store.transaction():
        for number in range(3):
            line = Line(
                id=0,
                name=f"cartpole_{number}",
                task="cartpole_swingup",
                overrides=("task=cartpole_swingup", f"seed={number}"),
                spec_hash=f"hash{number}",
                total_steps=1_000_000,
                needs=Needs(cores=1.0, memory_bytes=1),
                run_dir=str(root / "lines" / "{id}" / "run"),
            )
            line = store.add_line(line)
            ends = LineState.FINISHED
            if number == 2:
                ends = LineState.FAILED
            else:
                make_measured_run(Path(line.run_dir), seed=number)
            line = store.move(line, LineState.STARTING, "test")
            store.move(line, ends, "test", tokens=1_000_000)
        joules = 0.0
        tokens = 0
        for second in range(121):
            num_lines = 1 if second <= 60 else 2
            store.add_sample(
                Sample(
                    at=start + second,
                    budget_w=None,
                    power_w=10.0 + 20.0 * num_lines,
                    joules=joules,
                    tokens=tokens,
                    tokens_per_s=0.0,
                    cpu_s=float(second),
                    running=num_lines,
                )
            )
            joules += 10.0 + 10.0 * num_lines
            tokens += 200 + 800 * num_lines
        store.put(RUNNING, {"tier": "measured"})
    return root
