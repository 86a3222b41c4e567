"""Exploits of a stranger's run folder against the user's own runs and models in MLflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from factory.policies.export import export_policy
from factory.tracking import Tracker, TrackingConfig, close_killed_run, open_tracker, prepare_store
from factory.tracking.store import connect

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from mlflow import MlflowClient

CFG = TrackingConfig(system_metrics=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the user's output root; creating its store takes seconds."""
    folder = tmp_path_factory.mktemp("outputs")
    prepare_store(CFG, output_root=folder, experiment="task")
    return folder


@pytest.fixture
def store(root: Path) -> str:
    """Return the URI of the user's store."""
    return f"sqlite:///{root}/mlflow.db"


def open_run(folder: Path, name: str, root: Path | None = None, **changes: Any) -> Tracker:
    """Open the run of a folder in the user's store."""
    return open_tracker(
        CFG,
        run_dir=folder / name,
        output_root=root or folder,
        experiment="task",
        run_name=name,
        params={},
        tags={},
        **changes,
    )


def leave(folder: Path, *updates: dict[str, Any]) -> None:
    """Write updates into the outbox of a run folder, as an earlier process would have left them."""
    lines = [json.dumps({"time_ms": 1, **update}) + "\n" for update in updates]
    (folder / "tracking_pending.jsonl").write_text("".join(lines))


def row(client: MlflowClient, run_id: str | None) -> tuple[str, dict[str, float], dict[str, str]]:
    """Return status, metrics and tags of a run."""
    assert run_id is not None
    run = client.get_run(run_id)
    return run.info.status, run.data.metrics, run.data.tags


def test_stranger_registers_no_model(root: Path, store: str) -> None:
    """A registration in the outbox may name any model of the user's; the rest of the outbox is sent."""
    folder = root / "first"
    export_policy(torch.nn.Linear(5, 2), torch.zeros(2, 5), folder / "export", metadata={})
    policy = {"kind": "policy", "path": "export", "name": "mine", "alias": "latest", "metrics": {}, "step": 1}
    leave(folder, policy, {"kind": "tags", "tags": {"kept": "yes"}}, policy)
    first = open_run(root, "first")
    first.close()
    client = connect(store)
    assert list(client.search_registered_models()) == []
    # The run did not exist yet; its own updates reach it.
    leave(folder, policy, {"kind": "tags", "tags": {"kept": "yes"}}, policy)
    open_run(root, "first", resume_run_id=first.run_id).close()
    assert list(client.search_registered_models()) == []
    assert row(client, first.run_id)[2]["kept"] == "yes"


@pytest.mark.parametrize("key", ["", "0123456789abcdef" * 2])
@pytest.mark.parametrize("is_in_checkpoint", [False, True])
def test_stranger_writes_into_no_run_of_the_user(
    root: Path, tmp_path: Path, store: str, key: str, is_in_checkpoint: bool
) -> None:
    """A folder that names the user's run, in `tracking.json` or in its checkpoint, gets a run of its own."""
    mine = open_run(root, tmp_path.name)
    mine.log({"eval/return_mean": 1.0}, 1)
    mine.close()
    client = connect(store)
    before = row(client, mine.run_id)

    folder = tmp_path / "downloaded"
    folder.mkdir()
    ids = {"uri": store, "run_id": mine.run_id, "run_key": key}
    (folder / "tracking.json").write_text(json.dumps(ids))
    leave(
        folder,
        {"kind": "metrics", "step": 2, "metrics": {"eval/return_mean": 99.0}},
        {"kind": "tags", "tags": {"a": "b"}},
        {"kind": "end", "status": "FAILED"},
    )
    resumed_id = mine.run_id if is_in_checkpoint else None
    theirs = open_run(tmp_path, "downloaded", root, resume_run_id=resumed_id)
    theirs.close()
    assert theirs.run_id not in (None, mine.run_id)
    assert row(client, mine.run_id) == before


def test_stranger_closes_no_run_of_the_user(root: Path, tmp_path: Path, store: str) -> None:
    """The doctor closes a run only for the folder whose key it has."""
    mine = open_run(root, tmp_path.name)
    folder = tmp_path / "downloaded"
    folder.mkdir()
    ids = {"uri": store, "run_id": mine.run_id, "run_key": "0123456789abcdef" * 2}
    (folder / "tracking.json").write_text(json.dumps(ids))
    assert not close_killed_run(CFG, folder, output_root=root)
    assert row(connect(store), mine.run_id)[0] == "RUNNING"
    assert close_killed_run(CFG, root / tmp_path.name, output_root=root)
    mine.close()


def test_run_whose_store_has_moved_is_gone_on_with(root: Path, tmp_path: Path, store: str) -> None:
    """The key stays when the URI changes, so that a moved project keeps its runs."""
    first = open_run(root, "moved")
    first.close()
    shutil.copy(root / "mlflow.db", tmp_path)
    shutil.copytree(root / "moved", tmp_path / "moved")
    second = open_run(tmp_path, "moved", resume_run_id=first.run_id)
    second.close()
    assert second.run_id == first.run_id


def test_commands_in_results_have_no_password(
    trained: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """What `compare` and `bench` write has no password of the tracking server in it."""
    uri = "http://user:planted-password@127.0.0.1:9"
    status, out, err = command("compare", f"run={trained}", f"uri={uri}", "out=c")
    assert status == 0, err
    small = ("task=cartpole_swingup", "num_envs=2", "seconds=0.1", "repeats=1")
    status, more, err = command("bench", *small, f"tracking.uri={uri}", "out=bench.json")
    assert status == 0, err
    files = [path for path in Path.cwd().rglob("*") if path.is_file()]
    assert Path.cwd() / "bench.json" in files
    for text in (out, more, err, *(path.read_bytes().decode(errors="replace") for path in files)):
        assert "planted-password" not in text
