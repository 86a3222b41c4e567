"""A whole training: train, evaluate, record, export, register and report."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors.torch import load_file
from training_runs import CARTPOLE, NUM_ENVS, NUM_STEPS, ROLLOUT, newest_run, summary_of

from factory.energy.types import PHASES

pytestmark = pytest.mark.slow

ITERATIONS = 12
FIGURES = {
    "train": "return_mean episode_length_mean success_rate",
    "eval": "return_mean return_std success_rate",
    "factory": "env_steps iterations tokens_total tokens_per_s env_steps_per_s joules_per_token"
    " rollout_joules_per_token tokens_per_joule cpu_s_per_token usd gco2e usd_per_mtoken"
    " gco2e_per_mtoken tokens_good",
    "energy": "total_j cpu_j gpu_j dram_j unattributed_j total_j_lo total_j_hi mean_power_w",
    "time": "wall_s sim_s physics_s infer_s learn_s meter_s",
    "loss": "policy value entropy approx_kl clip_fraction explained_variance learning_rate grad_norm",
    "health": "bad_samples skipped_steps rollbacks",
}
KEYS = {f"{group}/{name}" for group, names in FIGURES.items() for name in names.split()} | {
    f"energy/phase/{phase}_j" for phase in PHASES
}
TAGS = {
    "energy.tier",
    "energy.boundary",
    "energy.phase_tier",
    "energy.components",
    "token_spec.hash",
    "task",
    "robot",
    "physics",
    "device",
    "git.commit",
    "git.dirty",
}


@pytest.fixture(scope="module")
def smoke(shared_command_line: Callable[..., None]) -> Path:
    """Run every stage of the line once, with the ledger; return the run's folder."""
    shared_command_line(
        "experiment=smoke",
        "tracking=mlflow",
        f"num_envs={NUM_ENVS}",
        f"learner.num_steps={NUM_STEPS}",
        f"total_steps={ITERATIONS * ROLLOUT}",
        "checkpoint_every=5",
        "task.max_episode_steps=40",
        "runtime.eval_episodes=8",
        "runtime.video_s=0.4",
        "runtime.keep_checkpoints=2",
    )
    return newest_run(Path.cwd())


@pytest.fixture(scope="module")
def ledger(smoke: Path) -> Any:
    """Return a client of the MLflow store of this module's runs."""
    from factory.tracking.store import connect

    return connect(f"sqlite:///{smoke.parents[1] / 'mlflow.db'}")


def test_run_leaves_everything_a_user_looks_for(smoke: Path) -> None:
    """Configuration, curves, checkpoints, film, exported policy, report and summary are in the run's
    folder.
    """
    for name in (
        "config.yaml",
        ".hydra/overrides.yaml",
        "metrics.jsonl",
        "reward_terms.csv",
        "checkpoints/last/state.json",
        "videos/filmstrip.png",
        "export/policy.pt2",
        "export/policy.json",
        "report.html",
        "summary.json",
    ):
        assert (smoke / name).stat().st_size > 0, name
    assert len(list((smoke / "videos").glob("*.mp4"))) == 1
    assert not list(smoke.rglob("*.pkl"))
    steps = sorted(int(path.name) for path in (smoke / "checkpoints").iterdir() if path.name != "last")
    assert steps == [10 * ROLLOUT, ITERATIONS * ROLLOUT]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_0_[0-9a-f]{4}", smoke.name)


def test_summary_holds_every_figure_with_its_origin(smoke: Path) -> None:
    """Every key that applies is there and finite, at most sixty, and the joules have tier, boundary and
    interval.
    """
    summary = summary_of(smoke)
    figures = summary["metrics"]
    assert summary["status"] == "finished"
    assert not KEYS - figures.keys()
    assert len(figures) <= 60
    assert all(re.fullmatch(r"[a-z0-9_/]+", key) for key in figures)
    assert all(abs(value) < float("inf") for value in figures.values())
    assert not TAGS - summary["tags"].keys()
    assert summary["tags"]["energy.tier"] in ("measured", "sampled", "apportioned", "estimated")
    assert 0 < figures["energy/total_j_lo"] <= figures["energy/total_j"] <= figures["energy/total_j_hi"]
    assert {"python", "torch", "mujoco", "mlflow"} <= summary["versions"].keys()
    assert summary["device"]


