"""Exploits in the files of a run folder: links, pipes, bombs and nonsense end in one line, at once."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tamper import edit_json, reseal

from factory.runtime import stored_files
from factory.training import checkpoint, checkpoint_files

Command = Callable[..., tuple[int, str, str]]


def newest(run_dir: Path) -> Path:
    """Return the folder of the newest checkpoint."""
    return (run_dir / "checkpoints" / "last").resolve()


def put_link(name: str) -> Callable[[Path], None]:
    """Return a change that replaces an entry of the run folder by a link to a secret outside."""

    def change(run_dir: Path) -> None:
        secret = run_dir.parent / "secret"
        secret.write_text('{"secret": "hunter2"}')
        path = run_dir / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(secret)

    return change


def put_pipe(name: str) -> Callable[[Path], None]:
    """Return a change that replaces a file by a named pipe, whose reader would wait for ever."""

    def change(run_dir: Path) -> None:
        path = run_dir / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return change


def put_folder_link(run_dir: Path) -> None:
    """Let the folder of checkpoints be somebody else's."""
    elsewhere = run_dir.parent / "precious"
    (run_dir / "checkpoints").rename(elsewhere)
    (run_dir / "checkpoints").symlink_to(elsewhere)


def put_socket(run_dir: Path) -> None:
    """Put a socket among the files."""
    here = Path.cwd()
    os.chdir(run_dir)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
    os.chdir(here)


def put_text(name: str, text: str) -> Callable[[Path], None]:
    """Return a change that writes a file of the newest checkpoint, with checksums that fit."""

    def change(run_dir: Path) -> None:
        (newest(run_dir) / name).write_text(text)
        for folder in (run_dir / "checkpoints").iterdir():
            if folder.name.isdigit() and folder != newest(run_dir):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
        reseal(newest(run_dir))

    return change


def put_header(header: bytes) -> Callable[[Path], None]:
    """Return a change that gives the policy's tensors another header."""
    size = struct.pack("<Q", len(header))
    return put_text("policy.safetensors", (size + header + b"\0" * 64).decode("latin-1"))


def put_huge(run_dir: Path) -> None:
    """Let a file claim 2 TB, of which the disk has none."""
    with (newest(run_dir) / "state.json").open("wb") as file:
        file.truncate(2 << 40)


def list_outside(run_dir: Path) -> None:
    """Let the checksum file name a file outside the checkpoint."""
    path = newest(run_dir) / "checksums.json"
    content = json.loads(path.read_text())
    content["files"]["../../../secret.json"] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(content))


CHANGES: dict[str, Callable[[Path], None]] = {
    "link for the evaluation, which is written": put_link("evaluation.json"),
    "link for the summary": put_link("summary.json"),
    "link for the metrics, which are appended to": put_link("metrics.jsonl"),
    "link for the outbox": put_link("tracking_pending.jsonl"),
    "link for a video": put_link("videos/policy.mp4"),
    "link among the exports": put_link("export/notes.txt"),
    "link for the folder of checkpoints": put_folder_link,
    "pipe for the lock": put_pipe(".lock"),
    "pipe for the metrics": put_pipe("metrics.jsonl"),
    "pipe for the newest state": put_pipe("checkpoints/last/state.json"),
    "pipe for the outbox": put_pipe("tracking_pending.jsonl"),
    "socket": put_socket,
}
"""Name -> change that no command lets pass."""
DAMAGES: dict[str, Callable[[Path], None]] = {
    "deep nesting": put_text("state.json", "[" * 100_000),
    "nesting within Python's limit": put_text("config.json", "[" * 500 + "]" * 500),
    "a list for a mapping": put_text("state.json", "[]"),
    "a number for a mapping": put_text("config.json", "1"),
    "an endless integer": put_text("state.json", '{"env_steps": ' + "9" * 10_000 + "}"),
    "no JSON": put_text("config.json", "!!python/object/apply:os.system ['true']"),
    "no UTF-8": put_text("state.json", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
    "a pickle for tensors": put_text("policy.safetensors", "cposix\nsystem\n(S'touch /tmp/owned'\ntR."),
    "a header beyond the file": put_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,99999]}}'),
    "a header that overlaps": put_header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[8,0]}}'),
    "a header of an absurd shape": put_header(
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,64]}}'
    ),
    "an unknown type": put_header(b'{"a":{"dtype":"OBJECT","shape":[16],"data_offsets":[0,64]}}'),
}
"""Name -> damage of the only checkpoint, with checksums that fit."""


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("module", ["evaluate", "train", "compare"])
def test_nothing_but_plain_files(stranger: Path, command: Command, module: str, name: str) -> None:
    """Links out of the folder and pipes end every command in one line; nothing is written through them."""
    CHANGES[name](stranger)
    outside = sorted(path for path in stranger.parent.iterdir() if path != stranger)
    before = [path.read_bytes() for path in outside if path.is_file()]
    status, out, err = command(module, f"{'resume' if module == 'train' else 'run'}={stranger}")
    assert (status, err.count("\n")) == (2, 1), err
    assert "hunter2" not in out + err
    assert [path.read_bytes() for path in outside if path.is_file()] == before


