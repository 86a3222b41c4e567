"""Checkpoints: safetensors for tensors, JSON for the rest, written atomically."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from factory.runtime import stored_files
from factory.runtime.atomic_write import sync
from factory.training import checkpoint_files
from factory.training.checkpoint_files import CHECKSUMS, FORMAT


@dataclass(kw_only=True)
class Checkpoint:
    """State of a training job at `env_steps`."""

    env_steps: int
    tensors: dict[str, dict[str, Tensor]]
    """File name without suffix -> named tensors: policy, learner, env, collector, generators."""
    state: dict[str, Any]
    """Plain values: token and energy totals, generators, MLflow run id, versions."""
    config: dict[str, Any]
    """The resolved configuration of the run."""
    note: str = ""
    """Line for the user if it was read because a newer one is damaged; else empty."""


def save(checkpoint: Checkpoint, folder: Path, *, keep: int) -> Path:
    """Write `folder/<env_steps>/`, point `folder/last` at it, and drop all but the newest `keep`.

    Everything is written beside and synced before it is renamed, so a crash at any moment leaves the
    checkpoints that were there, and `last` always names a whole one.

    Raises:
        OSError: it could not be written, for instance on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / str(checkpoint.env_steps)
    temporary = folder / f".{checkpoint.env_steps}.{os.getpid()}.tmp"
    try:
        _write(checkpoint, temporary)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        before = "there is none before it"
        if (folder / "last").exists():
            before = "the one before is whole"
        raise OSError(f"checkpoint {target} could not be written ({error}); {before}") from error
    if target.exists():
        # Saved twice at one step. `last` may name the old folder, so it names the new one before the old one
        # is removed.
        _point(folder / "last", temporary.name)
        shutil.rmtree(target)
    # A rename within one folder is atomic; syncing the folder makes it survive a power failure.
    temporary.rename(target)
    _point(folder / "last", target.name)
    sync(folder)
    _prune(folder, keep)
    return target


def load(run_dir: Path, *, key: str = "resume") -> Checkpoint:
    """Read the newest whole checkpoint of a run.

    Args:
        run_dir: The run's folder.
        key: Key by which the user named the folder, for the error message.

    Raises:
        ValueError: the run has none, or none that can be read.
    """
    found = checkpoint_files.read(run_dir, key=key)
    try:
        tensors = {name: safetensors.torch.load(content) for name, content in found.tensor_files.items()}
    except Exception as error:  # safetensors raises errors of several kinds for a hostile header
        reason = " ".join(str(error).split())
        raise ValueError(f"{key}={run_dir}: {found.folder} cannot be read ({reason})") from error
    return Checkpoint(
        env_steps=found.env_steps,
        tensors=tensors,
        state=found.state,
        config=found.config,
        note=found.note,
    )


def manifest(run_dir: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of every file of the newest checkpoint, for the experiment tracker."""
    found = checkpoint_files.read(run_dir, key="run")
    listed = stored_files.read_json(found.folder / CHECKSUMS)
    return {"checkpoint": str(found.folder), "env_steps": found.env_steps, **listed}


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    contents: dict[str, bytes] = {}
    for name, part in checkpoint.tensors.items():
        # safetensors stores plain rows; views of a larger tensor would be refused.
        tensors = {key: value.contiguous() for key, value in part.items()}
        contents[f"{name}.safetensors"] = safetensors.torch.save(tensors)
    state = checkpoint.state | {"format": FORMAT, "env_steps": checkpoint.env_steps}
    for name, values in (("state", state), ("config", checkpoint.config)):
        contents[f"{name}.json"] = json.dumps(values, indent=1).encode()
    # Checksums of the intended contents reveal files that were cut off or changed later.
    contents[CHECKSUMS] = checkpoint_files.checksums(contents)
    for name, content in contents.items():
        _write_file(folder / name, content)
    sync(folder)


def _write_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def _point(link: Path, name: str) -> None:
    # Replacing a link by another is atomic; removing and making it anew would leave a moment without `last`.
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    if link.is_dir() and not link.is_symlink():
        # A copy that followed links has a folder there, a second copy of a numbered one.
        shutil.rmtree(link)
    temporary.replace(link)


def _prune(folder: Path, keep: int) -> None:
    # By number of steps, not by time: a copied run has new times.
    whole = sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    current = (folder / "last").resolve()
    for path in whole[:-keep]:
        if path.resolve() != current:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.tmp"):
        if path.is_symlink():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
