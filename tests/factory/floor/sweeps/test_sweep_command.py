"""The command `sweep`: checked before anything is written, in one line where there is a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.floor.command_line import main
from factory.floor.store import Store

SMALL = (
    "task=cartpole_swingup",
    "num_envs=4",
    "learner.num_minibatches=2",
    "total_steps=9000",
    "policy.actor_hidden=[4]",
    "policy.critic_hidden=[4]",
)


def run(*arguments: str) -> int:
    """Run a command of the floor in this process and return its status."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_sweep_queues_its_first_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every value is checked, lines wait with the first rung's steps, and `status` shows them."""
    monkeypatch.chdir(tmp_path)
    ranges = ("learner.gamma=0.9,0.99", "learner.learning_rate=tag(log,interval(1e-4,1e-2))")
    assert run("sweep", "asha", *SMALL, *ranges, "trials=9", "--flex", "2", "--name", "mine") == 0
    assert capsys.readouterr().out == "1\n"
    with Store(Path("outputs/floor")) as store:
        lines = store.lines()
    assert [line.name for line in lines] == [f"mine sweep 1 trial {number}" for number in range(9)]
    assert {line.total_steps for line in lines} == {1000} and {line.flex for line in lines} == {2}
    assert len({line.spec_hash for line in lines}) == len({line.run_dir for line in lines}) == 9
    for line in lines:
        keys = [override.partition("=")[0] for override in line.overrides]
        assert len(set(keys)) == len(keys)
        assert {"runtime.video_s", "runtime.torch_threads", "stop_at_steps", "learner.gamma"} <= set(keys)
    assert run("sweep", "status", "1", "--json") == 0
    (state,) = json.loads(capsys.readouterr().out)
    assert state["rungs"] == [1000, 3000, 9000]
    assert [trial["state"] for trial in state["trials"]] == ["running"] * 9
    assert run("sweep", "status") == 0
    assert "sweep 1  asha  running  Return, evaluation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("asha",), "give arguments of factory.train"),
        (("asha", *SMALL), "no key varies"),
        (("anneal", *SMALL), "argument what: invalid choice: 'anneal'"),
        (("asha", "learner.gamm=0.9,0.99"), "learner.gamm"),
        (("asha", *SMALL, "learner.gamma=0.9,2"), "learner.gamma=2"),
        (("random", *SMALL, "trials=2", "learner.gamma=interval(0.9,1.5)"), "learner.gamma=1.5"),
        (("asha", *SMALL, "learner.gamma=interval(0.9,0.99)"), "an interval has no grid"),
        (("asha", *SMALL, "learner.gamma=0.9,0.99", "eta=1"), "eta=1: must be at least 2"),
        (("asha", *SMALL, "learner.gamma=0.9,0.99", "eta=many"), "eta"),
        (("asha", *SMALL, "learner.gamma=0.9,0.99", "stop_at_steps=5"), "stop_at_steps: a sweep sets it"),
        (("asha", "task=cartpole_swingup", "total_steps=100,200"), "needs the same for all trials"),
        (("status", "7"), "no floor there"),
        (("cancel", "7"), "no floor there"),
        (("cancel",), "give the number of one sweep"),
        (("asha", *SMALL, "learner.gamma=0.9,0.99", "--flex", "9"), "--flex=9"),
    ],
    ids=str,
)
def test_mistake_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 2, the key and the remedy on one line, and no floor."""
    monkeypatch.chdir(tmp_path)
    assert run("sweep", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and expected in err, err
    assert not list(tmp_path.iterdir())
