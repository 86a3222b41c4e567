"""Environments of other packages go through every stage: train, evaluate, film, export, register, resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from factory import config, tasks
from factory.policies.export import describe_exported, load_exported
from factory.tracking.store import connect
from factory.training import checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = (
    "task=gymnasium",
    "num_envs=4",
    "learner.num_steps=16",
    "learner.num_epochs=2",
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0.2",
    "tracking.system_metrics=false",
    "learner.schedule=fixed",
)
ROLLOUT = 4 * 16
FOREIGN = ("Pendulum-v1", "CartPole-v1", "MountainCarContinuous-v0", "highway_env:highway-fast-v0")


def only_run(env_id: str) -> Path:
    """Return the folder of the only run of an environment."""
    (found,) = Path.cwd().glob(f"outputs/gymnasium/{env_id}/*/config.yaml")
    return found.parent


def summary_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "summary.json").read_text())


@pytest.fixture(scope="module", params=FOREIGN)
def trained(request: pytest.FixtureRequest, shared_command_line: Callable[..., None]) -> tuple[str, Path]:
    """Run every stage on an environment, short episodes; return its id and the run's folder."""
    shared_command_line(
        *SMALL, f"env_id={request.param}", f"total_steps={2 * ROLLOUT}", "task.max_episode_steps=12"
    )
    return request.param, only_run(request.param)


def test_every_stage_leaves_what_it_should(trained: tuple[str, Path]) -> None:
    """Figures, film, exported policy and report are there; tokens are the live steps, and names hold the
    id.
    """
    env_id, run_dir = trained
    for name in ("videos/filmstrip.png", "export/policy.pt2", "report.html", "checkpoints/last/state.json"):
        assert (run_dir / name).stat().st_size > 0, name
    summary = summary_of(run_dir)
    figures, tags = summary["metrics"], summary["tags"]
    assert summary["status"] == "finished"
    assert tags["task"] == f"gymnasium/{env_id}"
    own_batch = env_id == "CartPole-v1"
    assert tags["physics"] == ("gymnasium vector_entry_point" if own_batch else "gymnasium sync")
    assert figures["factory/env_steps"] == 2 * ROLLOUT
    assert (figures["factory/tokens_total"] < 2 * ROLLOUT) is own_batch
    assert figures["time/physics_s"] <= figures["time/sim_s"]
    assert figures["eval/episodes"] == 4
    assert 1 <= figures["eval/episode_length_mean"] <= 12


