"""The typed schema of every config group, and what makes a composed configuration a checked object."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

import factory.envs  # noqa: F401  registers the tasks
from factory import conf, plugins
from factory.energy.config import EnergyConfig
from factory.envs.core.task import TaskConfig
from factory.envs.physics import PhysicsConfig
from factory.learners.config import LearnerConfig
from factory.learners.ppo_config import PpoConfig
from factory.policies.config import PolicyConfig
from factory.policies.mlp_config import MlpPolicyConfig
from factory.registry import LEARNERS, POLICIES, TASKS
from factory.runtime import ranks
from factory.runtime.config import RuntimeConfig
from factory.tracking.base import flatten
from factory.tracking.config import TrackingConfig
from factory.validation import require

CONF_DIR = Path(conf.__file__).parent
GROUPS = ("task", "physics", "policy", "learner", "energy", "tracking", "runtime", "experiment")
"""Config groups, in the order of `--help`."""
REGISTRIES: dict[str, Mapping[str, type]] = {"task": TASKS, "policy": POLICIES, "learner": LEARNERS}
"""Groups whose options are config classes -> the classes by name."""


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@dataclass(kw_only=True)
class TrainConfig:
    """A training job."""

    task: TaskConfig = MISSING
    """What is to be learned (group `task`)."""
    physics: PhysicsConfig = field(default_factory=PhysicsConfig)
    """Physics engine (group `physics`)."""
    policy: PolicyConfig = field(default_factory=MlpPolicyConfig)
    """Actor-critic (group `policy`)."""
    learner: LearnerConfig = field(default_factory=PpoConfig)
    """Learning algorithm (group `learner`)."""
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    """Energy gauges (group `energy`)."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Ledger (group `tracking`)."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Threads, evaluation, film (group `runtime`)."""
    robot: str = "default"
    """Robot of the task: default, menagerie:<name> or file:<path.xml>."""
    env_id: str = ""
    """Gymnasium id of the environment of `task=gymnasium`; other tasks have one of their own."""
    seed: int = 0
    """Seed of every random generator."""
    device: str = "cpu"
    """Device of policy and learner: cpu or cuda."""
    num_envs: int = 1024
    """Worlds simulated together."""
    total_steps: int = 4_000_000
    """Environment steps (control steps summed over worlds) to train for."""
    checkpoint_every: int = 50
    """Iterations between checkpoints."""
    output_root: str = "outputs"
    """Folder of all runs and of the MLflow store; relative to where the command is given."""
    plugins: list[str] = field(default_factory=list)
    """Python files that register tasks, robots, policies, learners or energy sources of your own."""
    resume: str = ""
    """Run folder to continue, or `last` for the newest under `output_root`; empty starts a new run."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range or contradicts another."""
        require(0 <= self.seed < 2**31, "seed", self.seed, "must be in [0, 2^31)")
        require(self.num_envs >= 1, "num_envs", self.num_envs, "must be at least 1")
        require(self.total_steps >= 1, "total_steps", self.total_steps, "must be at least 1")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "must be at least 1")
        require(bool(self.output_root), "output_root", self.output_root, "name a folder")
        require(self.device in ("cpu", "cuda"), "device", self.device, "choose cpu or cuda")
        # Loading torch takes seconds, and everything else here is checked without it.
        usable = self.device == "cpu" or _sees_gpu()
        require(usable, "device", self.device, "torch sees no CUDA device here; use device=cpu")
        require(
            self.policy.precision != "tf32" or self.device == "cuda",
            "policy.precision",
            self.policy.precision,
            "a GPU has it; use device=cuda, or float32 or bfloat16",
        )
        processes = ranks.size()
        require(
            self.num_envs % processes == 0, "num_envs", self.num_envs, f"must divide by {processes} processes"
        )
        self.learner.check(num_envs=self.num_envs // processes)
        self._check_names()

    def _check_names(self) -> None:
        """Raise ValueError when a name says something else than the part it belongs to."""
        for group, part in (("task", self.task), ("policy", self.policy), ("learner", self.learner)):
            schema = type(part)
            require(part.name == schema.name, f"{group}.name", part.name, f"choose it by {group}=<name>")
            remedy = f"not registered; call factory.registry.register_{group}({schema.__name__})"
            require(REGISTRIES[group].get(part.name) is schema, group, part.name, remedy)
        require(self.task.id == type(self.task).id, "task.id", self.task.id, "choose it by task=<name>")
        own_id = getattr(self.task, "env_id", None)
        takes_id = own_id is not None or not self.env_id
        require(takes_id, "env_id", self.env_id, "add task=gymnasium; no other takes one")
        require(own_id in (None, self.env_id), "task.env_id", own_id, "choose it by env_id=<id>")


def load_plugins(files: Sequence[str] = ()) -> None:
    """Load the plug-ins of installed packages and those in `files`, and make their options known to Hydra.

    Raises:
        ValueError: a file does not exist or fails; the message is one line.
    """
    plugins.load(files)
    register()


def register() -> None:
    """Make the schemas of all registered components, and the help text, known to Hydra."""
    base = OmegaConf.structured(TrainConfig)
    for group in REGISTRIES:
        base[group] = MISSING
    _store("base_train", _open_mappings(base))
    for group, classes in REGISTRIES.items():
        for name, schema in classes.items():
            node = _open_mappings(OmegaConf.structured(schema))
            # A task's file also has values for policies and learners other than the one that is chosen.
            # `schema/closed` comes last and shuts the node again, so that the command line cannot add keys.
            if group != "task":
                OmegaConf.set_struct(node, False)
            _store(f"schema/{group}/{name}", node)
    closed = OmegaConf.create({"policy": {}, "learner": {}})
    for node in closed.values():
        OmegaConf.set_struct(node, True)
    _store("schema/closed", closed, package="_global_")
    for group in GROUPS:
        for name in sorted(_registered(group) - _files(group)):
            _store(f"{group}/{name}", _settings_without_file(group, name), package="_global_")
    _store("hydra/help/factory", {"app_name": "factory.train", "template": help_text()})


def _store(path: str, node: Any, *, package: str | None = None) -> None:
    group, _, name = path.rpartition("/")
    ConfigStore.instance().store(group=group or None, name=name, node=node, package=package)


def _settings_without_file(group: str, name: str) -> dict[str, Any]:
    """Return the settings of an option that is registered and has no YAML file."""
    return {"task": {"robot": "${robot}"}} if group == "task" else {}


def _open_mappings(node: DictConfig) -> DictConfig:
    """Let the command line put any key into fields that are mappings, such as `task.kwargs`."""
    for key in node:
        value = node._get_node(key)
        if OmegaConf.get_type(node, str(key)) is dict:
            OmegaConf.set_struct(node[key], False)
        elif isinstance(value, DictConfig) and not (value._is_missing() or value._is_none()):
            _open_mappings(value)
    return node


def from_hydra(composed: DictConfig, *, given: Sequence[str] = ()) -> TrainConfig:
    """Turn a composed configuration into checked dataclasses.

    Args:
        composed: what Hydra returned.
        given: keys that the command line sets.

    Raises:
        ValueError: a value is out of range, values contradict each other, or a key does not exist.
    """
    composed = composed.copy()
    for group in ("policy", "learner"):
        _drop_keys_of_others(composed[group], group, given)
    return OmegaConf.to_object(composed)  # type: ignore[return-value]


def _drop_keys_of_others(node: DictConfig, group: str, given: Sequence[str]) -> None:
    """Remove the keys that a file sets for another policy or learner than the chosen one.

    Raises:
        ValueError: no policy or learner has such a key, or the command line gave it.
    """
    own = _field_names(OmegaConf.get_type(node))
    everyones = set().union(*map(_field_names, REGISTRIES[group].values()))
    for key in [str(key) for key in node if key not in own]:
        if key not in everyones or f"{group}.{key}" in given:
            near = difflib.get_close_matches(key, own)
            hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(sorted(own))}"
            raise ValueError(f"{group}.{key}={node[key]}: {group}={node.name} has no such key; {hint}")
        with open_dict(node):
            del node[key]


