"""Options of the command line, and their registration with Hydra."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from factory import conf, plugins
from factory.config import TrainConfig
from factory.energy.registry import SOURCES
from factory.registry import REGISTRIES, TASKS
from factory.tracking.base import flatten

CONF_DIR = Path(conf.__file__).parent
"""Folder of this project's YAML files."""
GROUPS = ("task", "physics", "policy", "learner", "energy", "tracking", "runtime", "profile", "experiment")
"""Config groups, in the order of `--help`."""


def load_plugins(files: Sequence[str] = ()) -> None:
    """Load the plug-ins of installed packages and those in `files`, and make their options known to Hydra.

    Raises:
        ValueError: a file does not exist or fails; the message is one line.
    """
    plugins.load(files)
    register()


def register() -> None:
    """Make the schemas of all registered components, and the help text, known to Hydra."""
    # Bytes of the system, since every run seeds Python's generator alike.
    OmegaConf.register_new_resolver("random_id", lambda: os.urandom(2).hex(), use_cache=True, replace=True)
    _fill_config_store(tuple(_components()), tuple(SOURCES), plugins.conf_dirs())


# Every job of a sweep is composed once before the first one starts, so the work is done once for all of them.
@functools.lru_cache(maxsize=1)
def _fill_config_store(
    components: tuple[tuple[str, str, type], ...],
    energy_sources: tuple[str, ...],
    conf_dirs: tuple[Path, ...],
) -> None:
    """Fill Hydra's store; `conf/train.yaml` puts the entries together.

    Args:
        components: group, name and config class of everything that is registered.
        energy_sources: names of the energy sources.
        conf_dirs: config folders of plug-ins, whose files are options, too.
    """
    # Task, policy and learner get the classes of the options chosen, not the defaults of TrainConfig.
    base = OmegaConf.structured(TrainConfig)
    for group in REGISTRIES:
        base[group] = MISSING
    _store("base_train", _open_mappings(base))

    for group, name, schema in components:
        node = _open_mappings(OmegaConf.structured(schema))
        # A task's file has settings for several policies and learners; the chosen one lacks some of the keys.
        if group != "task":
            OmegaConf.set_struct(node, False)
        _store(f"schema/{group}/{name}", node)

    # Comes last in train.yaml and shuts these nodes again: the command line adds no keys.
    closed = OmegaConf.create({"policy": {}, "learner": {}})
    for node in closed.values():
        OmegaConf.set_struct(node, True)
    _store("schema/closed", closed, package="_global_")

    # A component without a YAML file is an option all the same. Hydra refuses an option that it has twice.
    # Group and name of an option -> the content that its YAML file would have.
    settings: dict[tuple[str, str], dict[str, Any]] = {}
    for group, name, _ in components:
        settings[group, name] = {}
        if group == "task":
            settings[group, name] = {"task": {"robot": "${robot}"}}
    for name in energy_sources:
        settings["energy", name] = {"energy": {"source": name}}
    for (group, name), content in settings.items():
        if name not in _names_of_files(group):
            _store(f"{group}/{name}", content, package="_global_")
    _store("hydra/help/factory", {"app_name": "factory.train", "template": help_text()})


def _components() -> Iterator[tuple[str, str, type]]:
    """Yield group, name and config class of everything that is registered."""
    for group, classes in REGISTRIES.items():
        for name, schema in classes.items():
            yield group, name, schema


def _store(path: str, node: Any, *, package: str | None = None) -> None:
    """Put a node into Hydra's store under `group/.../name`."""
    group, _, name = path.rpartition("/")
    # Hydra's store is global and replaces nodes of the same path, so filling it again is harmless.
    ConfigStore.instance().store(group=group or None, name=name, node=node, package=package)


def _open_mappings(node: DictConfig) -> DictConfig:
    """Let the command line put any key into fields that are mappings, such as `task.kwargs`."""
    # A structured node refuses keys that its class lacks, and a plain mapping inside inherits that.
    for key in node:
        if OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        if OmegaConf.get_type(node, str(key)) is dict:
            OmegaConf.set_struct(value, False)
        elif isinstance(value, DictConfig):
            _open_mappings(value)
    return node


