"""Config, the two trackers without a server, parameters and the headline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.tracking import TrackingConfig, open_tracker
from factory.tracking.base import flatten
from factory.tracking.credentials import shown
from factory.tracking.headline import headline_note
from factory.tracking.model import model_name
from factory.tracking.store import artifact_location
from factory.tracking.uri import resolve_uri


def write_run(kind: str, root: Path, *, status: str, params: dict, tags: dict[str, str]) -> Path:
    """Open a tracker of the kind, use all of it, close it, and return the run folder."""
    tracker = open_tracker(
        TrackingConfig(kind=kind),
        run_dir=root / "run",
        output_root=root,
        experiment="gym/half_cheetah",
        run_name="one",
        params=params,
        tags=tags,
    )
    tracker.log({"train/return_mean": 1.0}, 10)
    tracker.set_tags({"late": "yes"})
    tracker.log_artifacts(root)
    tracker.log_policy(root, registered_name="gym/half_cheetah")
    assert tracker.run_id is None
    assert tracker.spent_s == 0.0
    tracker.close(status)
    return root / "run"


def test_null_tracker_writes_nothing(tmp_path: Path) -> None:
    """Null means that no file appears."""
    write_run("null", tmp_path, status="finished", params={"a": 1}, tags={})
    assert list(tmp_path.iterdir()) == []


def test_jsonl_tracker_keeps_params_tags_and_status(tmp_path: Path) -> None:
    """`run.json` holds what MLflow would."""
    run = write_run("jsonl", tmp_path, status="interrupted", params={"a": {"b": 1}}, tags={"task": "x"})
    record = json.loads((run / "run.json").read_text())
    assert record["params"] == {"a.b": "1"}
    assert record["tags"] == {"task": "x", "late": "yes"}
    assert (record["status"], record["run_name"], record["experiment"]) == (
        "interrupted",
        "one",
        "gym/half_cheetah",
    )


def test_jsonl_resume_keeps_first_params(tmp_path: Path) -> None:
    """A resumed run adds parameters but does not change those of its first start, as with MLflow."""
    write_run("jsonl", tmp_path, status="failed", params={"lr": 1}, tags={})
    run = write_run("jsonl", tmp_path, status="finished", params={"lr": 2, "new": 3}, tags={})
    record = json.loads((run / "run.json").read_text())
    assert record["params"] == {"lr": "1", "new": "3"}
    assert record["status"] == "finished"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "wandb"}, "tracking.kind=wandb: choose one of mlflow, jsonl, null"),
        ({"uri": "./mlruns"}, "tracking.uri=./mlruns: give http"),
        ({"uri": "file:///mlruns"}, "tracking.uri=file:///mlruns: give http"),
    ],
)
def test_wrong_config_names_key_value_and_choices(wrong: dict[str, str], message: str) -> None:
    """A bad value is refused with the full key."""
    with pytest.raises(ValueError, match=r"^tracking\.") as error:
        TrackingConfig(**wrong)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


def test_default_store_is_absolute_and_beside_its_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative output root gives the same absolute places from any folder."""
    monkeypatch.chdir(tmp_path)
    uri = resolve_uri(TrackingConfig(), output_root=Path("outputs"))
    assert uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    location = artifact_location(uri, output_root=Path("outputs"), experiment="gym/half_cheetah")
    assert location == f"file://{tmp_path}/outputs/mlartifacts/gym.half_cheetah"


def test_server_decides_where_artifacts_go() -> None:
    """A remote server is one value, and gets no local path."""
    uri = resolve_uri(TrackingConfig(uri="http://host:5000"), output_root=Path("outputs"))
    assert uri == "http://host:5000"
    assert artifact_location(uri, output_root=Path("outputs"), experiment="x") is None


def test_password_is_not_shown() -> None:
    """Messages and files carry no credentials."""
    assert shown("https://me:secret@host:5000/path") == "https://host:5000/path"
    assert shown("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_params_are_flattened_with_dots() -> None:
    """Every leaf of the nested config is one parameter; a list is a leaf."""
    nested = {"learner": {"learning_rate": 0.001, "hidden": [64, 64]}, "resume": None}
    flat = {"learner.learning_rate": "0.001", "learner.hidden": "[64, 64]", "resume": "None"}
    assert dict(flatten(nested)) == flat


def test_task_name_is_made_a_model_name() -> None:
    """The registry takes neither slash nor colon."""
    assert model_name("gym/half_cheetah") == "gym.half_cheetah"


def test_headline_gives_joules_with_tier_and_interval() -> None:
    """No joule figure stands alone, and figures the run lacks are left out."""
    metrics = {
        "energy/total_j": 200.0,
        "energy/total_j_lo": 150.0,
        "energy/total_j_hi": 260.0,
        "eval/return_mean": 3.0,
    }
    note = headline_note(metrics, {"energy.tier": "estimated", "energy.boundary": "package"})
    assert "| Total energy | 200 J | estimated, -25 % to +30 %, package |" in note
    assert "| Return, evaluation | 3  |  |" in note
    assert "token" not in note
    assert headline_note({}, {}) == ""


def test_package_import_leaves_mlflow_alone() -> None:
    """Importing the tracking package, or using the trackers without a server, does not import MLflow."""
    code = "import sys, factory.tracking; sys.exit(bool({'mlflow', 'torch'} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, env=dict(os.environ), check=False).returncode
        == 0
    )
