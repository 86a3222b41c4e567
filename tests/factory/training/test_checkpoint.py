"""Checkpoints are whole or not there, exact, few, and free of pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from factory import cli
from factory.training import checkpoint
from factory.training.checkpoint import Checkpoint


def make(env_steps: int, *, value: float = 0.5) -> Checkpoint:
    """Return a checkpoint whose tensors tell which one it is."""
    return Checkpoint(
        env_steps=env_steps,
        tensors={
            "policy": {"weight": torch.full((2, 3), value), "count": torch.tensor(3.0, dtype=torch.float64)},
            "learner": {"generator": torch.arange(8, dtype=torch.uint8), "flag": torch.tensor([True, False])},
        },
        state={
            "tokens": {"total": env_steps},
            "mlflow_run_id": None,
            "words": [2**40, -1],
            "energy_j": 0.1 + 0.2,
        },
        config={"task": {"name": "cartpole_swingup"}, "seed": 3},
    )


def read(run_dir: Path) -> tuple[int, float]:
    """Return env_steps and the tell-tale value of the newest checkpoint."""
    found = checkpoint.load(run_dir)
    return found.env_steps, float(found.tensors["policy"]["weight"][0, 0])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Return a run folder with one checkpoint at 100 steps."""
    checkpoint.save(make(100), tmp_path / "checkpoints", keep=3)
    return tmp_path


def test_round_trip_is_exact(run_dir: Path) -> None:
    """Every dtype, shape and number comes back as it was."""
    found, expected = checkpoint.load(run_dir), make(100)
    assert (found.env_steps, found.state, found.config) == (100, expected.state, expected.config)
    assert found.tensors.keys() == expected.tensors.keys()
    for file, tensors in expected.tensors.items():
        assert found.tensors[file].keys() == tensors.keys()
        for name, value in tensors.items():
            assert found.tensors[file][name].dtype == value.dtype
            assert torch.equal(found.tensors[file][name], value)


def test_views_are_stored_too(tmp_path: Path) -> None:
    """A tensor that is a strided view of another is written like any other."""
    source = torch.arange(12.0).view(3, 4)
    taken = Checkpoint(env_steps=1, tensors={"policy": {"column": source[:, 1]}}, state={}, config={})
    checkpoint.save(taken, tmp_path / "checkpoints", keep=1)
    assert checkpoint.load(tmp_path).tensors["policy"]["column"].tolist() == [1.0, 5.0, 9.0]


def test_only_safetensors_and_json(run_dir: Path) -> None:
    """No file needs pickle, and no half-written one is left."""
    names = {
        path.relative_to(run_dir / "checkpoints").as_posix() for path in (run_dir / "checkpoints").rglob("*")
    }
    files = {"policy.safetensors", "learner.safetensors", "state.json", "config.json", "checksums.json"}
    assert names == {"100", "last", *(f"100/{name}" for name in files)}


@pytest.mark.parametrize("call", ["_write_file", "json.dumps", "_point"])
@pytest.mark.parametrize("env_steps", [100, 200])
def test_crash_while_writing_leaves_a_whole_checkpoint(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, call: str, env_steps: int
) -> None:
    """Dying at any stage, be it over a checkpoint of the same step, leaves `last` whole; the next save tidies
    up.
    """

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"factory.training.checkpoint.{call}", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(make(env_steps, value=0.75), run_dir / "checkpoints", keep=3)
    assert read(run_dir) == (100, 0.5)
    checkpoint.save(make(300, value=0.25), run_dir / "checkpoints", keep=3)
    assert read(run_dir) == (300, 0.25)
    assert not list((run_dir / "checkpoints").glob(".*"))


