"""A suite plays its frozen episodes and reports shares and means with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from factory import evaluate
from factory.registry import TASKS, load
from factory.suites import SUITES, command, score
from factory.suites.amr import AmrV1


@pytest.mark.parametrize("name", SUITES)
def test_suites_name_what_exists(name: str) -> None:
    """Every suite has its registered name, a registered task, and settings that the task accepts."""
    suite = load(SUITES[name])()
    assert suite.name == name
    assert type(suite.task_config(suite.splits[0])) is TASKS[suite.task]


def test_shares_and_sums_of_outcomes() -> None:
    """Each outcome has its share, and a sum of two outcomes that of both, with Wilson's interval."""
    outcome = torch.tensor([0] * 90 + [1] * 6 + [2] * 4)
    found = score.shares(outcome, ("success", "hit", "timeout"), {"failed": ("hit", "timeout")})
    assert [found[name][1] for name in ("success", "hit", "timeout")] == pytest.approx([0.9, 0.06, 0.04])
    assert found["failed"][1] == pytest.approx(0.1)
    # Wilson's interval of 90 of 100, from its formula.
    assert found["success"] == pytest.approx((0.8256, 0.9, 0.9448), abs=1e-4)


def test_means_leave_out_what_is_no_number() -> None:
    """A mean has the normal interval of its values; NaN is not among them."""
    low, mean, high = score.mean(torch.tensor([1.0, 3.0, float("nan"), 1.0, 3.0]))
    assert mean == 2.0
    assert high - mean == pytest.approx(mean - low) == pytest.approx(1.96 * 1.1547 / 2.0, abs=1e-3)


def test_quantile_lies_in_its_interval() -> None:
    """The fifth percentile of 0 to 999 is 50, and its interval that of the ranks."""
    low, center, high = score.quantile(torch.arange(1000.0), 0.05)
    assert center == pytest.approx(49.95)
    assert low == pytest.approx(36.5, abs=0.5) and high == pytest.approx(63.4, abs=0.5)


class FirstHalls(AmrV1):
    """The first 16 test episodes, with a short time limit."""

    def num_episodes(self, split: str) -> int:
        """Return 16."""
        return 16

    def task_config(self, split: str) -> Any:
        """Return the rules of amr-v1 with a second of time."""
        cfg = super().task_config(split)
        cfg.max_episode_steps = 10
        return cfg

    def kinds(self, env: Any, split: str) -> dict[str, torch.Tensor]:
        """Return the first 16 rows."""
        return {name: mask[:16] for name, mask in super().kinds(env, split).items()}


def test_baseline_is_scored_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds digest, outcomes that add up to 1, metrics with intervals, kinds and the baseline."""
    monkeypatch.setitem(SUITES, "amr-v1", f"{__name__}:FirstHalls")
    out = tmp_path / "stand.json"
    monkeypatch.setattr(
        "sys.argv", ["evaluate", "suite=amr-v1", "baseline=stand", "split=validation", f"out={out}"]
    )
    monkeypatch.setattr(command, "load", lambda reference: FirstHalls)
    evaluate.main()
    content = json.loads(out.read_text())
    assert content["suite"] == "amr-v1" and content["split"] == "validation" and content["episodes"] == 16
    assert content["table_sha256"] == AmrV1().table_sha256("validation")
    assert content["outcomes"]["timeout"] == 1.0 == sum(content["outcomes"].values())
    low, share, high = content["metrics"]["success"]
    assert low == 0.0 == share < high < 0.25
    assert content["metrics"]["time_s"] == pytest.approx([1.0, 1.0, 1.0])
    assert sorted(content["kinds"]) == ["aisles", "ca", "clutter", "rooms"]
    assert content["policy"] == {"baseline": "stand", "options": {}}
    assert "collision_at_fault" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["suite=amr-v2", "baseline=dwa"], "suite=amr-v2: choose one of amr-v1"),
        (["suite=amr-v1"], "suite=amr-v1: name a policy with either run=... or baseline=..."),
        (["suite=amr-v1", "baseline=dwa", "run=last"], "suite=amr-v1: name a policy with either"),
        (["suite=amr-v1", "baseline=dwb"], "baseline=dwb: choose one of stand, turn, dwa, map"),
        (["suite=amr-v1", "baseline=dwa", "split=train"], "split=train: choose one of test, validation"),
        (["suite=amr-v1", "baseline=dwa", "out=x.txt"], "out=x.txt: name a file that ends in .json"),
    ],
)
def test_mistakes_name_key_and_remedy(arguments: list[str], message: str) -> None:
    """A mistake is a ValueError of one line that names the key, the value and the choices."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        command.run(arguments)
    assert str(error.value).startswith(message)
