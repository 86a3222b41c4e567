"""Runs that a command line names: finding one, and going on with one."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from factory import config, options
from factory.cli import spelling
from factory.config import TrainConfig
from factory.registry import REGISTRIES
from factory.runtime import stored_files
from factory.tracking.base import flatten
from factory.tracking.run_ids import read_ids
from factory.training import checkpoint_files, own_robot, run_lock, stored_config

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
    folder = Path(name).expanduser().absolute()
    # Unlike `Path.is_dir`, it has an answer for names that no file system takes, too.
    if name != "last" and os.path.isdir(folder):
        if not checkpoint_files.exists(folder):
            raise ValueError(f"{key}={name}: no checkpoint there; give a folder that has checkpoints/last")
        return folder
    named = stored_files.find(output_root, "last")
    found = (path for path in named if path.parent.name == "checkpoints" and os.path.exists(path))
    pointers = sorted(found, key=lambda path: path.stat().st_mtime)
    if name == "last":
        if not pointers:
            raise ValueError(f"{key}=last: no run with a checkpoint under {output_root.absolute()}")
        return pointers[-1].absolute().parents[1]
    for pointer in pointers:
        found_dir = pointer.absolute().parents[1]
        # A checkpoint that was written before a slow store answered names no run.
        if name in (checkpoint_files.mlflow_run_id(found_dir), read_ids(found_dir).get("run_id")):
            return found_dir
    raise ValueError(
        f"{key}={name}: no such run folder, and no run of that MLflow id under {output_root.absolute()}"
    )


def with_start_found(overrides: list[str], parsed: list[Override]) -> list[str]:
    """Return the overrides with the folders of the runs that `start_from` names.

    They are found before a run begins, which would otherwise be the newest itself.

    Raises:
        ValueError: there is no such run, or it has no checkpoint.
    """
    values = {str(o.key_or_group): o.value() for o in parsed if not o.is_sweep_override()}
    output_root = Path(str(values.get("output_root", TrainConfig.output_root)))
    found: list[str] = []
    for text, override in zip(overrides, parsed, strict=True):
        if override.key_or_group != "start_from":
            found.append(text)
            continue
        names = [override.value()]
        if override.is_sweep_override():
            names = list(override.sweep_iterator())
        if not all(names):
            found.append(text)
            continue
        runs = [find_run(str(name), key="start_from", output_root=output_root) for name in names]
        found.append("start_from=" + ",".join(map(spelling.quoted, runs)))
    return found


def resumed_overrides(overrides: list[str], parsed: list[Override]) -> list[str]:
    """Return the overrides with which Hydra composes what a resumed run may take from the command line.

    They choose the components of the run, so that the keys of these exist, and its folder.
    """
    values = {str(o.key_or_group): str(o.value()) for o in parsed}
    if "hydra.run.dir" in values:
        raise ValueError(
            f"hydra.run.dir={values['hydra.run.dir']}: a resumed run stays in its folder; leave it out"
        )
    if "experiment" in values:
        raise ValueError(f"experiment={values['experiment']}: a resumed run has its own; leave it out")
    if values.get("start_from"):
        raise ValueError(
            f"start_from={values['start_from']}: a resumed run has its own weights; leave it out"
        )
    output_root = Path(values.get("output_root", TrainConfig.output_root))
    run_dir = find_run(values["resume"], key="resume", output_root=output_root)
    stored = checkpoint_files.read(run_dir, key="resume").config
    # First of all, as the other settings may be those of a component that a plug-in registers.
    stored_config.require_named(
        stored, named=values, run_dir=run_dir, key="resume", rules=[stored_config.PLUGINS]
    )
    run_lock.check_free(run_dir, key="resume")
    new = [override for override in overrides if not override.startswith("resume=")]
    if "output_root" not in values:
        # A relative one was meant from where the run was started, which need not be here.
        new += [f"output_root={spelling.quoted(folder)}" for folder in _roots(run_dir, stored)]
    names = _component_names(stored)
    components = [f"{group}={name}" for group, name in names.items() if group not in values]
    folder = spelling.quoted(run_dir)
    return [*components, *new, f"resume={folder}", f"hydra.run.dir={folder}"]


def _component_names(stored: dict[str, Any]) -> dict[str, str]:
    """Return the names of task, policy and learner, all of which are known here.

    Raises:
        ValueError: one of them is not; only known names may become part of a command.
    """
    names: dict[str, str] = {}
    for group in REGISTRIES:
        part = stored.get(group)
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name not in options.choices(group):
            remedy = "not registered here; install its package, or name its file in plugins=[...]"
            raise ValueError(f"{group}={name!s:.60}: {remedy}")
        names[group] = name
    return names


def _roots(run_dir: Path, stored: dict[str, Any]) -> list[Path]:
    """Return the folder above the run that its configuration calls `output_root`, if there is one."""
    named = stored.get("output_root")
    if not isinstance(named, str) or not Path(named).name or set(named) & set("*?["):
        return []
    return [folder for folder in run_dir.parents if folder.match(named)][:1]


def resumed_config(composed: DictConfig, overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration of a resumed run: its own, as data, with the user's values in place.

    Args:
        composed: configuration composed from `resumed_overrides`.
        overrides: these overrides.

    Raises:
        ValueError: a value has to be named by the user, cannot be changed, or is out of range.
    """
    run_dir = Path(composed.resume)
    stored = checkpoint_files.read(run_dir, key="resume").config
    stored_config.require_groups(stored, run_dir=run_dir, key="resume")
    given: Any = OmegaConf.to_container(composed, resolve=True)
    plain = copy.deepcopy(stored)
    own_robot.use(plain, run_dir)
    named = {override.partition("=")[0] for override in overrides} - {"resume"}
    named = {key for key in named if not key.lstrip("+~").startswith("hydra")}
    for key in sorted(named):
        if key in REGISTRIES and given[key]["name"] == stored[key]["name"]:
            # The command repeats which component it is; the settings are the run's.
            named.discard(key)
        elif key in options.GROUPS:
            plain[key] = given[key]
        else:
            stored_config.put(plain, key, OmegaConf.select(composed, key))
    plain["resume"] = str(run_dir)
    plain["plugins"] = given["plugins"] if "plugins" in named else plain.get("plugins")
    stored_config.require_named(
        plain, named=named, run_dir=run_dir, key="resume", rules=stored_config.TRAINING
    )
    cfg = config.from_plain(plain)
    before = dict(flatten(stored))
    for key, value in flatten(config.to_plain(cfg)):
        # A file may have moved since; whether another robot fits is seen when its tensors are loaded.
        is_moved = key in ("robot", "task.robot") and _are_files(value, before.get(key))
        if key.startswith(_FIXED) and key in before and value != before[key] and not is_moved:
            raise ValueError(f"{key}={value}: the run to resume has {before[key]}; leave it as it is")
    return cfg


def _are_files(*robots: object) -> bool:
    return all(isinstance(robot, str) and robot.startswith("file:") for robot in robots)