def test_crash_within_a_file_leaves_the_old_checkpoint(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in the middle of a tensor file leaves the checkpoint that was there."""

    def half(path: Path, content: bytes) -> None:
        path.write_bytes(content[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr("factory.training.checkpoint._write_file", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(make(200), run_dir / "checkpoints", keep=3)
    assert read(run_dir) == (100, 0.5)


def test_crash_while_replacing_the_same_step_leaves_a_whole_one(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the removal of the old checkpoint and the renaming of the new one of the same step, `last` is
    whole.
    """

    def die(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(make(100, value=0.75), run_dir / "checkpoints", keep=3)
    assert read(run_dir) == (100, 0.75)


def test_everything_is_synced_before_it_is_renamed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and its folder reach the disk before they get their name."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    monkeypatch.setattr(
        Path, "rename", lambda self, target: (events.append("rename"), rename(self, target))[1]
    )
    checkpoint.save(make(200), run_dir / "checkpoints", keep=3)
    synced = events[: events.index("rename")]
    names = {Path(path).name for path in synced}
    assert {"policy.safetensors", "learner.safetensors", "state.json", "config.json"} < names
    assert any(name.endswith(".tmp") for name in names)
    assert Path(events[-1]).name == "checkpoints"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Of many checkpoints the newest stay, by number and not by name, and `last` is among them."""
    for env_steps in (8, 9, 10, 100, 1000):
        checkpoint.save(make(env_steps), tmp_path / "checkpoints", keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["100", "1000", "last"]
    assert read(tmp_path)[0] == 1000


def test_last_is_never_pruned(tmp_path: Path) -> None:
    """After a resume from an older step, what `last` names stays although newer numbers lie beside it."""
    for env_steps in (100, 200, 300):
        checkpoint.save(make(env_steps), tmp_path / "checkpoints", keep=3)
    checkpoint.save(make(150, value=0.75), tmp_path / "checkpoints", keep=1)
    assert read(tmp_path) == (150, 0.75)


def test_run_folder_may_be_moved(run_dir: Path, tmp_path: Path) -> None:
    """`last` is relative: a copied or renamed run folder still loads."""
    moved = tmp_path.parent / f"{tmp_path.name}_moved"
    run_dir.rename(moved)
    assert read(moved) == (100, 0.5)


def test_copy_that_followed_links_goes_on(run_dir: Path, tmp_path: Path) -> None:
    """In a copy by `cp -rL` or `scp -r`, `last` is a folder; the next checkpoint makes it a link again."""
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    assert not (copy / "checkpoints" / "last").is_symlink()
    assert read(copy) == (100, 0.5)
    checkpoint.save(make(200, value=0.75), copy / "checkpoints", keep=3)
    assert read(copy) == (200, 0.75)
    assert {path.name for path in (copy / "checkpoints").iterdir()} == {"100", "200", "last"}


@pytest.mark.parametrize("file", ["policy.safetensors", "state.json", "config.json"])
def test_unreadable_checkpoint_is_one_line(run_dir: Path, file: str) -> None:
    """A damaged file is reported with the run's name, on one line."""
    path = run_dir / "checkpoints" / "100" / file
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(ValueError, match="cannot be read") as caught:
        checkpoint.load(run_dir)
    assert str(run_dir) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_format_is_one_line(run_dir: Path) -> None:
    """What another version wrote, which might not load, is refused with a remedy."""
    folder = run_dir / "checkpoints" / "100"
    state = json.loads((folder / "state.json").read_text()) | {"format": 2}
    (folder / "state.json").write_text(json.dumps(state))
    # Formats before the fifth had no checksums.
    (folder / "checksums.json").unlink()
    message = f"the checkpoint is of another format, 2; this version reads {checkpoint.FORMAT}; train anew"
    with pytest.raises(ValueError, match=message):
        checkpoint.load(run_dir)


DAMAGE = {
    "cut off": lambda content: content[:-1],
    "empty": lambda content: b"",
    "a bit flipped": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("file", ["policy.safetensors", "state.json", "config.json", "checksums.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest_is_passed_over_with_a_line(run_dir: Path, file: str, damage: str) -> None:
    """A file that is not what was written, be it by one bit: the checkpoint before is used, and says so."""
    newest = checkpoint.save(make(200, value=0.75), run_dir / "checkpoints", keep=3)
    content = (newest / file).read_bytes()
    (newest / file).write_bytes(DAMAGE[damage](content))
    found = checkpoint.load(run_dir)
    assert (found.env_steps, float(found.tensors["policy"]["weight"][0, 0])) == (100, 0.5)
    assert found.note.startswith("checkpoint 200 is damaged (") and "older one is used" in found.note


def test_missing_last_is_found_again(run_dir: Path) -> None:
    """Without `last`, the newest by its own count is taken, whatever the folders are called."""
    checkpoint.save(make(200), run_dir / "checkpoints", keep=3)
    (run_dir / "checkpoints" / "last").unlink()
    (run_dir / "checkpoints" / "200").rename(run_dir / "checkpoints" / "a copy")
    (run_dir / "checkpoints" / "100").rename(run_dir / "checkpoints" / "999")
    assert read(run_dir) == (200, 0.5)
    assert checkpoint.load(run_dir).note == ""


def test_modes_are_as_the_umask_says(tmp_path: Path) -> None:
    """Every file of a checkpoint may be read by those whom the user's mask lets read."""
    before = os.umask(0o027)
    try:
        folder = checkpoint.save(make(100), tmp_path / "checkpoints", keep=1)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_run_without_checkpoint_is_one_line(tmp_path: Path) -> None:
    """A folder without a checkpoint is named, with what to look for."""
    with pytest.raises(ValueError, match="no checkpoint there") as caught:
        checkpoint.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_manifest_names_every_file_with_its_checksum(run_dir: Path) -> None:
    """The ledger's manifest lets a copied checkpoint be verified."""
    import hashlib

    found = checkpoint.manifest(run_dir)
    folder = run_dir / "checkpoints" / "100"
    assert (found["env_steps"], found["checkpoint"]) == (100, str(folder.resolve()))
    assert set(found["files"]) == {path.name for path in folder.iterdir()} - {"checksums.json"}
    for name, entry in found["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_run_is_found_by_folder_newest_and_ledger_id(tmp_path: Path) -> None:
    """`resume=` and `run=` take a folder, `last`, or an MLflow run id; a dangling `last` is passed over."""
    runs = [tmp_path / "cartpole_swingup" / name for name in ("first", "second")]
    for age_s, (run, run_id) in enumerate(zip(runs, ("abc", "def"), strict=True)):
        taken = make(100)
        taken.state["mlflow_run_id"] = run_id
        folder = checkpoint.save(taken, run / "checkpoints", keep=1)
        os.utime(folder, (1000 + age_s, 1000 + age_s))
    broken = tmp_path / "cartpole_swingup" / "broken" / "checkpoints"
    broken.mkdir(parents=True)
    (broken / "last").symlink_to("nothing")
    find = lambda name: cli.find_run(name, key="run", output_root=tmp_path)  # noqa: E731
    assert find("last") == runs[1]
    assert find("abc") == runs[0]
    assert find(str(runs[0])) == runs[0]
    with pytest.raises(ValueError, match="run=ghi: no such run folder"):
        find("ghi")
