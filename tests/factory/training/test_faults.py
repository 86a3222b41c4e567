"""Faults injected into whole trainings: learning goes on or stops by name, and nothing bad is kept."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from factory import cli, evaluate
from factory.envs.adapters.gymnasium_env import GymnasiumEnv
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.learners.ppo import Ppo
from factory.policies.mlp import MlpPolicy
from factory.training import checkpoint

pytestmark = pytest.mark.slow

WORLDS = 64
ROLLOUT = WORLDS * 4
CARTPOLE = (
    "experiment=smoke",
    "tracking=jsonl",
    f"num_envs={WORLDS}",
    "learner.num_steps=4",
    "checkpoint_every=3",
    "learner.num_minibatches=2",
    "learner.schedule=adaptive",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
)


def run_of(folder: Path) -> tuple[Path, dict[str, float]]:
    """Return the newest run's folder and last metrics."""
    summary = max(folder.glob("outputs/**/summary.json"), key=lambda path: path.stat().st_mtime_ns)
    return summary.parent, json.loads(summary.read_text())["metrics"]


def tensors(run_dir: Path, part: str = "policy") -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoints" / "last" / f"{part}.safetensors")


def assert_finite(run_dir: Path) -> None:
    """Check the checkpoints that the run left behind."""
    files = list((run_dir / "checkpoints").glob("*/*.safetensors"))
    assert files
    for file in files:
        for name, value in load_file(file).items():
            assert not value.is_floating_point() or value.isfinite().all(), f"{file}: {name}"


def at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, spoil: Callable[[int, Any], Any]) -> None:
    """Let every call of a method return `spoil(number of the call, result)`."""
    method = getattr(owner, name)
    calls = []

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return spoil(len(calls), method(self, *args, **kwargs))

    monkeypatch.setattr(owner, name, spoilt)


def nan_action(call: int, result: Any) -> Any:
    """Put one NaN into one action of one step."""
    action, extras, state = result
    if call == 3:
        action[5] = math.nan
    return action, extras, state


def absurd_reward(call: int, result: Any) -> Any:
    """Let one world of the training pay 1e35 in every step."""
    reward, terminated, info = result
    if len(reward) == WORLDS:
        reward[7] = 1e35
    return reward, terminated, info


@pytest.mark.parametrize(
    ("owner", "name", "spoil", "count"),
    [
        (MlpPolicy, "act", nan_action, 1),
        (CartpoleSwingup, "_get_rewards_and_dones", absurd_reward, 8 * 4),
    ],
)
def test_learning_goes_on_past_bad_samples(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    owner: Any,
    name: str,
    spoil: Callable[[int, Any], Any],
    count: int,
) -> None:
    """They are counted on the console, in the metrics and in the report; no gradient step is left out."""
    at_call(monkeypatch, owner, name, spoil)
    command_line(*CARTPOLE, f"total_steps={8 * ROLLOUT}")
    run_dir, metrics = run_of(tmp_path)
    assert metrics["health/bad_samples"] == count
    assert metrics["health/skipped_steps"] == metrics["health/rollbacks"] == 0
    assert f"health: {count} samples left out" in capsys.readouterr().out
    assert f"learning: {count} samples" in (run_dir / "report.html").read_text()
    assert_finite(run_dir)
    for row in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines()):
        losses = {key: value for key, value in row["metrics"].items() if key.startswith("loss/")}
        assert all(value is not None and math.isfinite(value) for value in losses.values())