def test_joules_are_conserved(smoke: Path) -> None:
    """Phases and rest make up the total, and joules per token times tokens are the run's joules."""
    figures = summary_of(smoke)["metrics"]
    parts = [figures[f"energy/phase/{phase}_j"] for phase in PHASES] + [figures["energy/unattributed_j"]]
    total_j = figures["energy/total_j"]
    assert sum(parts) == pytest.approx(total_j, rel=1e-9)
    assert figures["factory/joules_per_token"] * figures["factory/tokens_total"] == pytest.approx(
        total_j, rel=1e-9
    )
    assert figures["factory/tokens_per_joule"] * figures["factory/joules_per_token"] == pytest.approx(
        1.0, rel=1e-9
    )
    components = sum(figures[f"energy/{name}_j"] for name in ("cpu", "gpu", "dram"))
    assert components == pytest.approx(total_j, rel=1e-9)


def test_tokens_are_the_steps_that_were_executed(smoke: Path) -> None:
    """Tokens of training are worlds times steps times iterations; those of evaluation are counted apart."""
    figures = summary_of(smoke)["metrics"]
    assert (
        figures["factory/tokens_total"] == figures["factory/env_steps"] == NUM_ENVS * NUM_STEPS * ITERATIONS
    )
    assert figures["factory/iterations"] == ITERATIONS
    state = json.loads((smoke / "checkpoints" / "last" / "state.json").read_text())
    assert state["tokens"]["total"] == NUM_ENVS * NUM_STEPS * ITERATIONS
    assert state["tokens"]["evaluation"] == 0
    counts = summary_of(smoke)["tokens"]
    epochs = yaml.safe_load((smoke / "config.yaml").read_text())["learner"]["num_epochs"]
    assert counts["processed"] == epochs * counts["total"]
    assert counts["evaluation"] == 8 * 40
    assert counts["good"] == 0


