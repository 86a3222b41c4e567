"""Registries: the components that a training job chooses by name.

A component is described by a keyword-only dataclass, its config class. Registering the class is enough: the
option on the command line, the schema of its keys and, for a task, the Gymnasium id and the row of
`factory.tasks` follow from it. Importing this module loads no task, policy or learner; `factory.plugins`
finds those of other packages and files.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium

from factory.energy.registry import register_energy_source as register_energy_source

if TYPE_CHECKING:
    from factory.envs.core.task import TaskConfig
    from factory.learners.config import LearnerConfig
    from factory.policies.config import PolicyConfig

    TaskClass = TypeVar("TaskClass", bound=type[TaskConfig])
    PolicyClass = TypeVar("PolicyClass", bound=type[PolicyConfig])
    LearnerClass = TypeVar("LearnerClass", bound=type[LearnerConfig])

# A function instead of a model: building one takes seconds, and most registered robots are never used.
RobotLoader = Callable[[], Any]

TASKS: dict[str, type[TaskConfig]] = {}
"""Config class of every task, by its name in `task=<name>`."""
POLICIES: dict[str, type[PolicyConfig]] = {}
"""Config class of every policy, by its name in `policy=<name>`."""
LEARNERS: dict[str, type[LearnerConfig]] = {}
"""Config class of every learner, by its name in `learner=<name>`."""
REGISTRIES: dict[str, dict[str, Any]] = {"task": TASKS, "policy": POLICIES, "learner": LEARNERS}
"""Config groups whose options are config classes -> these classes by name."""
ROBOTS: dict[str, RobotLoader] = {}
"""Function that loads the model of every registered robot, by its name in `robot=<name>`."""


def register_task(config: TaskClass) -> TaskClass:
    """Add a task: `task=<config.name>`, and `config.id` for `gymnasium.make_vec` and `gymnasium.make`.

    This and the functions below serve as decorators, too: they return their argument.

    Raises:
        ValueError: another task has the same name or id, or the class lacks its name, id or `env`.
    """
    for attribute in ("name", "id", "env"):
        if not getattr(config, attribute):
            raise ValueError(f"{config.__qualname__}: a task needs the class attribute `{attribute}`")
    if ":" not in config.env:
        raise ValueError(f"{config.__qualname__}.env={config.env}: give module:Class")
    # Gymnasium would replace an environment of the same id with no more than a warning.
    known = TASKS.get(config.name)
    taken = config.id in gymnasium.registry and (known is None or known.id != config.id)
    if taken:
        raise ValueError(f"{config.id}: Gymnasium already has an environment of this id; choose another")
    _add(TASKS, config.name, config, kind="task")
    # A class that is defined again takes the place of its predecessor, here as in `TASKS`.
    gymnasium.registry.pop(config.id, None)
    gymnasium.register(id=config.id, entry_point=_single_version(config), vector_entry_point=config.env)
    return config


def register_policy(config: PolicyClass) -> PolicyClass:
    """Add a policy: `policy=<config.name>`.

    Raises:
        ValueError: another policy has the same name, or the class has none.
    """
    _add(POLICIES, config.name, config, kind="policy")
    return config


def register_learner(config: LearnerClass) -> LearnerClass:
    """Add a learner: `learner=<config.name>`.

    Raises:
        ValueError: another learner has the same name, or the class has none.
    """
    _add(LEARNERS, config.name, config, kind="learner")
    return config


def register_robot(name: str, loader: RobotLoader) -> RobotLoader:
    """Add a robot: `robot=<name>`, for the tasks that take several robots.

    Args:
        name: the robot's name.
        loader: returns the path of an MJCF file or a `mujoco.MjSpec`, alone or in a pair with settings that
            MJCF lacks, such as `QuadrupedParameters`. Called for every model that is built.

    Raises:
        ValueError: another robot has the same name.
    """
    _add(ROBOTS, name, loader, kind="robot")
    return loader


def load(reference: str) -> Any:
    """Import the object that a `module:name` reference points to."""
    # References are text, so that listing tasks imports none of them.
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _add(registry: dict[str, Any], name: str, component: Any, *, kind: str) -> None:
    if not name:
        raise ValueError(f"{component.__qualname__}: a {kind} needs the class attribute `name`")
    known = registry.get(name, component)
    # A notebook cell or a plug-in file that runs again defines the same class anew, which is no clash.
    is_same = (known.__module__, known.__qualname__) == (component.__module__, component.__qualname__)
    if not is_same:
        raise ValueError(f"{kind}={name}: already registered by {known.__module__}; choose another name")
    registry[name] = component


def _single_version(config: type[TaskConfig]) -> Callable[..., gymnasium.Env]:
    """Return the entry point of the one-environment version, which imports the task when it is called."""

    # One closure serves all tasks, so that none has to offer a function of its own.
    def make(**kwargs: Any) -> gymnasium.Env:
        # Adapters of vector environments have no version for a single environment.
        single = getattr(load(config.env), "single", None)
        if single is None:
            raise ValueError(f"{config.id}: a vector environment only; use gymnasium.make_vec")
        return single(**kwargs)

    return make