def test_bad_samples_of_a_foreign_environment_are_left_out(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reward of 1e35 in one of several worlds of Gymnasium's is counted, and learning goes on."""
    at_call(
        monkeypatch,
        GymnasiumEnv,
        "_run",
        lambda call, found: (found[0], found[1] + [1e35, 0, 0, 0], *found[2:]) if len(found) == 5 else found,
    )
    command_line(
        *(key for key in CARTPOLE if not key.startswith(("experiment", "num_envs"))),
        "task=gymnasium",
        "env_id=Pendulum-v1",
        "num_envs=4",
        "total_steps=64",
        "learner.num_minibatches=1",
    )
    run_dir, metrics = run_of(tmp_path)
    assert metrics["health/bad_samples"] == 16
    assert metrics["health/skipped_steps"] == 0
    assert_finite(run_dir)


def test_an_update_that_breaks_is_undone_and_learning_goes_on(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights move on from where they were, by smaller steps; no checkpoint ever holds the broken ones."""

    def break_third(call: int, result: Any) -> Any:
        if call == 3:
            job_policy[0].actor[0].weight.data[0, 0] = math.nan
        return result

    job_policy: list[MlpPolicy] = []
    at_call(monkeypatch, Ppo, "update", break_third)
    build = Ppo.__init__

    def remember(self: Ppo, cfg: Any, policy: MlpPolicy, **keywords: Any) -> None:
        job_policy[:] = [policy]
        build(self, cfg, policy, **keywords)

    monkeypatch.setattr(Ppo, "__init__", remember)
    command_line(*CARTPOLE, f"total_steps={6 * ROLLOUT}")
    run_dir, metrics = run_of(tmp_path)
    assert metrics["health/rollbacks"] == 1
    assert_finite(run_dir)
    assert 0.5 < float(tensors(run_dir, "learner")["step_scale"]) < 0.6


def test_training_that_stays_broken_stops_with_the_evidence(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One line, exit status 1, a finite checkpoint, and a folder with samples, settings and versions."""
    at_call(
        monkeypatch,
        CartpoleSwingup,
        "_get_rewards_and_dones",
        lambda call, found: (torch.full_like(found[0], math.nan), *found[1:]),
    )
    with pytest.raises(SystemExit, match="1"):
        command_line(*CARTPOLE, f"total_steps={40 * ROLLOUT}")
    run_dir, metrics = run_of(tmp_path)
    # The first line may say that kernels are compiled.
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"error: learning stopped at step {10 * ROLLOUT}: 100 % of the samples")
    assert f"resume={run_dir}" in err
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "failed"
    assert metrics["health/bad_samples"] == 10 * ROLLOUT
    assert_finite(run_dir)
    fault = json.loads((run_dir / "fault" / "fault.json").read_text())
    assert fault["config"]["num_envs"] == WORLDS
    assert {"torch", "mujoco"} <= fault["versions"].keys()
    samples = load_file(run_dir / "fault" / "samples.safetensors")
    assert samples["step0/reward"].isnan().all()
    assert samples["step0/obs_before/policy"].shape == (8, 5)
    assert not samples["rollout/live"].any()

    # After the cause is gone, the run goes on.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    command_line(f"resume={run_dir}", f"total_steps={12 * ROLLOUT}")
    assert run_of(tmp_path)[1]["health/bad_samples"] == 10 * ROLLOUT


def test_health_is_resumed_bit_for_bit(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped after a bad sample and an undone update, and resumed: equal to never stopped."""
    runs = []
    for parts in ((8,), (4, 8)):
        counters: dict[str, int] = {"update": 0, "act": 0}
        original_act, original_update = MlpPolicy.act, Ppo.update

        def act(self: MlpPolicy, *args: Any, _of: Any = original_act, _n: Any = counters) -> Any:
            _n["act"] += 1
            return nan_action(_n["act"], _of(self, *args))

        def update(self: Ppo, *args: Any, _of: Any = original_update, _n: Any = counters, **kw: Any) -> Any:
            _n["update"] += 1
            result = _of(self, *args, **kw)
            if _n["update"] == 3:
                self.flat[0] = math.inf
            return result

        with monkeypatch.context() as patch:
            patch.setattr(MlpPolicy, "act", act)
            patch.setattr(Ppo, "update", update)
            resume: tuple[str, ...] = (*CARTPOLE, f"hydra.run.dir={tmp_path / str(len(parts))}")
            for end in parts:
                command_line(*resume, f"total_steps={end * ROLLOUT}")
                resume = (f"resume={tmp_path / str(len(parts))}",)
        runs.append(tmp_path / str(len(parts)))
    for part in ("policy", "learner", "env", "collector"):
        first, second = (tensors(run_dir, part) for run_dir in runs)
        assert all(torch.equal(value, second[name]) for name, value in first.items()), part
    states = [
        json.loads((run_dir / "checkpoints" / "last" / "state.json").read_text())["health"]
        for run_dir in runs
    ]
    assert states[0] == states[1]
    assert states[0]["rollbacks"] == states[0]["bad_samples"] == 1


def test_a_policy_that_is_not_finite_is_refused_by_name(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Evaluation and resume say so in one line and exit with status 2."""
    command_line(*CARTPOLE, f"total_steps={ROLLOUT}")
    run_dir, _ = run_of(tmp_path)
    found = checkpoint.load(run_dir)
    found.tensors["policy"]["obs_normalizer.var"][0] = math.inf
    checkpoint.save(found, run_dir / "checkpoints", keep=1)
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["factory-evaluate", f"run={run_dir}"])
    for call in (evaluate.main, lambda: command_line(f"resume={run_dir}", f"total_steps={2 * ROLLOUT}")):
        with pytest.raises(SystemExit, match="2"):
            call()
        err = capsys.readouterr().err
        assert "not finite" in err and err.count("\n") == 1


@pytest.mark.parametrize("tracking", ["jsonl", "mlflow"])
def test_deleted_output_root_ends_the_run(
    command_line: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tracking: str,
) -> None:
    """One error line and exit status 1; nothing of the deleted folder comes back."""

    def delete(number: int, result: Any) -> Any:
        if number == 5:
            shutil.rmtree(tmp_path / "outputs")
        return result

    at_call(monkeypatch, Ppo, "update", delete)
    with pytest.raises(SystemExit) as stopped:
        command_line(
            *CARTPOLE, f"tracking={tracking}", "tracking.system_metrics=false", f"total_steps={9 * ROLLOUT}"
        )
    assert stopped.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.endswith(" was deleted while the run went on; start it again")
    assert not (tmp_path / "outputs").exists()


def test_memory_that_runs_out_is_named(
    command_line: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One line with the settings that help and where to go on, exit status 1, and the checkpoint before."""

    def exhaust(number: int, result: Any) -> Any:
        if number == 5:
            torch.empty(1 << 48)
        return result

    at_call(monkeypatch, Ppo, "update", exhaust)
    with pytest.raises(SystemExit) as stopped:
        command_line(*CARTPOLE, f"total_steps={9 * ROLLOUT}")
    assert stopped.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    run_dir, _ = run_of(tmp_path)
    assert line.startswith("error: memory ran out (")
    assert "num_envs, learner.num_steps" in line
    assert line.endswith(f"; resume={run_dir} goes on from step {3 * ROLLOUT}")
    assert checkpoint.load(run_dir).env_steps == 3 * ROLLOUT


@pytest.mark.parametrize(
    ("error", "is_shortage"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), True),
        (RuntimeError("the wheel came off"), False),
    ],
)
def test_errors_of_allocators_are_told_from_others(
    error: Exception, is_shortage: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's and the GPU's become a line without torch's advice; any other error stays what it is."""
    with pytest.raises(SystemExit if is_shortage else RuntimeError), cli.one_line_errors():
        raise error
    shown = capsys.readouterr().err
    assert shown.startswith("error: memory ran out (") == is_shortage
    assert "GPU 0 has" not in shown
