"""The whole line: train, evaluate, film, export, register, report; and what survives a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from tamper import reseal

from factory.energy.ledger import EnergyLedger
from factory.energy.types import PHASES
from factory.envs.physics import ENGINES
from factory.runtime import distributed
from factory.training import checkpoint, metrics
from factory.training import stages as pipeline

ROOT = Path(__file__).parents[2]
NUM_ENVS, NUM_STEPS, ITERATIONS = 16, 8, 12
ROLLOUT = NUM_ENVS * NUM_STEPS
TINY = (
    "task=cartpole_swingup",
    "task.max_episode_steps=40",
    "learner.num_minibatches=2",
    "learner.schedule=adaptive",  # a linear schedule depends on total_steps, which a resume may change
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
    "runtime.register_model=false",
)
CARTPOLE = (*TINY, f"num_envs={NUM_ENVS}", f"learner.num_steps={NUM_STEPS}")
FILES_ONLY = "tracking=jsonl"

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

Summary = dict[str, Any]


def newest_run(root: Path) -> Path:
    """Return the folder of the run that began last."""
    return max(
        (path.parent for path in root.glob("outputs/**/config.yaml")),
        key=lambda path: path.stat().st_mtime_ns,
    )


def summary_of(run_dir: Path) -> Summary:
    return json.loads((run_dir / "summary.json").read_text())


def assert_equal_checkpoints(first: Path, second: Path, *, env_steps: int) -> None:
    """Compare every tensor of two runs' last checkpoints, bit for bit."""
    folders = [run_dir / "checkpoints" / "last" for run_dir in (first, second)]
    assert [folder.resolve().name for folder in folders] == [str(env_steps)] * 2
    names = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in folders]
    assert names[0] == names[1]
    assert {"policy.safetensors", "learner.safetensors", "env.safetensors"} <= set(names[0])
    for name in names[0]:
        ours, theirs = (load_file(folder / name) for folder in folders)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), f"{name}: {key}"


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


@pytest.mark.slow
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


