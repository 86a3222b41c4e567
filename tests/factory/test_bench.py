"""A benchmark's figures add up, its levels do equal work, and a mistake ends in one line."""

from __future__ import annotations

import contextlib
import io
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich.console
import torch

from factory import bench, cli, config, options
from factory.benchmark import throughput
from factory.benchmark.bench_table import print_rows
from factory.benchmark.harness import LEVELS, Harness
from factory.benchmark.throughput import bench as run_bench
from factory.energy.types import Tier

options.register()

NUM_STEPS = 12
TINY = (
    "task=cartpole_swingup",
    f"learner.num_steps={NUM_STEPS}",
    "learner.num_minibatches=2",
    "policy.actor_hidden=[8]",
    "policy.critic_hidden=[8]",
)
SHORT = ("seconds=0.01", "repeats=3")

Document = dict[str, Any]


def tiny(*overrides: str) -> config.TrainConfig:
    return cli.single_job([*TINY, *overrides])


def run(folder: Path, *arguments: str) -> str:
    """Run `python -m factory.bench` in this process, in `folder`; return what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["factory-bench", *arguments])
        bench.main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, str, Path]:
    """Bench two sizes once; return the JSON file's content, what was printed, and the folder."""
    folder = tmp_path_factory.mktemp("bench")
    printed = run(
        folder, *TINY, *SHORT, "num_envs=4,8", "out=new/bench.json", "track=true", "output_root=ledger"
    )
    return json.loads((folder / "new" / "bench.json").read_text()), printed, folder


def test_file_says_how_it_came_about(measured: tuple[Document, str, Path]) -> None:
    """Schema, command, commit, machine, versions and configuration stand beside the rows."""
    content = measured[0]
    assert content["schema"] == bench.SCHEMA
    assert content["command"].startswith("python -m factory.bench task=cartpole_swingup")
    assert {"git.commit", "git.dirty", "date"} <= content.keys()
    assert content["machine"]["cpus_available"] >= 1
    assert content["machine"]["memory_bytes"] > 0
    assert {"python", "torch", "mujoco", "factory"} <= content["versions"].keys()
    assert content["config"]["task"]["name"] == "cartpole_swingup"
    assert content["config"]["num_envs"] == content["settings"]["num_envs"] == [4, 8]
    assert [row["num_envs"] for row in content["rows"]] == [4, 8]


def test_summaries_follow_from_the_samples(measured: tuple[Document, str, Path]) -> None:
    """Speed is the median of the rounds, the ratio that of the rounds' quotients, the spread their range."""
    for row in measured[0]["rows"]:
        raw = row["levels"]["raw"]["samples_steps_per_s"]
        assert list(row["levels"]) == list(LEVELS)
        for level in row["levels"].values():
            samples = level["samples_steps_per_s"]
            assert len(samples) == 3
            assert min(samples) > 0
            assert level["steps_per_s"] == statistics.median(samples)
            assert level["spread"] == pytest.approx((max(samples) - min(samples)) / level["steps_per_s"])
            quotients = [x / y for x, y in zip(samples, raw, strict=True)]
            assert level["ratio_to_raw"] == pytest.approx(statistics.median(quotients))
        assert row["levels"]["raw"]["ratio_to_raw"] == 1.0


def test_first_iteration_is_split_into_nested_levels(measured: tuple[Document, str, Path]) -> None:
    """The cold figures are one iteration, so each level, which holds the one before, is slower."""
    for row in measured[0]["rows"]:
        cold = [row["levels"][name]["cold_steps_per_s"] for name in LEVELS]
        assert cold == sorted(cold, reverse=True)
        assert cold[-1] > 0


def test_parts_of_an_iteration_sum_to_its_time(measured: tuple[Document, str, Path]) -> None:
    """Physics, environment, inference, learning and the rest are all there is."""
    for row in measured[0]["rows"]:
        parts = dict(row["iteration"])
        assert sum(parts.values()) == pytest.approx(2 * parts.pop("wall_s"))
        assert min(parts.values()) > 0


