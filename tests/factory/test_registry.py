"""A registered config class is all that a task needs, and a registration that clashes is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import pytest

import factory.envs  # noqa: F401  registers the tasks
from factory import registry
from factory.envs.core.task import TaskConfig
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig


@dataclass(kw_only=True)
class ParkConfig(CartpoleSwingupConfig):
    """The cart-pole under another name."""

    name: str = "park"
    id: str = "factory/Park-v0"


@pytest.fixture(autouse=True)
def clean_registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the registries as they were."""
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    yield
    gymnasium.registry.pop(ParkConfig.id, None)


def test_registering_a_task_gives_both_versions() -> None:
    """`gymnasium.make_vec` and `gymnasium.make` build the environment that the config class names."""
    assert registry.register_task(ParkConfig) is ParkConfig
    assert registry.TASKS["park"] is ParkConfig
    batched: Any = gymnasium.make_vec(ParkConfig.id, num_envs=3)
    assert batched.reset()[0].shape == (3, 5)
    single = gymnasium.make(ParkConfig.id)
    assert single.reset()[0].shape == (5,)


def test_importing_the_environments_is_light_and_registers_every_id() -> None:
    """A fresh process knows every id after `import factory.envs`, without torch, MuJoCo, Numba or MLflow."""
    code = (
        "import sys, gymnasium, factory.envs; from factory.registry import TASKS; "
        "assert len(TASKS) >= 14 and all(task.id in gymnasium.registry for task in TASKS.values()); "
        "print(sorted({'torch', 'mujoco', 'numba', 'mlflow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


def test_a_task_without_batched_base_says_so() -> None:
    """`gymnasium.make` of the adapter of Gymnasium's own environments names the call that works."""
    with pytest.raises(ValueError, match=r"factory/Gymnasium-v0: a vector environment only.*make_vec"):
        gymnasium.make("factory/Gymnasium-v0")


@dataclass(kw_only=True)
class NamelessConfig(TaskConfig):
    """A task that forgets its environment."""

    name: str = "nameless"
    id: str = "factory/Nameless-v0"
    env: ClassVar[str] = ""


@dataclass(kw_only=True)
class SameIdConfig(CartpoleSwingupConfig):
    """A task under a new name with the id of another."""

    name: str = "same_id"


@dataclass(kw_only=True)
class SameNameConfig(CartpoleSwingupConfig):
    """Another task under the same name."""

    id: str = "factory/SameName-v0"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NamelessConfig, "NamelessConfig: a task needs the class attribute `env`"),
        (SameNameConfig, "task=cartpole_swingup: already registered by factory.envs.tasks"),
        (SameIdConfig, "factory/CartpoleSwingup-v0: Gymnasium already has an environment of this id"),
    ],
)
def test_registration_that_clashes_is_refused(config: type[TaskConfig], message: str) -> None:
    """The message names what is missing or taken, and nothing is registered."""
    before = dict(registry.TASKS)
    with pytest.raises(ValueError, match=message):
        registry.register_task(config)
    assert before == registry.TASKS