class Started:
    """`python -m factory.train` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """Start it in `folder`."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._log = (folder / "log").open("w+")
        command = [sys.executable, "-m", "factory.train", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=self._log
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something the process does, while it runs."""
        while not condition():
            assert self.process.poll() is None, self.log()
            time.sleep(0.002)

    def log(self) -> str:
        """Return what it printed."""
        self._log.seek(0)
        return self._log.read()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Return a function that starts training processes, which do not outlive the test."""
    started: list[Started] = []

    def begin(*arguments: str) -> Started:
        started.append(Started(tmp_path, *arguments))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.slow
def test_killed_and_resumed_equals_never_stopped(
    command_line: Callable[..., None], start: Callable[..., Started], tmp_path: Path
) -> None:
    """20 iterations, kill -9 in mid-training, resume, 20 more: every tensor equals that of 40 in one go."""
    common = (*CARTPOLE, FILES_ONLY, "checkpoint_every=20")
    killed = start(*common, f"total_steps={400 * ROLLOUT}")
    killed.wait_until(lambda: any(tmp_path.glob("outputs/*/*/checkpoints/last/state.json")))
    killed.process.send_signal(signal.SIGKILL)
    assert killed.process.wait() == -signal.SIGKILL
    run_dir = newest_run(tmp_path)
    assert (run_dir / "checkpoints" / "last").resolve().name == str(20 * ROLLOUT)
    assert not (run_dir / "summary.json").exists()
    spent = EnergyLedger.from_dict(json.loads((run_dir / "energy.json").read_text())["meter"]).reading()
    command_line(f"resume={run_dir}", f"total_steps={40 * ROLLOUT}")
    assert summary_of(run_dir)["metrics"]["energy/total_j"] > spent.total_j, (
        "the iterations a kill undid were paid for"
    )
    command_line(*common, f"total_steps={40 * ROLLOUT}", "output_root=outputs/straight")
    straight = newest_run(tmp_path)
    assert straight != run_dir
    assert_equal_checkpoints(run_dir, straight, env_steps=40 * ROLLOUT)
    figures = [summary_of(folder)["metrics"] for folder in (run_dir, straight)]
    assert figures[0]["eval/return_mean"] == figures[1]["eval/return_mean"]
    assert figures[0]["factory/tokens_total"] == figures[1]["factory/tokens_total"] == 40 * ROLLOUT
    rows = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows == [*(ROLLOUT * (i + 1) for i in range(40)), 40 * ROLLOUT]


@pytest.mark.slow
@pytest.mark.parametrize("physics", ENGINES)
def test_robot_dog_resumes_exactly(command_line: Callable[..., None], tmp_path: Path, physics: str) -> None:
    """A task with commands, pushes and per-world physics parameters resumes bit for bit as well, on both
    engines.
    """
    options = (
        "task=quadruped_velocity",
        f"physics={physics}",
        "task.max_episode_steps=30",
        *TINY[2:],
        FILES_ONLY,
    )
    common = (*options, "num_envs=8", "learner.num_steps=8", "checkpoint_every=100")
    command_line(*common, "total_steps=192", "output_root=parted")
    parted = newest_run_in(tmp_path / "parted")
    command_line(f"resume={parted}", "total_steps=384")
    command_line(*common, "total_steps=384", "output_root=straight")
    assert_equal_checkpoints(parted, newest_run_in(tmp_path / "straight"), env_steps=384)


def newest_run_in(output_root: Path) -> Path:
    (found,) = (path.parent for path in output_root.glob("*/*/config.yaml"))
    return found


@pytest.mark.slow
def test_interrupt_ends_with_a_checkpoint(start: Callable[..., Started], tmp_path: Path) -> None:
    """SIGINT ends the iteration, saves, reports and exits with 130; what was reached is in checkpoint and
    summary.
    """
    run = start(*CARTPOLE, FILES_ONLY, f"total_steps={10**9}", "checkpoint_every=1000000")
    run.wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("outputs/*/*/metrics.jsonl")))
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=60) == 130, run.log()
    assert "Traceback" not in run.log()
    run_dir = newest_run(tmp_path)
    summary = summary_of(run_dir)
    assert summary["status"] == "interrupted"
    reached = summary["metrics"]["factory/env_steps"]
    assert (run_dir / "checkpoints" / "last").resolve().name == str(int(reached))
    assert json.loads((run_dir / "run.json").read_text())["status"] == "interrupted"
    assert (run_dir / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_during_start_up_is_one_line(
    start: Callable[..., Started], tmp_path: Path, number: signal.Signals
) -> None:
    """A signal while the command line is checked ends with status 130, without a traceback or a run."""
    block = tmp_path / "block.py"
    block.write_text("import pathlib, time\npathlib.Path('reached').touch()\ntime.sleep(60)\n")
    run = start(*CARTPOLE, FILES_ONLY, f"plugins=[{block}]")
    run.wait_until(lambda: (tmp_path / "reached").exists())
    run.process.send_signal(number)
    assert run.process.wait(timeout=30) == 130, run.log()
    assert run.log() == "interrupted\n"
    assert not (tmp_path / "outputs").exists()


def test_checkpoint_that_does_not_fit_changes_no_run(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It ends the resume in one line; configuration and last word are those of the run as it was."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    run_dir = newest_run(tmp_path)
    path = run_dir / "checkpoints" / "last" / "learner.safetensors"
    save_file({"learning_rate": torch.zeros(())}, path)
    reseal(path.parent.resolve())
    kept = [run_dir / name for name in ("config.yaml", "summary.json", "run.json", "metrics.jsonl")]
    before = [path.read_text() for path in kept]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        command_line(f"resume={run_dir}", f"total_steps={2 * ROLLOUT}")
    err = capsys.readouterr().err
    assert err.startswith(f"error: resume={run_dir}: checkpoint {ROLLOUT} does not fit (learner: ")
    assert err.count("\n") == 1
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize("schedule", ["fixed", "adaptive"])
def test_resumed_run_uses_the_step_size_it_is_given(
    command_line: Callable[..., None], tmp_path: Path, schedule: str
) -> None:
    """The rate of a resume is the one it trains with, whatever the checkpoint holds."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}", "learner.schedule=fixed")
    run_dir = newest_run(tmp_path)
    rates = ("learner.learning_rate=1e-5", f"learner.schedule={schedule}", "learner.max_learning_rate=1e-5")
    command_line(f"resume={run_dir}", f"total_steps={2 * ROLLOUT}", *rates)
    assert summary_of(run_dir)["metrics"]["loss/learning_rate"] == pytest.approx(1e-5)


@pytest.mark.parametrize("change", ["seed=7", "hydra.run.dir=elsewhere", "num_envs=8", "policy.init_std=0.1"])
def test_resume_refuses_what_it_cannot_change(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], smoke: Path, change: str
) -> None:
    """A setting that would have no effect, or not fit, ends in one line that names it."""
    summary = (smoke / "summary.json").read_text()
    with pytest.raises(SystemExit, match="2"):
        command_line(f"resume={smoke}", "total_steps=1000000", change)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {change}: ")
    assert err.count("\n") == 1
    assert (smoke / "summary.json").read_text() == summary


def interrupt_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, calls: int) -> None:
    """Send this process SIGINT at the end of so many calls of a function."""
    function, ended = getattr(module, name), count(1)

    def interrupting(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if next(ended) == calls:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(module, name, interrupting)


@pytest.mark.parametrize(("module", "name"), [(distributed, "any_rank"), (metrics, "episodes")])
def test_interrupt_counts_only_once_all_processes_know(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any, name: str
) -> None:
    """One that comes during or after the second iteration's agreement ends the third, as in every other
    process.
    """
    interrupt_after(monkeypatch, module, name, calls=2)
    with pytest.raises(SystemExit, match="130"):
        command_line(*CARTPOLE, FILES_ONLY, f"total_steps={5 * ROLLOUT}")
    assert (newest_run(tmp_path) / "checkpoints" / "last").resolve().name == str(3 * ROLLOUT)


@pytest.mark.slow
def test_interrupt_after_training_leaves_out_the_stages_that_remain(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One that comes during the evaluation lets it end, says what it leaves out, and a resume makes up for
    it.
    """
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        interrupt_after(patch, pipeline.evaluation, "evaluate", calls=1)
        command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    run_dir = newest_run(tmp_path)
    assert "finishing the stage, then skipping to the report" in capsys.readouterr().err
    assert summary_of(run_dir)["status"] == "interrupted"
    assert "eval/return_mean" in summary_of(run_dir)["metrics"] and (run_dir / "report.html").exists()
    assert not (run_dir / "export").exists()
    command_line("resume=last")
    assert summary_of(run_dir)["status"] == "finished" and (run_dir / "export").exists()


def test_interrupt_that_leaves_out_nothing_is_none(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that comes when the last stage runs changes nothing: the run finished, and its exit status says
    so.
    """
    interrupt_after(monkeypatch, checkpoint, "manifest", calls=1)
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    assert summary_of(newest_run(tmp_path))["status"] == "finished"


@pytest.mark.slow
def test_disk_that_takes_no_more_ends_in_one_line_and_keeps_what_is_whole(tmp_path: Path) -> None:
    """A run whose checkpoints outgrow the space says so in one line, exit status 1, and is resumed with
    room.
    """
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this platform")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))  # noqa: E731
    arguments = [
        *CARTPOLE,
        FILES_ONLY,
        f"total_steps={2 * ROLLOUT}",
        "checkpoint_every=1",
        f"output_root={tmp_path}",
    ]
    arguments.append("policy.actor_hidden=[256,256]")
    command = [sys.executable, "-m", "factory.train", *arguments]
    ended = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, timeout=120)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 1 and len(errors) == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert "could not be written" in errors[0] and "resume=" in errors[0]
    assert not list(newest_run_in(tmp_path).glob("checkpoints/.*")), "what was begun must be cleared away"


def test_figures_without_a_meter_have_no_joules(command_line: Callable[..., None], tmp_path: Path) -> None:
    """With `energy=null tracking=null` nothing is invented: no joules, and seconds all the same."""
    command_line(*CARTPOLE, "energy=null", "tracking=null", f"total_steps={ROLLOUT}")
    summary = summary_of(newest_run(tmp_path))
    figures = summary["metrics"]
    assert summary["status"] == "finished"
    assert summary["mlflow_run_id"] is None
    assert not [key for key in figures if key.startswith("energy/") or "joule" in key]
    assert figures["time/wall_s"] > 0
    assert figures["factory/tokens_total"] == ROLLOUT


def test_run_that_reaches_the_threshold_says_when_and_passes_the_gate(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    """Joules and seconds stay those of the first iteration that got there; the evaluation makes the tokens
    good.
    """
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={4 * ROLLOUT}", "task.return_threshold=-1000")
    run_dir = newest_run(tmp_path)
    rows = [json.loads(line)["metrics"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "train/return_mean" in row)
    figures, tags = rows[-1], summary_of(run_dir)["tags"]
    assert figures["factory/joules_to_threshold"] == first["energy/total_j"] < figures["energy/total_j"]
    assert figures["factory/seconds_to_threshold"] == first["time/wall_s"]
    assert tags["threshold.reached"] == "true"
    assert figures["factory/tokens_good"] == figures["factory/tokens_total"] == 4 * ROLLOUT


def test_single_episode_passes_no_gate(
    command_line: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without an interval there is no lower bound to hold against the threshold, and nothing is made up for
    it.
    """
    from factory import evaluate

    command_line(
        *CARTPOLE,
        FILES_ONLY,
        f"total_steps={ROLLOUT}",
        "task.return_threshold=-1000",
        "runtime.eval_episodes=1",
    )
    run_dir = newest_run(tmp_path)
    figures = summary_of(run_dir)["metrics"]
    assert figures["eval/return_mean"] > -1000 and figures["factory/tokens_good"] == 0
    monkeypatch.setattr(sys, "argv", ["factory-evaluate", f"run={run_dir}", "episodes=1"])
    evaluate.main()
    assert "(a single episode: no interval)" in capsys.readouterr().out
    found = json.loads((run_dir / "evaluation.json").read_text())["metrics"]
    assert not {"eval/return_std", "eval/return_ci95"} & (found.keys() | figures.keys())


def test_run_that_never_reaches_the_threshold_is_marked_as_such(smoke: Path) -> None:
    """It has no joules to the threshold, so that nobody takes it for one that did, and no good tokens."""
    summary = summary_of(smoke)
    assert not [key for key in summary["metrics"] if key.endswith("to_threshold")]
    assert summary["tags"]["threshold.reached"] == "false"
    assert summary["metrics"]["factory/tokens_good"] == 0


def test_idle_power_gives_a_net_figure_beside_the_gross_one(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    """With `energy.idle_s` the run has both figures, and the idle power it took off, with intervals."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}", "energy.idle_s=0.1")
    summary = summary_of(newest_run(tmp_path))
    figures, tags = summary["metrics"], summary["tags"]
    assert figures["factory/net_joules_per_token"] < figures["factory/joules_per_token"]
    assert " W [" in tags["energy.idle_power"] and " J/token [" in tags["energy.net_joules_per_token"]
