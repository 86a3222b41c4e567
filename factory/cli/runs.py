"""Runs that a command line names: finding one, and going on with one."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from factory import config
from factory.cli import spelling
from factory.config import TrainConfig
from factory.tracking.base import flatten
from factory.training import run_lock

_FIXED = (
    "task.name",
    "robot",
    "env_id",
    "device",
    "num_envs",
    "physics.name",
    "policy.",
    "learner.name",
    "seed",
)
"""Keys that a resumed run cannot change: its tensors would not fit, or generators go on from the first seed.

Every other key takes effect."""


def find_run(name: str, *, key: str, output_root: Path) -> Path:
    """Return the folder of a run that has a checkpoint.

    Args:
        name: run folder, MLflow run id, or `last` for the newest.
        key: what the user called it, for the error message.
        output_root: where the runs are.

    Raises:
        ValueError: there is no such run, or it has no checkpoint.
    """
    found = (path for path in output_root.glob("**/checkpoints/last") if path.exists())
    pointers = sorted(found, key=lambda path: path.stat().st_mtime)
    if name == "last":
        if not pointers:
            raise ValueError(f"{key}=last: no run with a checkpoint under {output_root.absolute()}")
        return pointers[-1].absolute().parents[1]
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        if not (folder / "checkpoints" / "last").exists():
            raise ValueError(f"{key}={name}: no checkpoint there; give a folder that has checkpoints/last")
        return folder
    for pointer in pointers:
        if json.loads((pointer / "state.json").read_text())["mlflow_run_id"] == name:
            return pointer.absolute().parents[1]
    raise ValueError(
        f"{key}={name}: no such run folder, and no run of that MLflow id under {output_root.absolute()}"
    )


def check_resumable(cfg: TrainConfig) -> None:
    """Check that the checkpoint can be read and that no key is changed that cannot be."""
    from factory.training import checkpoint

    stored = dict(flatten(checkpoint.load(Path(cfg.resume)).config))
    for key, value in flatten(config.to_plain(cfg)):
        if key.startswith(_FIXED) and key in stored and value != stored[key]:
            raise ValueError(f"{key}={value}: the run to resume has {stored[key]}; leave it as it is")


def resumed_overrides(overrides: list[str], parsed: list[Override]) -> list[str]:
    """Return the overrides of the run to resume, followed by the new ones."""
    values = {str(o.key_or_group): str(o.value()) for o in parsed}
    if "hydra.run.dir" in values:
        raise ValueError(
            f"hydra.run.dir={values['hydra.run.dir']}: a resumed run stays in its folder; leave it out"
        )
    output_root = Path(values.get("output_root", TrainConfig.output_root))
    run_dir = find_run(values["resume"], key="resume", output_root=output_root)
    run_lock.check_free(run_dir, key="resume")
    stored_file = run_dir / ".hydra" / "overrides.yaml"
    if stored_file.is_file():
        stored = yaml.safe_load(stored_file.read_text())
    else:
        stored = []
    kept = [o for o in stored if not o.lstrip("+~").startswith(("resume=", "hydra"))]
    new = [o for o in overrides if not o.startswith("resume=")]
    if "output_root" not in values:
        # A relative one was meant from where the run was started, which need not be here.
        from factory.training import checkpoint

        state = checkpoint.load(run_dir)
        roots = [folder for folder in run_dir.parents if folder.match(state.config["output_root"])]
        new += [f"output_root={spelling.quoted(folder)}" for folder in roots[:1]]
    folder = spelling.quoted(run_dir)
    return [*_without_replaced(kept, new), *new, f"resume={folder}", f"hydra.run.dir={folder}"]


def _without_replaced(stored: list[str], new: list[str]) -> list[str]:
    """Drop stored overrides whose key is given anew (a group may be chosen only once)."""
    keys = {override.partition("=")[0] for override in new}
    return [override for override in stored if override.partition("=")[0] not in keys]
