"""Checkpoints: safetensors for tensors, JSON for the rest, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 4
"""Version of the contents; raised whenever older checkpoints cannot be loaded."""


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
        raise OSError(
            f"checkpoint {target} could not be written ({error}); the one before is whole"
        ) from error
    if target.exists():
        # `last` may point at it, so it points at the new one while that takes the place of the old one.
        _point(folder / "last", temporary.name)
        shutil.rmtree(target)
    temporary.rename(target)
    _point(folder / "last", target.name)
    _sync(folder)
    _prune(folder, keep)
    return target


def load(run_dir: Path, *, key: str = "resume") -> Checkpoint:
    """Read the newest whole checkpoint of a run.

    Args:
        run_dir: The run's folder.
        key: What the user called it, for the error message.

    Raises:
        ValueError: the run has none, or it cannot be read.
    """
    folder = run_dir / "checkpoints" / "last"
    if not folder.exists():
        raise ValueError(f"{key}={run_dir}: no checkpoint there; look for a folder that has checkpoints/last")
    folder = folder.resolve()
    try:
        tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
        state, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("state", "config"))
    except Exception as error:
        raise ValueError(
            f"{key}={run_dir}: {folder} cannot be read ({' '.join(str(error).split())})"
        ) from error
    if (written := state.pop("format", "unknown")) != FORMAT:
        remedy = "train anew, or go on with the version that wrote it"
        raise ValueError(
            f"{key}={run_dir}: the checkpoint is of an older format ({written}; this version reads {FORMAT});"
            f" {remedy}"
        )
    # A copied run may hold `last` as a folder of its own, so its name says nothing.
    return Checkpoint(env_steps=state.pop("env_steps"), tensors=tensors, state=state, config=config)


def manifest(run_dir: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of every file of the newest checkpoint, for the experiment tracker."""
    import hashlib

    folder = (run_dir / "checkpoints" / "last").resolve()
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
    }
    env_steps = json.loads((folder / "state.json").read_text())["env_steps"]
    return {"checkpoint": str(folder), "env_steps": env_steps, "files": files}


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, tensors in checkpoint.tensors.items():
        file = folder / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
        # The library writes files for their owner alone; the others of the folder are as the umask says.
        file.chmod(0o666 & ~_umask())
    state = checkpoint.state | {"format": FORMAT, "env_steps": checkpoint.env_steps}
    for name, content in (("state", state), ("config", checkpoint.config)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _umask() -> int:
    """Return the file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _point(link: Path, name: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)


def _prune(folder: Path, keep: int) -> None:
    whole = sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    current = (folder / "last").resolve()
    for path in whole[:-keep]:
        if path.resolve() != current:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