def test_ledger_has_an_experiment_for_each_environment(trained: tuple[str, Path]) -> None:
    """Experiment and registered model are named by the environment; a slash or colon is a dot in the
    model's.
    """
    from factory.tracking.store import connect

    env_id, run_dir = trained
    store = connect(f"sqlite:///{Path.cwd() / 'outputs' / 'mlflow.db'}")
    run = store.get_run(summary_of(run_dir)["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert store.get_experiment(run.info.experiment_id).name == f"gymnasium/{env_id}"
    model = store.get_model_version_by_alias(f"gymnasium.{env_id.replace(':', '.')}", "latest")
    assert model.run_id == run.info.run_id


def test_evaluation_repeats(trained: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m factory.evaluate` finds the figures of the final evaluation again."""
    from factory import evaluate

    env_id, run_dir = trained
    # An environment whose module has to be imported is used only if the command names it.
    named = [f"env_id={env_id}"] if ":" in env_id else []
    monkeypatch.setattr(sys, "argv", ["factory-evaluate", f"run={run_dir}", "episodes=4", *named])
    evaluate.main()
    found = json.loads((run_dir / "evaluation.json").read_text())["metrics"]
    assert found == {
        key: value for key, value in summary_of(run_dir)["metrics"].items() if key.startswith("eval/")
    }


def test_exported_policy_plays_in_the_environment_itself(trained: tuple[str, Path]) -> None:
    """`policy.pt2` takes flattened observations and gives actions that the plain environment accepts."""
    env_id, run_dir = trained
    env, act = gymnasium.make(env_id), load_exported(run_dir / "export")
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        flat = gymnasium.spaces.flatten(env.observation_space, obs)
        action = act(torch.from_numpy(np.asarray(flat, dtype=np.float32))[None])[0].numpy()
        assert env.action_space.contains(action.astype(env.action_space.dtype))
        obs, *_ = env.step(action)
    env.close()
    described = describe_exported(run_dir / "export")
    assert (described["env_id"], described["action"]) == (env_id, str(env.action_space))
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    expected = {"shape": [-1], "dtype": "int64"} if discrete else {"shape": [-1, 1], "dtype": "float32"}
    assert described["output"] == expected


def test_exported_choice_is_the_argmax(trained: tuple[str, Path]) -> None:
    """The exported program is the deterministic policy of the checkpoint, in the environment's own units."""
    from factory.training.build import make_env, make_policy

    _, run_dir = trained
    cfg = config.from_plain(yaml.safe_load((run_dir / "config.yaml").read_text()))
    env = make_env(cfg, num_envs=3)
    policy = make_policy(cfg, env)
    policy.load_state_dict(load_file(run_dir / "checkpoints" / "last" / "policy.safetensors"))
    obs = env.reset(seed=5)[0]
    expected, _ = policy.act_deterministic({"policy": obs, "critic": obs}, policy.initial_state(3))
    native = env.unwrapped.native_actions(expected)
    env.close()
    torch.testing.assert_close(load_exported(run_dir / "export")(obs), native, rtol=0, atol=1e-5)


def test_resumed_run_starts_new_episodes_and_keeps_the_rest(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts go on, the console says once what is not exact, and two resumes of one checkpoint are equal."""
    run = (*SMALL, "env_id=Pendulum-v1", "tracking=jsonl", "runtime.video_s=0")
    command_line(*run, f"total_steps={2 * ROLLOUT}")
    first = only_run("Pendulum-v1")
    assert "new ones start" not in capsys.readouterr().out
    run_dir = Path(shutil.copytree(first, Path.cwd() / "copy", symlinks=True))
    resumed = []
    for folder in (first, run_dir):
        command_line(f"resume={folder}", f"total_steps={4 * ROLLOUT}")
        assert (
            capsys.readouterr().out.count("the episodes of Pendulum-v1 cannot be saved: new ones start") == 1
        )
        assert summary_of(folder)["metrics"]["factory/tokens_total"] == 4 * ROLLOUT
        resumed.append(load_file(folder / "checkpoints" / "last" / "policy.safetensors"))
    assert all(torch.equal(value, resumed[1][name]) for name, value in resumed[0].items())
    with pytest.raises(SystemExit):
        command_line(f"resume={run_dir}", "env_id=MountainCarContinuous-v0")
    assert "env_id=MountainCarContinuous-v0: the run to resume has Pendulum-v1" in capsys.readouterr().err


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_world_that_fails_ends_the_run_in_one_line(
    command_line: Callable[..., None], capfd: pytest.CaptureFixture[str], vectorization: str
) -> None:
    """One line on stderr, exit status 1, a summary that says failed, and the traceback in a file."""
    event = "task.kwargs={event:error,when:5}"
    with pytest.raises(SystemExit) as stopped:
        command_line(
            *SMALL,
            "env_id=odd_worlds:odd/Odd-v0",
            event,
            f"task.vectorization={vectorization}",
            "tracking=jsonl",
            f"total_steps={ROLLOUT}",
        )
    assert stopped.value.code == 1
    err = capfd.readouterr().err
    run_dir = only_run("odd_worlds:odd/Odd-v0")
    line = "error: env_id=odd_worlds:odd/Odd-v0: a world failed: the wheel came off; traceback in "
    assert err == f"{line}{run_dir / 'traceback.txt'}\n"
    assert "in _happen" in (run_dir / "traceback.txt").read_text()
    assert summary_of(run_dir)["status"] == "failed"


def test_world_that_hangs_ends_the_run_with_its_ledger_closed(tmp_path: Path) -> None:
    """One error line and exit status 1; the checkpoint before is whole and named, MLflow's run is FAILED."""
    job = [
        *SMALL,
        "env_id=odd_worlds:odd/Odd-v0",
        "task.kwargs={event:hang,when:25,length:40}",
        "task.step_timeout_s=1",
        "checkpoint_every=1",
        f"total_steps={8 * ROLLOUT}",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "factory.train", *job],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers")))},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    (run_dir,) = tmp_path.glob("outputs/gymnasium/odd_worlds:odd/Odd-v0/*")
    assert line.startswith("error: a step of the environments did not return within task.step_timeout_s=1;")
    assert line.endswith(f"; resume={run_dir} goes on from step {ROLLOUT}")
    assert checkpoint.load(run_dir).env_steps == ROLLOUT
    assert "in _happen" in (run_dir / "hang.txt").read_text()
    assert summary_of(run_dir)["status"] == "failed"
    ledger = connect(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert ledger.get_run(summary_of(run_dir)["mlflow_run_id"]).info.status == "FAILED"


def test_run_without_pictures_says_so_and_goes_on(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that draws nothing costs the film, nothing else; nested observations are learned
    from.
    """
    from odd_worlds import Odd

    monkeypatch.setattr(Odd, "render", lambda self: None)
    env_id = "odd_worlds:odd/Odd-v0"
    command_line(*SMALL, f"env_id={env_id}", "tracking=jsonl", f"total_steps={ROLLOUT}")
    assert f"no video: env_id={env_id}: it draws no rgb_array pictures" in capsys.readouterr().out
    assert summary_of(only_run(env_id))["status"] == "finished"
    assert (only_run(env_id) / "export" / "policy.pt2").exists()
    assert not (only_run(env_id) / "videos").exists()


def test_interrupt_reaches_the_line_and_no_worker(tmp_path: Path) -> None:
    """Ctrl-C in a terminal, which signals the whole process group, ends with a checkpoint and exit status
    130.
    """
    command = [
        sys.executable,
        "-m",
        "factory.train",
        *SMALL,
        "env_id=Pendulum-v1",
        "task.vectorization=async",
        "tracking=jsonl",
        f"total_steps={10**9}",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while not any(path.stat().st_size for path in tmp_path.glob("outputs/**/metrics.jsonl")):
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) == 130, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait(timeout=60)
    (summary,) = tmp_path.glob("outputs/**/summary.json")
    assert json.loads(summary.read_text())["status"] == "interrupted"
    assert (summary.parent / "checkpoints" / "last" / "policy.safetensors").exists()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_table_of_tasks_shows_an_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m factory.tasks` has a row for the general task, which names what is missing."""
    monkeypatch.setattr(sys, "argv", ["factory-tasks"])
    tasks.main()
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "gymnasium" in line and "│" in line)
    assert "depends on env_id" in row
    assert "any env_id" in out


def test_table_of_tasks_takes_no_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is refused in one line, as other commands do, and no table is printed."""
    monkeypatch.setattr(sys, "argv", ["factory-tasks", "foo=bar"])
    with pytest.raises(SystemExit, match="2"):
        tasks.main()
    assert capsys.readouterr() == ("", "error: foo=bar: no such key; choose one of plugins\n")


def test_cartpole_is_solved(command_line: Callable[..., None]) -> None:
    """The preset reaches the most there is, in every one of 100 evaluation episodes."""
    command_line("experiment=cartpole_v1", "tracking=jsonl", "runtime.video_s=0")
    figures = summary_of(only_run("CartPole-v1"))["metrics"]
    assert figures["eval/return_mean"] == 500.0
    assert figures["eval/episodes"] == 100
    assert figures["eval/success_rate"] == 1.0
