"""The files of checkpoints: finding them and telling a whole one from a damaged one. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from factory.runtime import stored_files

FORMAT = 6
"""Version of the contents; raised whenever older checkpoints cannot be loaded."""
CONFIG_FILE = "config.yaml"
"""First file of a run folder."""
CHECKSUMS = "checksums.json"
"""Size and SHA-256 of every other file of a checkpoint, by name."""
_COPIES = 3
"""Copies of the tensors in memory while they are loaded: files, tensors, and those of the parts."""
# No path separators: a listed name must not lead out of the folder.
_FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\.(safetensors|json)")


@dataclass(frozen=True, kw_only=True)
class StoredCheckpoint:
    """A checkpoint whose files match their checksums."""

    folder: Path
    env_steps: int
    state: dict[str, Any]
    config: dict[str, Any]
    tensor_files: dict[str, bytes]
    """Content of the tensor files, by name without suffix."""
    note: str
    """Line for the user if a newer one is damaged; else empty."""


def exists(run_dir: Path) -> bool:
    """Tell whether a run has any checkpoint, whole or not."""
    return bool(_candidates(run_dir / "checkpoints"))


def is_deleted(run_dir: Path) -> bool:
    """Tell whether the folder of a run that has started was deleted, or emptied."""
    return not ((run_dir / CONFIG_FILE).exists() or (run_dir / "checkpoints" / "last").exists())


def go_on(run_dir: Path) -> str:
    """Return the end of an error message: where a run that failed goes on; empty if nothing was saved."""
    last = run_dir / "checkpoints" / "last"
    if not last.exists():
        return ""
    return f"; resume={run_dir} goes on from step {last.resolve().name}"


def mlflow_run_id(run_dir: Path) -> str | None:
    """Return the MLflow run that the newest checkpoint names, unverified; None if it names none."""
    for folder in _candidates(run_dir / "checkpoints"):
        try:
            return stored_files.read_json(folder / "state.json").get("mlflow_run_id")
        except (ValueError, AttributeError):
            continue
    return None


def read(run_dir: Path, *, key: str) -> StoredCheckpoint:
    """Read the newest whole checkpoint of a run.

    Args:
        run_dir: the run's folder.
        key: key by which the user named it, for the error message.

    Raises:
        ValueError: the run has none, none can be read, or the folder holds what no run writes.
    """
    stored_files.check_folder(run_dir, key=key)
    candidates = _candidates(run_dir / "checkpoints")
    if not candidates:
        raise ValueError(f"{key}={run_dir}: no checkpoint there; give a folder that has checkpoints/last")
    # The newest whole one is used; the message of the newest damaged one is kept for the user.
    problems: list[str] = []
    for folder in candidates:
        try:
            return _read(folder, note="; ".join(problems))
        except ValueError as error:
            reason = " ".join(str(error).split())
            problems.append(f"checkpoint {folder.name} is damaged ({reason}): an older one is used")
            if len(problems) == 1:
                first = ValueError(f"{key}={run_dir}: {folder} cannot be read ({reason})")
    raise first


def checksums(contents: dict[str, bytes]) -> bytes:
    """Return the content of the checksum file for the files of a checkpoint."""
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(contents.items())
    }
    return json.dumps({"files": files}, indent=1).encode()


def _candidates(folder: Path) -> list[Path]:
    """Return the folders of checkpoints: the one that `last` names, then the others, the newest first.

    Names are not trusted: in a copied run, `last` may be a folder of its own.
    """
    if not folder.is_dir():
        return []
    # Links in a circle end `resolve` with an error; `realpath` leaves them as they are.
    current = Path(os.path.realpath(folder / "last"))
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    own = {Path(os.path.realpath(path)) for path in folders}
    others = sorted(own - {current}, key=lambda path: (-_claimed_steps(path), path.name))
    if not current.is_dir():
        return others
    return [current, *others]


def _claimed_steps(folder: Path) -> int:
    try:
        # Good enough for an order; the checksums decide later whether the file is to be believed.
        return int(stored_files.read_json(folder / "state.json")["env_steps"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return -1


def _read(folder: Path, *, note: str) -> StoredCheckpoint:
    """Read one checkpoint.

    Raises:
        ValueError: a file is missing, damaged, or not what this version writes.
    """
    # Older formats have no checksums: say so instead of calling them damaged.
    if (folder / "state.json").is_file() and not (folder / CHECKSUMS).exists():
        _check_format(stored_files.read_json(folder / "state.json"))
    listed = _listed(folder)
    total = sum(size for size, _ in listed.values())
    if _COPIES * total > psutil.virtual_memory().available:
        raise ValueError(f"{total / 1e9:.3g} GB of tensors do not fit into the free memory")
    contents: dict[str, bytes] = {}
    for name, (size, digest) in listed.items():
        contents[name] = stored_files.read_bytes(folder / name, limit=size)
        is_same = len(contents[name]) == size and hashlib.sha256(contents[name]).hexdigest() == digest
        if not is_same:
            raise ValueError(f"{name}: its checksum is another; the file was cut off or changed")
    # Both are listed by every version that writes checksums.
    for name in ("state.json", "config.json"):
        if name not in contents:
            raise ValueError(f"{name}: missing")
    state = _mapping(contents["state.json"], "state.json")
    config = _mapping(contents["config.json"], "config.json")
    _check_format(state)
    del state["format"]
    env_steps = state.pop("env_steps", None)
    if type(env_steps) is not int or not 0 <= env_steps < 2**63:
        raise ValueError(f"state.json: env_steps={env_steps!r} is no count")
    tensor_files = {
        name.removesuffix(".safetensors"): content
        for name, content in contents.items()
        if name.endswith(".safetensors")
    }
    return StoredCheckpoint(
        folder=folder,
        env_steps=env_steps,
        state=state,
        config=config,
        tensor_files=tensor_files,
        note=note,
    )


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of the files of a checkpoint, as its checksum file has them."""
    malformed = ValueError(f"{CHECKSUMS}: not the sizes and checksums of a checkpoint's files")
    content = stored_files.read_json(folder / CHECKSUMS)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise malformed
    listed: dict[str, tuple[int, str]] = {}
    for name, entry in content["files"].items():
        is_entry = isinstance(entry, dict) and _is_size(entry.get("bytes"))
        if not _FILE_NAME.fullmatch(name) or not is_entry or not isinstance(entry.get("sha256"), str):
            raise malformed
        listed[name] = (entry["bytes"], entry["sha256"])
    return listed


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _mapping(content: bytes, name: str) -> dict[str, Any]:
    value = stored_files.parse_json(content, name=name)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: no mapping")
    return value


def _check_format(state: Any) -> None:
    written: Any = "unknown"
    if isinstance(state, dict):
        written = state.get("format", "unknown")
    if written != FORMAT:
        raise ValueError(
            f"the checkpoint is of another format, {written!r:.20}; this version reads {FORMAT}; train anew,"
            " or go on with the version that wrote it"
        )