def test_tokens_are_the_steps_that_were_executed(measured: tuple[Document, str, Path]) -> None:
    """No step is spent on a reset here, so every control step is a token."""
    for row in measured[0]["rows"]:
        assert row["tokens_per_step"] == 1.0
        assert row["tokens_per_s"] == row["levels"]["learn"]["steps_per_s"]
        assert row["energy"]["tokens"] % (row["num_envs"] * NUM_STEPS) == 0
        iterations = row["energy"]["tokens"] // (row["num_envs"] * NUM_STEPS)
        assert row["iteration"]["wall_s"] * iterations == pytest.approx(row["energy"]["wall_s"])


def test_joules_have_tier_interval_and_source(measured: tuple[Document, str, Path]) -> None:
    """A joule figure never stands alone."""
    for row in measured[0]["rows"]:
        energy = row["energy"]
        assert energy["tier"] in set(Tier)
        assert energy["tier"] != Tier.NONE
        assert energy["boundary"]
        assert energy["explanation"]
        assert energy["joules_per_token_lo"] <= energy["joules_per_token"] <= energy["joules_per_token_hi"]
        assert energy["cpu_s_per_token"] > 0
        assert row["rss_bytes"] > 2**20
        assert row["cuda_peak_bytes"] is None


def test_tables_fit_a_narrow_terminal(measured: tuple[Document, str, Path]) -> None:
    """Without a terminal there is plain text, no line of a table broken, one row a size in each."""
    printed = measured[1]
    assert "\x1b" not in printed
    for heading in ("raw physics", "env.step", "+ policy", "+ learn", "physics", "infer", "J/token", "tier"):
        assert heading in printed
    for size in ("4", "8"):
        assert sum(line.split()[:1] == [size] for line in printed.splitlines()) == 3
    assert "results  new/bench.json" in printed
    table = printed.partition("cpu:")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_ledger_has_the_speeds_by_number_of_worlds(measured: tuple[Document, str, Path]) -> None:
    """`track=true` makes one MLflow run whose steps are the numbers of worlds, the file among its
    artifacts.
    """
    from factory.tracking.store import connect

    content, printed, folder = measured
    assert "tracked  ledger/bench/cartpole_swingup/" in printed
    client = connect(f"sqlite:///{folder / 'ledger' / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("bench").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["energy.tier"] == content["rows"][0]["energy"]["tier"]
    history = client.get_metric_history(found.info.run_id, "bench/learn_steps_per_s")
    told = {point.step: point.value for point in history}
    assert told == {row["num_envs"]: row["levels"]["learn"]["steps_per_s"] for row in content["rows"]}
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["bench.json"]


def test_every_level_makes_the_same_physics_steps() -> None:
    """The engine meets the same states, bit for bit, alone, in `env.step`, in rollouts and in training."""
    harness = Harness.open(tiny("num_envs=4", "task.max_episode_steps=30"))
    harness.learner.update(harness.collector.collect()[0])
    recorded = harness._record()
    every = math.ceil(NUM_STEPS / len(recorded.engine_calls))
    alone = states_after_steps(harness, lambda: harness._raw_s(recorded))
    learned = []
    for level in (harness._env_s, harness._learn_s, harness._policy_s, harness._learn_s):
        harness._restore(recorded.start)
        within = states_after_steps(harness, lambda level=level: level(recorded))
        assert within.shape[0] == NUM_STEPS
        assert torch.equal(within[::every], alone)
        learned.append(torch.cat([value.flatten().clone() for value in harness.policy.parameters()]))
    assert torch.equal(learned[1], learned[3])
    assert not torch.equal(learned[1], learned[2])
    assert recorded.engine_share == pytest.approx(len(recorded.engine_calls) / NUM_STEPS)
    assert not torch.equal(alone[0], alone[1])


def test_environment_is_stepped_on_as_many_threads_as_in_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the level beneath it would be another environment."""
    harness = Harness.open(tiny("num_envs=4", "runtime.torch_threads=2"))
    recorded, threads = harness._record(), list[int]()
    step = harness.env.step

    def overheard_step(action: torch.Tensor) -> Any:
        threads.append(torch.get_num_threads())
        return step(action)

    monkeypatch.setattr(harness.env, "step", overheard_step)
    for run in (harness._env_s, harness._policy_s):
        run(recorded)
    assert threads == [1] * 2 * NUM_STEPS
    assert torch.get_num_threads() == 2
    harness.env.close()


def states_after_steps(harness: Harness, run: Callable[[], float]) -> torch.Tensor:
    """Return positions and velocities after each call of the engine's `step`. Shape: (calls, N, nq + nv)."""
    engine, step, seen = harness.engine, harness.engine.step, []

    def watched(num_substeps: int) -> None:
        step(num_substeps)
        seen.append(torch.cat([engine.field("qpos"), engine.field("qvel")], -1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "step", watched)
        assert run() > 0
    return torch.stack(seen)


def test_environment_that_shows_no_engine_has_no_raw_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw physics, and what is measured by it, are absent; the rest is there."""
    monkeypatch.setattr(Harness, "engine", None)
    (row,) = run_bench(tiny(), sizes=[4], seconds=0.01, repeats=1)
    assert row.levels["raw"].steps_per_s is row.levels["raw"].cold_steps_per_s is None
    assert row.levels["learn"].ratio_to_raw is row.iteration.physics_s is None
    assert row.levels["learn"].steps_per_s > 0
    assert row.iteration.env_s > 0
    json.dumps(bench.metrics(row), allow_nan=False)
    console = rich.console.Console(file=io.StringIO(), width=80)
    print_rows([row], console)


def test_nothing_is_invented_without_a_meter(tmp_path: Path) -> None:
    """With `energy=null` there are no joules, in the file and on the console, and CPU seconds all the
    same.
    """
    printed = run(tmp_path, *TINY, "num_envs=4", "seconds=0.001", "repeats=1", "out=b.json", "energy=null")
    (row,) = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert row["energy"]["joules_per_token"] is row["energy"]["joules_per_token_hi"] is None
    assert row["energy"]["tier"] == Tier.NONE
    assert row["energy"]["cpu_s_per_token"] > 0
    assert "nothing is metered" in printed
    assert "inf" not in printed.replace("infer", "")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


MISTAKES = [
    ("num_envs=0", "num_envs=0: must be at least 1"),
    ("num_envs=4,many", "num_envs[1]"),
    ("num_envs=", "num_envs"),
    ("num_envs=[4,8", "num_envs=[4,8: give key=value"),
    ("num_envs=4 learner.num_minibatches=100000", "learner.num_minibatches=100000"),
    ("seconds=0", "seconds=0.0: must be positive"),
    ("seconds=inf", "seconds=inf"),
    ("repeats=0", "repeats=0: must be at least 1"),
    ("repeats=few", "repeats"),
    ("track=maybe", "track"),
    ("out=.", "out=.: is a folder; name a file"),
    ("out={file}/b.json", "is a file; give a folder"),
    ("track=true output_root={file}", "is a file; give a folder"),
    ("sizes=4", "sizes=4: no such key"),
    ("taks=cartpole_swingup", "did you mean task"),
    ("task=pendulum", "task=pendulum: did you mean gym/inverted_pendulum"),
    ("task=cartpole_swingup,quadruped_velocity", "task: several values given; give one"),
    ("robot=spot", "robot=menagerie:spot: unknown quadruped"),
    ("resume=last", "resume=last: this command cannot resume a run"),
    ("energy=rapl energy.rapl_root=/nonexistent", "energy.source=rapl: rapl is not available"),
    ("quick", "quick: give key=value"),
    ("-m seed=0,1", "-m: give key=value"),
    ("--verbose", "--verbose: give key=value"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
def test_mistake_is_one_line_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: str,
    expected: str,
) -> None:
    """One line on stderr with key and value, nothing on stdout, status 2, and nothing written."""
    monkeypatch.setattr(
        throughput, "bench", lambda *_, **__: pytest.fail("the mistake was let through: it measures")
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, *arguments.format(file=tmp_path / "file").split())
    out, err = capfd.readouterr()
    assert stopped.value.code == 2
    assert (err.count("\n"), err[:7], out) == (1, "error: ", "")
    assert expected in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_shows_examples_to_copy(tmp_path: Path) -> None:
    """`--help` explains the keys, and its examples pass the check of the command line."""
    shown = run(tmp_path, "--help")
    examples = [
        line.split()[3:] for line in shown.splitlines() if line.startswith("  python -m factory.bench")
    ]
    assert len(examples) >= 3
    for arguments in examples:
        if not any("menagerie:" in argument for argument in arguments):
            settings, _ = bench.parse(arguments)
            assert settings.num_envs
    assert {"num_envs", "seconds", "repeats", "out", "track"} <= set(shown.split())