@pytest.mark.parametrize("name", DAMAGES)
def test_malformed_checkpoints_are_one_line(stranger: Path, command: Command, name: str) -> None:
    """What is no checkpoint is refused by evaluation and resume alike."""
    DAMAGES[name](stranger)
    for arguments in (
        ("evaluate", f"run={stranger}"),
        ("train", f"resume={stranger}"),
        ("train", "task=cartpole_swingup", f"start_from={stranger}"),
    ):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1), err
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize("change", [put_huge, list_outside])
def test_what_cannot_be_whole_is_passed_over(stranger: Path, change: Callable[[Path], None]) -> None:
    """A file of 2 TB is not read, a name outside not followed: the checkpoint before is used."""
    change(stranger)
    found = checkpoint.load(stranger, key="run")
    assert "is damaged" in found.note and found.env_steps == 32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", {"total": -1}),
        ("tokens", []),
        ("iteration", "many"),
        ("iteration", 2**70),
        ("iteration", True),
        ("mlflow_run_id", "x' OR 1=1"),
        ("mlflow_run_id", "../../x"),
        ("meter", {}),
        ("peer_meters", [{}]),
        ("excluded_s", {"time/wall_s": "long"}),
        ("metrics", {"a": {"b": 1}}),
        ("generators", {"python": [3, [1], None], "numpy": ["MT19937", 0, 0, 0.0]}),
        ("window", 3),
        ("window", [{"episodes": 1.0}]),
        ("generators", {}),
        ("env_steps", -5),
        ("env_steps", "5"),
    ],
)
def test_state_is_checked(stranger: Path, command: Command, key: str, value: object) -> None:
    """Types, ranges and names of what a resume goes on from are checked before anything is written."""
    for folder in (stranger / "checkpoints").iterdir():
        if folder.name.isdigit() and folder != newest(stranger):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    edit_json(stranger, "state.json", lambda state: state.update({key: value}))
    before = (stranger / "config.yaml").stat().st_mtime_ns
    status, _, err = command("train", f"resume={stranger}", "total_steps=128")
    assert (status, err.count("\n")) == (2, 1), err
    assert (stranger / "config.yaml").stat().st_mtime_ns == before


def test_numpy_position_is_within_its_state(stranger: Path, command: Command) -> None:
    """NumPy would read beyond its words, wherever the file says."""

    def change(state: dict) -> None:
        state["generators"]["numpy"][1] = 10**9

    edit_json(stranger, "state.json", change)
    status, _, err = command("train", f"resume={stranger}", "total_steps=128")
    assert status == 2 and "NumPy" in err


@pytest.mark.parametrize("kind", ["shape", "type", "missing", "further", "not finite"])
def test_tensors_are_checked_alike(stranger: Path, command: Command, kind: str) -> None:
    """Evaluation and resume refuse a policy of other shapes, types and names in the same words."""
    path = newest(stranger) / "policy.safetensors"
    tensors = load_file(path)
    name = next(key for key, value in tensors.items() if value.dim() == 2)
    if kind == "shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif kind == "type":
        tensors[name] = tensors[name].double()
    elif kind == "missing":
        del tensors[name]
    elif kind == "further":
        tensors["__class__"] = tensors[name].clone()
    else:
        tensors[name][0, 0] = float("nan")
    save_file(tensors, path)
    reseal(newest(stranger))
    reasons = []
    for arguments in (("evaluate", f"run={stranger}"), ("train", f"resume={stranger}", "total_steps=128")):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1), err
        reasons.append(err.partition("does not fit (")[2].partition(")")[0])
    assert reasons[0] == reasons[1] != ""


@given(st.binary(max_size=400))
def test_no_bytes_are_json_by_accident(content: bytes) -> None:
    """Any bytes are values or a ValueError."""
    try:
        stored_files.parse_json(content, name="state.json")
    except ValueError as error:
        assert "\n" not in str(error)


@given(st.text(alphabet="[]{}&*!:-,<> \n'\"|?%@`abc01.", max_size=200))
def test_no_text_breaks_the_yaml_reader(text: str) -> None:
    """Any text is plain values or a ValueError on one line."""
    try:
        stored_files.parse_yaml(text, name="config.yaml")
    except ValueError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_header_breaks_the_tensor_reader(tmp_path_factory, content: bytes, size: int) -> None:
    """Any header of a tensor file is tensors or one line, and earlier checkpoints are found."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "1"
    folder.mkdir(parents=True)
    state = {"format": checkpoint_files.FORMAT, "env_steps": 1}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "config.json").write_text("{}")
    (folder / "policy.safetensors").write_bytes(struct.pack("<Q", size) + content)
    reseal(folder)
    try:
        checkpoint.load(folder.parents[1])
    except ValueError as error:
        assert "cannot be read" in str(error) and "\n" not in str(error)


BOMBS = {
    "aliases": "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n",
    "merge": "a: &a {x: 1}\nb:\n  <<: *a\n",
    "object": "a: !!python/object/apply:os.system ['touch /tmp/owned']\n",
    "name": "a: !!python/name:os.system\n",
    "nesting": "[" * 5000,
    "size": "a: " + "x" * (1 << 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_is_plain_and_bounded(stranger: Path, command: Command, name: str) -> None:
    """A configuration with aliases, objects, deep nesting or of a megabyte is refused in one line."""
    (stranger / "config.yaml").write_text(BOMBS[name])
    status, _, err = command("compare", f"run={stranger}")
    assert (status, err.count("\n")) == (2, 1), err
    assert not Path("/tmp/owned").exists()
