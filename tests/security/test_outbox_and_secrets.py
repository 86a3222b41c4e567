"""Exploits of the outbox, and a planted password that must not turn up anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.tracking.credentials import complete
from factory.tracking.open_run import OpenRun
from factory.tracking.outbox import Outbox
from factory.tracking.sender import RefusedError
from factory.tracking.updates import parse

HEAD = {"time_ms": 1}
HOSTILE = {
    "file by its whole path": {"kind": "artifacts", "path": "/etc/passwd", "artifact_path": None},
    "file that climbs": {"kind": "artifacts", "path": "a/../../secret", "artifact_path": None},
    "target that climbs": {"kind": "artifacts", "path": "a", "artifact_path": "../../x"},
    "target by its whole path": {"kind": "artifacts", "path": "a", "artifact_path": "/x"},
    "policy elsewhere": {
        "kind": "policy",
        "path": "/tmp",
        "name": "x",
        "alias": "y",
        "metrics": {},
        "step": 1,
    },
    "metric that is none": {"kind": "metrics", "step": 1, "metrics": {"a": "b"}},
    "step beyond 64 bits": {"kind": "metrics", "step": 2**70, "metrics": {}},
    "unknown kind": {"kind": "delete_experiment"},
    "tags of lists": {"kind": "tags", "tags": {"a": []}},
    "status of its own": {"kind": "end", "status": "x' OR 1=1"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_update_is_set_aside(name: str) -> None:
    """An update that names a place outside the run folder, or is malformed, is never sent."""
    with pytest.raises(ValueError) as caught:
        parse(json.dumps(HEAD | HOSTILE[name]).encode())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_planted_password_turns_up_nowhere(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in the URI and one in the environment are in no file and not shown."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted-token")
    monkeypatch.setenv("FACTORY_TRACKING_URI", "")
    arguments = (
        "task=cartpole_swingup",
        "num_envs=4",
        "learner.num_steps=8",
        "learner.num_minibatches=2",
        "runtime.video_s=0",
        "runtime.eval_episodes=4",
        "total_steps=64",
        "tracking.uri=http://user:planted-password@127.0.0.1:9",
    )
    status, out, err = command("train", *arguments)
    assert status == 0, err
    for planted in ("planted-password", "planted-token"):
        assert planted not in out + err
        files = (path for path in Path.cwd().rglob("*") if path.is_file())
        assert [path for path in files if planted.encode() in path.read_bytes()] == []


ODD = {
    "a number beyond all floats": {"kind": "metrics", "step": 1, "metrics": {"a": 10**400}},
    "half a character in a tag": {"kind": "tags", "tags": {"a": "\ud800"}},
    "half a character in a key": {"kind": "metrics", "step": 1, "metrics": {"\ud800": 1.0}},
    "a zero in a tag": {"kind": "tags", "tags": {"a": "\0"}},
    "a name beyond all file systems": {"kind": "artifacts", "path": "a" * 5000, "artifact_path": None},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_update_does_not_block_the_rest(tmp_path: Path, name: str) -> None:
    """What no store takes is set aside; the update behind it is sent."""
    outbox = Outbox(tmp_path / "tracking_pending.jsonl")
    outbox.put(HEAD | ODD[name])
    outbox.put(HEAD | {"kind": "tags", "tags": {"a": "b"}})
    while not (sent := outbox.peek(9)):
        assert len(outbox)
    assert [update["tags"] for update in sent] == [{"a": "b"}]


def test_links_in_a_circle_are_refused_for_good(tmp_path: Path) -> None:
    """A file that cannot be resolved is dropped, and does not count as a server that is away."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c").symlink_to("c")
    run = OpenRun(None, "id", run_dir=tmp_path)  # type: ignore[arg-type]
    for path in ("a", "folder"):
        with pytest.raises(RefusedError):
            run.send([HEAD | {"kind": "artifacts", "path": path, "artifact_path": None}])


def test_password_in_a_file_of_the_users_reaches_no_run_folder(
    command: Callable[..., tuple[int, str, str]],
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Hydra stores what it composes from `hydra.searchpath`; the password in it is not among that."""
    monkeypatch.setenv("FACTORY_TRACKING_URI", "")
    uri = "http://user:planted-password@127.0.0.1:9/x?token=planted-token"
    own = tmp_path / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"# @package _global_\ntracking:\n  uri: {uri}\n")
    search = f"hydra.searchpath=[file://{own.parents[1]}]"
    status, out, err = command("train", *tiny, search, "experiment=mine")
    assert status == 0, err
    files = [path for path in Path.cwd().rglob("*") if path.is_file()]
    assert any(path.parent.name == ".hydra" for path in files)
    for planted in ("planted-password", "planted-token"):
        assert planted not in out + err
        assert [path for path in files if planted.encode() in path.read_bytes()] == []
    # Where it is used, it is complete.
    assert complete("http://127.0.0.1:9/x") == uri
    status, out, err = command("train", *tiny, search, "experiment=mine", "--cfg", "job")
    assert status == 0 and "planted" not in out + err and "uri: http://127.0.0.1:9/x" in out