def _field_names(schema: type[Any] | None) -> set[str]:
    return {entry.name for entry in dataclasses.fields(schema)} if schema else set()


def from_plain(plain: Mapping[str, Any]) -> TrainConfig:
    """Turn what `to_plain` returned, e.g. from a checkpoint, back into checked dataclasses.

    The run's plug-ins are loaded first.

    Raises:
        ValueError: a plug-in cannot be loaded, or a component is not registered.
    """
    load_plugins(plain["plugins"])
    schema = OmegaConf.structured(TrainConfig)
    for group, classes in REGISTRIES.items():
        name = plain[group]["name"]
        remedy = "not registered here; install its package, or name its file in plugins=[...]"
        require(name in classes, group, name, remedy)
        schema[group] = classes[name]
    return OmegaConf.to_object(OmegaConf.merge(schema, plain))  # type: ignore[return-value]


def to_plain(cfg: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested plain containers, for YAML and for the ledger's parameters."""
    return OmegaConf.to_container(OmegaConf.structured(cfg), resolve=True)  # type: ignore[return-value]


def label(cfg: TrainConfig | DictConfig) -> str:
    """Return what names a job's run folders, experiment and model: the task, and the environment if it has a choice."""
    return "/".join(part for part in (cfg.task.name, cfg.env_id) if part)


def example(task: str) -> list[str]:
    """Return overrides that choose `task` and make it complete."""
    return [f"task={task}", *(TASKS[task].example if task in TASKS else ())]


def options(group: str) -> tuple[str, ...]:
    """Return the choices of a config group, e.g. `gym/ant` for a file in a subfolder."""
    return tuple(sorted(_files(group) | _registered(group)))


def _files(group: str) -> set[str]:
    """Return the options of a group that are YAML files, those of plug-ins included."""
    folders = [folder / group for folder in (CONF_DIR, *plugins.conf_dirs())]
    files = [(folder, path) for folder in folders for path in folder.rglob("*.yaml")]
    return {str(path.relative_to(folder).with_suffix("")) for folder, path in files}


def _registered(group: str) -> set[str]:
    return set(REGISTRIES.get(group, ()))


def keys() -> tuple[str, ...]:
    """Return every key there is, `learner.gamma` and so on, those of all tasks, policies and learners included."""
    base = OmegaConf.to_container(OmegaConf.structured(TrainConfig))
    found = {key for key, _ in flatten(base)}  # type: ignore[arg-type]
    for group, classes in REGISTRIES.items():
        for schema in classes.values():
            values = OmegaConf.to_container(OmegaConf.structured(schema))
            found |= {f"{group}.{key}" for key, _ in flatten(values)}  # type: ignore[arg-type]
    return tuple(sorted(found))


def help_text() -> str:
    """Return the text of `--help`."""
    rows = "\n".join(f"  {group:<11} {' | '.join(options(group))}" for group in GROUPS)
    return f"""Train a robot policy in batched simulation and account for every joule.

usage: python -m factory.train [group=option ...] [key=value ...]

Groups (group=option):
{rows}

Common keys (key=value):
  robot             default | menagerie:<name> | file:<path.xml>
  env_id            Gymnasium id, with task=gymnasium; module:Id-v0 imports module first
  num_envs          worlds simulated together
  total_steps       environment steps to train for
  seed, device      seed of every generator; cpu or cuda
  resume            <run folder> | last
  output_root       folder of all runs and of the MLflow store
  checkpoint_every  iterations between checkpoints

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
