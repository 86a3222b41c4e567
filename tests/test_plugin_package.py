"""A package outside this project trains, resumes, evaluates, exports and benches its own components."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import yaml
from installed_plugin import install

from factory import bench, config, evaluate, plugins, registry
from factory.energy.registry import SOURCES
from factory.policies.export import describe_exported, load_exported

pytestmark = pytest.mark.slow

SMALL = (
    "num_envs=8",
    "tracking=jsonl",
    "runtime.video_s=0",
    "runtime.eval_episodes=8",
    "learner.num_steps=8",
)
ROLLOUT = 8 * 8
"""Environment steps of one iteration."""


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the package for this module's tests, and leave the registries as they were."""
    registries: tuple[dict[str, Any], ...] = (*registry.REGISTRIES.values(), SOURCES)
    before = [dict(known) for known in registries]
    folder = install(tmp_path_factory.mktemp("site"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(plugins, "_conf_dirs", [])
        patch.setattr(plugins, "_seen_entry_points", set())
        yield folder
    for known, content in zip(registries, before, strict=True):
        known.clear()
        known.update(content)
    gymnasium.registry.pop("shuttle/Shuttle-v0", None)


@pytest.fixture(scope="module")
def run_dir(shared_command_line: Callable[..., None]) -> Path:
    """Train the package's policy on its task with this project's PPO; return the run's folder."""
    options = ("task=shuttle", "policy=gru", "policy.cells=6", *SMALL)
    shared_command_line(*options, f"total_steps={4 * ROLLOUT}", "output_root=gru")
    return newest(Path("gru"))


def newest(output_root: Path) -> Path:
    """Return the only run under a folder."""
    (found,) = output_root.absolute().glob("shuttle/*/")
    return found


def assert_equal_checkpoints(first: Path, second: Path) -> None:
    """Compare every tensor file of two runs' last checkpoints, bit for bit."""
    folders = [run_dir / "checkpoints" / "last" for run_dir in (first, second)]
    names = {path.name for folder in folders for path in folder.glob("*.safetensors")}
    assert {"policy.safetensors", "env.safetensors", "collector.safetensors"} <= names
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_settings_come_from_the_package(run_dir: Path) -> None:
    """The run's configuration has values of the package's YAML file, its classes and the command line."""
    cfg = config.from_plain(yaml.safe_load((run_dir / "config.yaml").read_text()))
    names = [type(part).__name__ for part in (cfg.task, cfg.policy, cfg.learner)]
    assert names == ["ShuttleConfig", "GruConfig", "PpoConfig"]
    values: Any = cfg.policy
    assert (values.cells, values.init_std) == (6, 0.4)


@pytest.mark.parametrize(
    "parts",
    [("policy=gru", "learner=ppo"), ("policy=gru", "learner=reinforce"), ("policy=mlp", "learner=reinforce")],
    ids=lambda parts: "-".join(part.partition("=")[2] for part in parts),
)
def test_resumed_training_equals_one_that_never_stopped(
    command_line: Callable[..., None], tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """Policy, learner, task and memory are restored: every tensor is the same bit for bit."""
    options = ("task=shuttle", "task.max_episode_steps=11", *parts, *SMALL)
    command_line(*options, f"total_steps={2 * ROLLOUT}", "output_root=parted")
    command_line(f"resume={newest(tmp_path / 'parted')}", f"total_steps={5 * ROLLOUT}")
    command_line(*options, f"total_steps={5 * ROLLOUT}", "output_root=straight")
    assert_equal_checkpoints(newest(tmp_path / "parted"), newest(tmp_path / "straight"))


def test_losses_of_a_learner_are_logged(command_line: Callable[..., None], tmp_path: Path) -> None:
    """Whatever `update` returns is in the metrics, under `loss/`."""
    command_line("task=shuttle", "learner=reinforce", *SMALL, f"total_steps={2 * ROLLOUT}")
    row = json.loads((newest(tmp_path / "outputs") / "metrics.jsonl").read_text().splitlines()[0])
    keys = set(row.get("metrics", row))
    assert {"loss/policy", "loss/rollout_return"} <= keys
    assert "loss/clip_fraction" not in keys


def test_energy_of_a_source_is_accounted(command_line: Callable[..., None], tmp_path: Path) -> None:
    """The package's source is an option with settings of its own, and its component has a metric."""
    options = ("task=shuttle", "energy=supply", "energy.options.supply.power_w=50", *SMALL)
    command_line(*options, f"total_steps={2 * ROLLOUT}")
    summary = json.loads((newest(tmp_path / "outputs") / "summary.json").read_text())
    metrics = summary["metrics"]
    assert metrics["energy/supply_j"] == pytest.approx(metrics["energy/total_j"])
    assert metrics["energy/mean_power_w"] == pytest.approx(50.0, rel=0.1)
    assert (summary["tags"]["energy.tier"], summary["tags"]["energy.boundary"]) == ("measured", "node")


def test_evaluation_finds_the_components_again(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m factory.evaluate` plays the recurrent policy on the package's task."""
    monkeypatch.setattr(sys, "argv", ["factory-evaluate", f"run={run_dir}", "episodes=4"])
    evaluate.main()
    metrics = json.loads((run_dir / "evaluation.json").read_text())["metrics"]
    assert 0.0 < metrics["eval/return_mean"] <= 40.0


def test_exported_policy_carries_its_memory(run_dir: Path) -> None:
    """The file takes observations and a state, and its answer depends on both."""
    act = load_exported(run_dir / "export")
    state = describe_exported(run_dir / "export")["state"]
    assert state["shape"] == [-1, 6]
    obs = torch.ones(3, 3)
    memory = torch.tensor(state["initial"]).repeat(3, 1)
    first, memory = act(obs, memory)
    second, _ = act(obs, memory)
    assert first.shape == (3, 1)
    assert not torch.equal(first, second)


def test_resumed_run_keeps_its_learner(
    run_dir: Path, command_line: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another learner cannot go on from the state of the first one."""
    with pytest.raises(SystemExit, match="2"):
        command_line(f"resume={run_dir}", "learner=reinforce", f"total_steps={8 * ROLLOUT}")
    assert "learner.name=reinforce: the run to resume has ppo; leave it as it is" in capsys.readouterr().err


def test_bench_measures_the_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m factory.bench` times all four levels of a job of the package."""
    monkeypatch.chdir(tmp_path)
    options = ("task=shuttle", "policy=gru", "learner=reinforce", "num_envs=4", "seconds=0.02", "repeats=1")
    monkeypatch.setattr(sys, "argv", ["factory-bench", *options, "out=bench.json"])
    bench.main()
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert all(level["steps_per_s"] > 0 for level in row["levels"].values())


def test_new_process_lists_the_task(site: Path, tmp_path: Path) -> None:
    """A command in a fresh process finds the package by its metadata alone."""
    path = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "factory.tasks"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "shuttle/Shuttle-v0" in line]
    assert "20 Hz" in row
