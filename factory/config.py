"""The typed schema of every config group, and what makes a composed configuration a checked object."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from factory import conf
from factory.energy.config import EnergyConfig
from factory.envs.core.task import TaskConfig
from factory.envs.physics import PhysicsConfig
from factory.envs.rendering import BACKENDS
from factory.learners.ppo_config import PpoConfig
from factory.policies.mlp_config import MlpPolicyConfig
from factory.registry import TASKS
from factory.runtime import ranks
from factory.tracking.base import flatten
from factory.tracking.config import TrackingConfig
from factory.validation import require

CONF_DIR = Path(conf.__file__).parent
GROUPS = ("task", "physics", "policy", "learner", "energy", "tracking", "runtime", "experiment")
"""Config groups, in the order of `--help`."""


@dataclass(kw_only=True)
class RuntimeConfig:
    """What happens around training."""

    torch_threads: int = 0
    """Threads of torch's operations; 0 takes every CPU this process may use."""
    cuda_graphs: bool = True
    """On a GPU, launch a rollout and an update as one CUDA graph each; false: operation by operation."""
    eval_episodes: int = 256
    """Episodes of the final deterministic evaluation."""
    video_s: float = 12.0
    """Length of the film of the trained policy [s]; 0 makes none."""
    video_fps: int = 25
    """Frames a second of the film [Hz]."""
    renderer: str = "auto"
    """auto (OpenGL where it works, else ray casting), opengl or raycast."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep."""
    register_model: bool = True
    """Log the exported policy as an MLflow model and register it under the task's name."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(
            self.torch_threads >= 0,
            "runtime.torch_threads",
            self.torch_threads,
            "must be 0 (automatic) or more",
        )
        require(self.eval_episodes >= 1, "runtime.eval_episodes", self.eval_episodes, "must be at least 1")
        require(self.video_s >= 0, "runtime.video_s", self.video_s, "must not be negative")
        require(1 <= self.video_fps <= 100, "runtime.video_fps", self.video_fps, "must be in [1, 100]")
        require(
            self.keep_checkpoints >= 1,
            "runtime.keep_checkpoints",
            self.keep_checkpoints,
            "must be at least 1",
        )
        require(
            self.renderer in BACKENDS,
            "runtime.renderer",
            self.renderer,
            f"choose one of {', '.join(BACKENDS)}",
        )


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
    policy: MlpPolicyConfig = field(default_factory=MlpPolicyConfig)
    """Actor-critic (group `policy`)."""
    learner: PpoConfig = field(default_factory=PpoConfig)
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
            require(part.name == type(part).name, f"{group}.name", part.name, f"choose it by {group}=<name>")
        require(self.task.id == type(self.task).id, "task.id", self.task.id, "choose it by task=<name>")
        own_id = getattr(self.task, "env_id", None)
        require(
            own_id is not None or not self.env_id,
            "env_id",
            self.env_id,
            "add task=gymnasium; no other takes one",
        )
        require(own_id in (None, self.env_id), "task.env_id", own_id, "choose it by env_id=<id>")


def register() -> None:
    """Make the schemas known to Hydra under `schema/`, and the help text under `hydra/help`."""
    store = ConfigStore.instance()
    store.store(name="base_train", node=TrainConfig)
    for task in TASKS.values():
        folder, _, name = f"schema/task/{task.name}".rpartition("/")
        store.store(group=folder, name=name, node=_open_mappings(OmegaConf.structured(task)))
    for group, schema in (
        ("physics", PhysicsConfig),
        ("policy", MlpPolicyConfig),
        ("learner", PpoConfig),
        ("energy", EnergyConfig),
        ("tracking", TrackingConfig),
        ("runtime", RuntimeConfig),
    ):
        store.store(group=f"schema/{group}", name=group, node=schema)
    store.store(
        group="hydra/help", name="factory", node={"app_name": "factory.train", "template": help_text()}
    )


def _open_mappings(node: DictConfig) -> DictConfig:
    """Let the command line put any key into fields that are mappings, such as `task.kwargs`."""
    for key in node:
        if OmegaConf.get_type(node, str(key)) is dict:
            OmegaConf.set_struct(node[key], False)
    return node


def from_hydra(composed: DictConfig) -> TrainConfig:
    """Turn a composed configuration into checked dataclasses.

    Raises:
        ValueError: a value is out of range, or values contradict each other.
    """
    return OmegaConf.to_object(composed)  # type: ignore[return-value]


def from_plain(plain: dict[str, Any]) -> TrainConfig:
    """Turn what `to_plain` returned, e.g. from a checkpoint, back into checked dataclasses."""
    task = TASKS[plain["task"]["name"]]
    return from_hydra(OmegaConf.merge(_schema(task), plain))  # type: ignore[arg-type]


def to_plain(cfg: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested plain containers, for YAML and for the ledger's parameters."""
    return OmegaConf.to_container(OmegaConf.structured(cfg), resolve=True)  # type: ignore[return-value]


def label(cfg: TrainConfig | DictConfig) -> str:
    """Return what names a job's run folders, experiment and model: the task, and the environment if it has a choice."""
    return "/".join(part for part in (cfg.task.name, cfg.env_id) if part)


def example(task: str) -> list[str]:
    """Return overrides that choose `task` and make it complete."""
    return [f"task={task}", *(TASKS[task].example if task in TASKS else ())]


def _schema(task: type[TaskConfig]) -> DictConfig:
    schema = OmegaConf.structured(TrainConfig)
    schema.task = task
    return schema


@functools.cache
def options(group: str) -> tuple[str, ...]:
    """Return the choices of a config group, e.g. `gym/ant` for a file in a subfolder."""
    folder = CONF_DIR / group
    return tuple(sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")))


@functools.cache
def keys() -> tuple[str, ...]:
    """Return every key there is, `learner.gamma` and so on, those of all tasks included."""
    plain: list[Any] = [OmegaConf.to_container(_schema(task)) for task in TASKS.values()]
    return tuple(sorted({key for values in plain for key, _ in flatten(values)}))


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
