"""A whole iteration of training is made of what a CUDA graph can hold: tried on a device that is not the
host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from factory.envs.core import batch_env
from factory.learners.ppo import Ppo
from factory.learners.ppo_config import PpoConfig
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig
from factory.registry import TASKS
from factory.training.collector import Collector, groups, no_phase
from tests.helpers.rows import whole_worlds

TASK_IDS = tuple(task.id for task in TASKS.values() if not task.example)
META = torch.device("meta")
"""Its tensors have no values: what asks for one fails, as it would in a capture, and no short cut for CPUs is
taken.
"""


class Shapes:
    """Stands in for an engine: fields of the right shapes."""

    elapsed_s = 0.0

    def __init__(self, settings: Any, model: mujoco.MjModel, *, num_envs: int, device: torch.device) -> None:
        self.model = model
        self.num_envs = num_envs
        self.device = device
        self._of = {"data": mujoco.MjData(model), "model": model}
        self._tensors: dict[str, torch.Tensor] = {}

    def field(self, name: str, *, precise: bool = False) -> torch.Tensor:
        """Return a field of all worlds."""
        return self._get("data", name)

    def model_field(self, name: str) -> torch.Tensor:
        """Return a model field of all worlds."""
        return self._get("model", name)

    def _get(self, where: str, name: str) -> torch.Tensor:
        if name not in self._tensors:
            source = self._of[where] if hasattr(self._of[where], name) else self.model.opt
            self._tensors[name] = torch.zeros(
                self.num_envs, *torch.as_tensor(getattr(source, name)).shape, device=META
            )
        return self._tensors[name]

    def rays(self, origin: torch.Tensor, direction: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return a distance for each ray."""
        return torch.zeros(origin.shape[:2], device=META)

    def step(self, num_substeps: int) -> None:
        """Stay."""

    def forward(self) -> None:
        """Stay."""

    def reset(self, mask: torch.Tensor) -> None:
        """Stay."""


class HostGenerator(torch.Generator):
    """A generator of the host, whatever device is asked for."""

    def __new__(cls, device: Any = None) -> HostGenerator:
        return super().__new__(cls)


class OneDevice(TorchDispatchMode):
    """Refuses operators that take tensors of the host beside those of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_flatten((args, kwargs, out))[0] if isinstance(leaf, torch.Tensor)]
        assert all(tensor.device == META for tensor in tensors), f"{func} is given a tensor of the host"
        return out


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be built on `META`, which has neither generators nor Adam's fused kernel."""
    monkeypatch.setattr(batch_env, "open_physics", Shapes)
    monkeypatch.setattr(torch, "Generator", HostGenerator)
    monkeypatch.setattr(torch, "_fused_adam_", lambda *args, **kwargs: None)


@pytest.mark.parametrize(
    "unsafe",
    [
        lambda x: x + torch.ones(3),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: torch.ones(3).to(META),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: torch.tensor(1.0),
    ],
)
def test_guard_refuses_the_host(unsafe: Callable[[torch.Tensor], Any]) -> None:
    """Copies from the host, constants that stayed there and indices on it are found."""
    x = torch.ones(3, device=META)
    with OneDevice(), pytest.raises((AssertionError, RuntimeError)):
        unsafe(x)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", TASK_IDS)
@pytest.mark.parametrize("schedule", ["annealed", "linear"])
def test_rollout_and_update_stay_on_the_device(env_id: str, schedule: str) -> None:
    """Neither asks for a value nor touches the host, and tensors that a part keeps by name stay in place."""
    env: Any = gymnasium.make_vec(
        f"factory.envs:{env_id}", num_envs=whole_worlds(env_id, 4), device=META, seed=0
    )
    sizes = {name: group.shape[-1] for name, group in groups(env.reset()[0]).items()}
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[8], critic_hidden=[8]),
        obs_size=sizes["policy"],
        critic_obs_size=sizes["critic"],
        action_space=env.single_action_space,
        control_hz=1.0,
        generator=torch.Generator(),
    ).to(META)
    collector = Collector(env=env, policy=policy, num_steps=3, phase=no_phase)
    cfg = PpoConfig(num_minibatches=2, num_epochs=2, schedule=schedule)
    learner = Ppo(cfg, policy, generator=torch.Generator())
    learner.update(collector.collect()[0])  # as before a capture: what is made once is there then
    before = kept(env.unwrapped) | kept(collector) | kept(learner)
    with OneDevice():
        collector.steps(no_phase)
        learner._run_epochs(collector.rollout)
    after = kept(env.unwrapped) | kept(collector) | kept(learner)
    assert {name for name in after if after[name] is not before.get(name)} == set()


def kept(part: Any) -> dict[str, torch.Tensor]:
    """Return the tensors that a part keeps under names of its own."""
    return {f"{type(part).__name__}.{k}": v for k, v in vars(part).items() if isinstance(v, torch.Tensor)}