def test_every_iteration_is_in_the_curves(smoke: Path) -> None:
    """`metrics.jsonl` has one row an iteration and the final one; `reward_terms.csv` one row an iteration."""
    rows = [json.loads(line) for line in (smoke / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [
        *(ROLLOUT * (i + 1) for i in range(ITERATIONS)),
        ITERATIONS * ROLLOUT,
    ]
    assert rows[-1]["metrics"] == summary_of(smoke)["metrics"]
    totals_j = [row["metrics"]["energy/total_j"] for row in rows]
    assert totals_j == sorted(totals_j)
    table = list(csv.reader((smoke / "reward_terms.csv").open()))
    assert table[0] == ["step", "upright", "centred", "calm"]
    assert [int(row[0]) for row in table[1:]] == [ROLLOUT * (i + 1) for i in range(ITERATIONS)]


def test_ledger_has_the_run_as_it_ended(smoke: Path, ledger: Any) -> None:
    """The MLflow run is finished, with the final figures, the tags, the parameters and the files."""
    summary = summary_of(smoke)
    run = ledger.get_run(summary["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert ledger.get_experiment(run.info.experiment_id).name == "cartpole_swingup"
    for key, value in summary["metrics"].items():
        assert run.data.metrics[key] == pytest.approx(value, rel=1e-12), key
    assert summary["tags"].items() <= run.data.tags.items()
    assert run.data.params["learner.num_steps"] == str(NUM_STEPS)
    files = {item.path for item in ledger.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "metrics.jsonl", "reward_terms.csv", "checkpoint_manifest.json"} <= files
    assert {"hydra", "videos", "export", "report.html", "summary.json"} <= files
    steps = {point.step for point in ledger.get_metric_history(run.info.run_id, "energy/total_j")}
    assert ITERATIONS * ROLLOUT in steps


def test_policy_is_registered_under_its_task(smoke: Path, ledger: Any) -> None:
    """The model `cartpole_swingup@latest` is this run's policy."""
    version = ledger.get_model_version_by_alias("cartpole_swingup", "latest")
    assert version.run_id == summary_of(smoke)["mlflow_run_id"]


def test_exported_policy_acts_like_the_checkpoint(smoke: Path) -> None:
    """The exported program is the deterministic policy of the last checkpoint."""
    from factory import config
    from factory.policies.export import load_exported
    from factory.training.build import make_env, make_policy

    cfg = config.from_plain(yaml.safe_load((smoke / "config.yaml").read_text()))
    env = make_env(cfg, num_envs=3)
    policy = make_policy(cfg, env)
    policy.load_state_dict(load_file(smoke / "checkpoints" / "last" / "policy.safetensors"))
    obs = env.reset(seed=5)[0]
    env.close()
    expected, _ = policy.act_deterministic({"policy": obs, "critic": obs}, policy.initial_state(3))
    torch.testing.assert_close(load_exported(smoke / "export")(obs), expected, rtol=0, atol=1e-5)


def test_evaluation_repeats_exactly(
    smoke: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m factory.evaluate` writes its figures into the run's folder, the same ones every time.

    It prints where the video is, if there is one.
    """
    from factory import evaluate

    found = []
    for name in ("last", str(smoke), summary_of(smoke)["mlflow_run_id"]):
        with_video = name == "last"
        arguments = [f"run={name}", "episodes=8", f"video={str(with_video).lower()}"]
        monkeypatch.setattr(sys, "argv", ["factory-evaluate", *arguments])
        capsys.readouterr()
        evaluate.main()
        video = str(smoke / "videos" / f"policy_{ITERATIONS * ROLLOUT:09d}.mp4")
        assert (video in capsys.readouterr().out) == with_video
        found.append(json.loads((smoke / "evaluation.json").read_text()))
        (smoke / "evaluation.json").unlink()
    assert found[0] == found[1] == found[2]
    final = summary_of(smoke)["metrics"]
    assert found[0]["env_steps"] == ITERATIONS * ROLLOUT
    assert found[0]["metrics"] == {key: value for key, value in final.items() if key.startswith("eval/")}


def test_resuming_goes_on_with_the_same_ledger_run(
    smoke: Path,
    ledger: Any,
    shared_command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """`resume=last` keeps folder, options and MLflow run; counts, joules and curves go on from where they
    were.
    """
    shared_command_line(*CARTPOLE, "seed=7", f"total_steps={2 * ROLLOUT}", "tracking.system_metrics=false")
    run_dir = newest_run(Path.cwd())
    before = summary_of(run_dir)
    shared_command_line("resume=last", f"total_steps={4 * ROLLOUT}")
    after = summary_of(run_dir)
    assert newest_run(Path.cwd()) == run_dir != smoke
    assert after["mlflow_run_id"] == before["mlflow_run_id"] is not None
    run = ledger.get_run(after["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    history = ledger.get_metric_history(run.info.run_id, "factory/tokens_total")
    assert max(point.step for point in history) == 4 * ROLLOUT
    figures = after["metrics"]
    assert figures["factory/tokens_total"] == 4 * ROLLOUT
    for key in ("energy/total_j", "time/wall_s", "time/physics_s", "energy/phase/sim_j"):
        assert figures[key] > before["metrics"][key], key
    assert after["tokens"]["evaluation"] > before["tokens"]["evaluation"] > 0
    assert figures["energy/phase/eval_j"] > before["metrics"]["energy/phase/eval_j"] > 0.0, (
        "what a resume finds counts"
    )
    training_s = sum(figures[f"time/{phase}_s"] for phase in ("sim", "infer", "learn"))
    history_s = [point.value for point in ledger.get_metric_history(run.info.run_id, "time/wall_s")]
    assert training_s < figures["time/wall_s"] == max(history_s)
    state = json.loads((run_dir / "checkpoints" / "last" / "state.json").read_text())
    assert state["excluded_s"]["time/wall_s"] > 0.0 == state["excluded_s"]["time/sim_s"], (
        "evaluation is not training time"
    )
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["seed"] == 7
    steps = [int(row[0]) for row in list(csv.reader((run_dir / "reward_terms.csv").open()))[1:]]
    assert steps == [ROLLOUT * (i + 1) for i in range(4)]
    monkeypatch.chdir(tmp_path)
    shared_command_line(f"resume={run_dir}", f"total_steps={5 * ROLLOUT}")
    assert not list(tmp_path.iterdir()), "resumed from another folder, the run began another ledger"
    assert summary_of(run_dir)["mlflow_run_id"] == after["mlflow_run_id"]
    assert ledger.get_run(after["mlflow_run_id"]).data.metrics["factory/tokens_total"] == 5 * ROLLOUT


def test_sweep_is_one_parent_with_its_children(
    smoke: Path, ledger: Any, shared_command_line: Callable[..., None]
) -> None:
    """`-m seed=0,1` makes two finished runs under one finished parent, each in a folder of its own."""
    shared_command_line(
        "-m", "seed=0,1", *CARTPOLE, f"total_steps={ROLLOUT}", "tracking.system_metrics=false"
    )
    experiment = ledger.get_experiment_by_name("cartpole_swingup").experiment_id
    runs = ledger.search_runs([experiment])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 2
    assert {run.data.params["seed"] for run in children} == {"0", "1"}
    parent = ledger.get_run(children[0].data.tags["mlflow.parentRunId"])
    assert children[1].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert "seed=0,1" in parent.data.tags["overrides"]
    folders = {path.parent for path in Path.cwd().glob("outputs/cartpole_swingup/sweep_*/*/summary.json")}
    assert {summary_of(folder)["mlflow_run_id"] for folder in folders} == {
        run.info.run_id for run in children
    }
    assert "FACTORY_PARENT_RUN_ID" not in os.environ


def test_parent_of_a_sweep_says_how_it_ended(smoke: Path, ledger: Any) -> None:
    """A failed job makes the sweep failed, a process that dies on the way leaves it killed."""
    from factory.tracking import TrackingConfig
    from factory.training import sweep

    composed = OmegaConf.create(
        {
            "tracking": OmegaConf.structured(TrackingConfig),
            "output_root": str(smoke.parents[1]),
            "task": {"name": "cartpole_swingup"},
            "env_id": "",
            "hydra": {"sweep": {"dir": "a/sweep"}, "overrides": {"task": ["seed=0,1"]}},
        }
    )
    for outcome in ("FINISHED", "FAILED", "KILLED"):
        tracker = sweep.SweepTracker()
        tracker.on_multirun_start(composed)
        run_id = sweep.parent_run_id()
        assert run_id is not None
        if outcome == "FAILED":
            sweep.record_failure(0)
        if outcome == "KILLED":
            tracker.close()
        else:
            tracker.on_multirun_end(composed)
        assert ledger.get_run(run_id).info.status == outcome
        assert sweep.parent_run_id() is None
    sweep.forget()


def test_run_that_never_reaches_the_threshold_is_marked_as_such(smoke: Path) -> None:
    """It has no joules to the threshold, so that nobody takes it for one that did, and no good tokens."""
    summary = summary_of(smoke)
    assert not [key for key in summary["metrics"] if key.endswith("to_threshold")]
    assert summary["tags"]["threshold.reached"] == "false"
    assert summary["metrics"]["factory/tokens_good"] == 0