def choices(group: str) -> tuple[str, ...]:
    """Return the options of a config group, e.g. `gym/ant` for a file in a subfolder."""
    # Energy sources have no config class of their own, but a table like the other components.
    registries: dict[str, dict[str, Any]] = {**REGISTRIES, "energy": SOURCES}
    registered = set(registries.get(group, ()))
    return tuple(sorted(_names_of_files(group) | registered))


def _names_of_files(group: str) -> set[str]:
    """Return the options of a group that are YAML files, those of plug-ins included."""
    names: set[str] = set()
    for conf_dir in (CONF_DIR, *plugins.conf_dirs()):
        folder = conf_dir / group
        names |= {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")}
    return names


def keys() -> tuple[str, ...]:
    """Return every key, such as `learner.gamma`, including those of all tasks, policies and learners."""
    # All components, not only the chosen ones: near names are suggested from these keys.
    found = set(_keys_of(TrainConfig))
    for group, _, schema in _components():
        found |= {f"{group}.{key}" for key in _keys_of(schema)}
    return tuple(sorted(found))


@functools.cache  # a schema's keys never change, and building one takes milliseconds
def _keys_of(schema: type) -> list[str]:
    values: Any = OmegaConf.to_container(OmegaConf.structured(schema))
    return [key for key, _ in flatten(values)]


def types() -> dict[str, type]:
    """Return the type of every key, as `keys` lists them."""
    found = dict(_types_of(TrainConfig))
    for group, _, schema in _components():
        found |= {f"{group}.{key}": kind for key, kind in _types_of(schema).items()}
    return found


@functools.cache  # as `_keys_of`
def _types_of(schema: type) -> dict[str, type]:
    return types_of(OmegaConf.structured(schema))


def types_of(config: DictConfig) -> dict[str, type]:
    """Return the type of every key of a structured config, nested ones with dots."""
    found: dict[str, type] = {}
    for key in map(str, config):
        if OmegaConf.is_missing(config, key):
            continue
        value = config[key]
        if isinstance(value, DictConfig):
            found |= {f"{key}.{inner}": kind for inner, kind in types_of(value).items()}
        else:
            found[key] = OmegaConf.get_type(config, key) or object
    return found


def example(task: str) -> list[str]:
    """Return overrides that choose `task` and make it complete."""
    overrides = [f"task={task}"]
    # An option that is only a file belongs to a class of another name, which needs nothing more.
    if task in TASKS:
        overrides += TASKS[task].example
    return overrides


def help_text() -> str:
    """Return the text of `--help`."""
    # Options that plug-ins register are listed too, as this text is made after they are loaded.
    rows = "\n".join(f"  {group:<11} {' | '.join(choices(group))}" for group in GROUPS)
    return f"""Train a robot policy in batched simulation and account for every joule.

usage: python -m factory.train [group=option ...] [key=value ...]

Groups (group=option):
{rows}

Common keys (key=value):
  robot             default | menagerie:<name> | file:<path.xml>
  env_id            Gymnasium id, with task=gymnasium; module:Id-v0 imports module first
  num_envs          environments simulated together
  total_steps       environment steps to train for
  stop_at_steps     environment steps to end at early, with the schedules of total_steps; 0: off
  seed, device      seed of every generator; cpu or cuda
  resume            <run folder> | last
  start_from        <run folder> | <MLflow run id> | last: a new run with weights and normalisers of that one
  output_root       folder of all runs and of the MLflow store
  checkpoint_every  iterations between checkpoints
  runtime.video_s   seconds of video after training; 0: none
  plugins           [<file.py>,...] that register tasks, policies, learners of your own

Examples:
  python -m factory.train
  python -m factory.train task=cartpole_swingup
  python -m factory.train task=gymnasium env_id=Pendulum-v1
  python -m factory.train task=quadruped_velocity robot=menagerie:unitree_go1
  python -m factory.train -m task=cartpole_swingup seed=0,1,2 learner.learning_rate=1e-3,3e-4
  python -m factory.train resume=last total_steps=8000000

Every key with its value:      python -m factory.train --cfg job
Flags of Hydra itself:         python -m factory.train --hydra-help
"""
