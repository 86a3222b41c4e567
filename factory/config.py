"""The schema of a training job, and the way from plain values to checked dataclasses and back."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING, Container, DictConfig, ListConfig, OmegaConf, open_dict

import factory.envs  # noqa: F401  registers the tasks
from factory import plugins
from factory.energy.config import EnergyConfig
from factory.envs.core.task import TaskConfig
from factory.envs.physics import PhysicsConfig
from factory.learners.config import LearnerConfig
from factory.learners.ppo_config import PpoConfig
from factory.policies.config import PolicyConfig
from factory.policies.mlp_config import MlpPolicyConfig
from factory.power.config import ProfileConfig
from factory.registry import REGISTRIES
from factory.runtime import ranks
from factory.runtime.config import RuntimeConfig
from factory.tracking.config import TrackingConfig
from factory.validation import require


def _sees_gpu() -> bool:
    # Imported here: loading torch takes seconds, which a mistake on the command line should not cost.
    import torch

    return torch.cuda.is_available()


@dataclass(kw_only=True)
class TrainConfig:
    """A training job."""

    task: TaskConfig = MISSING
    """Task to learn (group `task`)."""
    physics: PhysicsConfig = field(default_factory=PhysicsConfig)
    """Physics engine (group `physics`)."""
    policy: PolicyConfig = field(default_factory=MlpPolicyConfig)
    """Policy (group `policy`)."""
    learner: LearnerConfig = field(default_factory=PpoConfig)
    """Learning algorithm (group `learner`)."""
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    """Energy sources (group `energy`)."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Experiment tracker (group `tracking`)."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Threads, evaluation, video (group `runtime`)."""
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    """Power profile (group `profile`)."""
    robot: str = "default"
    """Robot of the task: default, menagerie:<name> or file:<path.xml>."""
    env_id: str = ""
    """Gymnasium id of the environment of `task=gymnasium`; other tasks have one of their own."""
    seed: int = 0
    """Seed of every random generator."""
    device: str = "cpu"
    """Device of policy and learner: cpu or cuda."""
    num_envs: int = 1024
    """Environments simulated together."""
    total_steps: int = 4_000_000
    """Environment steps, i.e. control steps summed over environments, to train for."""
    stop_at_steps: int = 0
    """Environment steps after which to end early, with schedules that still follow `total_steps`; 0: off."""
    checkpoint_every: int = 50
    """Iterations between checkpoints."""
    output_root: str = "outputs"
    """Folder of all runs and of the MLflow store; relative to where the command is given."""
    plugins: list[str] = field(default_factory=list)
    """Python files that register tasks, robots, policies, learners or energy sources of your own."""
    resume: str = ""
    """Run folder to continue, or `last` for the newest under `output_root`; empty starts a new run."""
    start_from: str = ""
    """Folder or MLflow id of a run, or `last`: a new run starts with its weights and normalisers."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range or contradicts another."""
        require(0 <= self.seed < 2**31, "seed", self.seed, "must be in [0, 2^31)")
        require(self.num_envs >= 1, "num_envs", self.num_envs, "must be at least 1")
        require(self.total_steps >= 1, "total_steps", self.total_steps, "must be at least 1")
        remedy = f"must be in [0, total_steps={self.total_steps}]; 0 trains to the end"
        require(0 <= self.stop_at_steps <= self.total_steps, "stop_at_steps", self.stop_at_steps, remedy)
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "must be at least 1")
        require(bool(self.output_root), "output_root", self.output_root, "name a folder")
        require(self.device in ("cpu", "cuda"), "device", self.device, "choose cpu or cuda")
        # Loading torch takes seconds, and everything else here is checked without it.
        usable = self.device == "cpu" or _sees_gpu()
        require(usable, "device", self.device, "torch sees no CUDA device here; use device=cpu")
        required = self.runtime.require_cuda_graphs
        has_graphs = self.device == "cuda" and self.runtime.cuda_graphs
        remedy = "CUDA graphs need device=cuda and runtime.cuda_graphs=true"
        require(has_graphs or not required, "runtime.require_cuda_graphs", required, remedy)
        precision = self.policy.precision
        # TF32 is a format of NVIDIA's matrix units.
        has_precision = precision != "tf32" or self.device == "cuda"
        remedy = "a GPU has it; use device=cuda, or float32 or bfloat16"
        require(has_precision, "policy.precision", precision, remedy)
        watts = self.profile.watts
        is_metered = watts == 0.0 or self.energy.source != "null"
        require(is_metered, "profile.watts", watts, "energy=null meters no power; choose another source")

        # torchrun starts several processes, each of which simulates the same number of environments.
        processes = ranks.size()
        divides = self.num_envs % processes == 0
        require(divides, "num_envs", self.num_envs, f"must divide by {processes} processes")
        self.task.check_num_envs(self.num_envs // processes)
        self.learner.check(num_envs=self.num_envs // processes)
        self.physics = self.physics.one_of(self.task.engines)
        episodes = self.runtime.eval_episodes or self.task.eval_episodes
        self.runtime = replace(self.runtime, eval_episodes=episodes)
        self._check_names()

    @property
    def last_step(self) -> int:
        """Environment steps at which this training ends."""
        return self.stop_at_steps or self.total_steps

    def _check_names(self) -> None:
        """Raise ValueError when a name contradicts the component it belongs to."""
        # Names and ids are among the settings so that files and trackers show them. With a name set by hand,
        # a run could pass for another.
        for group, part in (("task", self.task), ("policy", self.policy), ("learner", self.learner)):
            schema = type(part)
            require(part.name == schema.name, f"{group}.name", part.name, f"choose it by {group}=<name>")
            remedy = f"not registered; call factory.registry.register_{group}({schema.__name__})"
            require(REGISTRIES[group].get(part.name) is schema, group, part.name, remedy)
        require(self.task.id == type(self.task).id, "task.id", self.task.id, "choose it by task=<name>")

        own_robot = getattr(self.task, "robot", self.robot)
        require(own_robot == self.robot, "task.robot", own_robot, "choose it by robot=<name>")

        # Only the adapter of Gymnasium's environments has an `env_id`, which is that of the job.
        own_id = getattr(self.task, "env_id", None)
        is_usable = own_id is not None or not self.env_id
        require(is_usable, "env_id", self.env_id, "add task=gymnasium; no other takes one")
        require(own_id in (None, self.env_id), "task.env_id", own_id, "choose it by env_id=<id>")


def from_hydra(composed: DictConfig, *, given: Sequence[str] = ()) -> TrainConfig:
    """Turn a composed configuration into checked dataclasses.

    Args:
        composed: what Hydra returned.
        given: keys that the command line sets.

    Raises:
        ValueError: a value is out of range, values contradict each other, or a key does not exist.
    """
    # A launcher may hand the job to a new process, which knows the classes but has not registered them.
    plugins.load(composed.plugins)
    # A copy, because keys are removed below; Hydra still shows the composed one.
    composed = composed.copy()
    check_values(composed)
    for group in ("policy", "learner"):
        _drop_keys_of_others(composed[group], group, given)
    return OmegaConf.to_object(composed)  # type: ignore[return-value]


def check_values(node: DictConfig, prefix: str = "") -> None:
    """Check what OmegaConf lets through.

    Raises:
        ValueError: a number is infinite or not a number, or a list of numbers or names holds something else.
    """
    for key, value in node.items_ex(resolve=False):
        name = prefix + str(key)
        is_empty = isinstance(value, Container) and (value._is_none() or value._is_missing())
        if isinstance(value, DictConfig) and not is_empty:
            check_values(value, prefix=name + ".")
        elif isinstance(value, ListConfig) and not is_empty:
            _check_items(value, name)
        elif isinstance(value, float):
            require(math.isfinite(value), name, value, "must be finite")


def _check_items(values: ListConfig, name: str) -> None:
    """Check the items of a list; a bound may be infinite."""
    items: Any = OmegaConf.to_container(values, resolve=False)
    element = values._metadata.element_type
    is_plain = element not in (int, float, str) or not any(isinstance(item, dict | list) for item in items)
    require(is_plain, name, items, f"must be a list of {element.__name__}")
    is_number = not any(isinstance(item, float) and math.isnan(item) for item in items)
    require(is_number, name, items, "must be numbers")


def _drop_keys_of_others(node: DictConfig, group: str, given: Sequence[str]) -> None:
    """Remove the keys that a file sets for another policy or learner than the chosen one.

    Raises:
        ValueError: no policy or learner has such a key, or the command line gave it.
    """
    # Keys of the chosen component stay, keys of another one go, and keys of none are mistakes.
    own = _field_names(OmegaConf.get_type(node))
    of_any = set().union(*map(_field_names, REGISTRIES[group].values()))
    for key in [str(key) for key in node]:
        if key in own:
            continue
        if key not in of_any or f"{group}.{key}" in given:
            near = " or ".join(difflib.get_close_matches(key, own))
            hint = f"choose one of {', '.join(sorted(own))}"
            if near:
                hint = f"did you mean {near}?"
            raise ValueError(f"{group}.{key}={node[key]}: {group}={node.name} has no such key; {hint}")
        # A typed node gives up no key of its own accord.
        with open_dict(node):
            del node[key]


def _field_names(schema: type[Any] | None) -> set[str]:
    if schema:
        fields = dataclasses.fields(schema)
    else:
        fields = ()
    return {entry.name for entry in fields}


def from_plain(plain: Mapping[str, Any]) -> TrainConfig:
    """Turn what `to_plain` returned, e.g. from a checkpoint, back into checked dataclasses.

    Values are taken as they are: nothing is interpolated, imported or instantiated but the dataclasses of
    registered components. A file of plug-ins is not loaded.

    Raises:
        ValueError: a component is not registered, or a value is wrong.
    """
    plugins.load()
    # The names say which classes the settings belong to; with them in place, values get their types back.
    schema = OmegaConf.structured(TrainConfig)
    for group, classes in REGISTRIES.items():
        part = plain.get(group)
        require(isinstance(part, Mapping), group, part, "no settings of a component")
        name = str(part["name"]) if part and "name" in part else ""
        remedy = "not registered here; install its package, or name its file in plugins=[...]"
        require(name in classes, group, name, remedy)
        schema[group] = classes[name]
    merged: Any = OmegaConf.merge(schema, _literal(plain))
    check_values(merged)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def _literal(value: Any, key: str = "") -> Any:
    """Return plain values whose texts OmegaConf leaves as they are, `${...}` in them too.

    Raises:
        ValueError: an integer, of which JSON knows no largest, has more than 64 bits.
    """
    if isinstance(value, Mapping):
        return {name: _literal(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(item, key) for item in value]
    if isinstance(value, int):
        require(abs(value) < 2**63, key, f"{value:#x}"[:20], "must have at most 64 bits")
    if isinstance(value, str):
        # A backslash escapes an interpolation, and another backslash escapes that one.
        return re.sub(r"(\\*)\$\{", lambda match: match.group(1) * 2 + "\\${", value)
    return value


def to_plain(cfg: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested plain containers, for YAML and for the parameters in MLflow."""
    return OmegaConf.to_container(OmegaConf.structured(cfg), resolve=True)  # type: ignore[return-value]


def label(cfg: TrainConfig | DictConfig) -> str:
    """Return the name of a job's run folders, experiment and model.

    It is the task's, followed by the environment's for `task=gymnasium`.
    """
    return "/".join(part for part in (cfg.task.name, cfg.env_id) if part)
