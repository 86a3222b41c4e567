"""A policy as a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from factory.policies.export import describe_exported, export_policy, load_exported


class Policy(torch.nn.Module):
    """Normaliser and network, as the pipeline exports them."""

    def __init__(self) -> None:
        """Take 5 observations, give 2 actions."""
        super().__init__()
        self.mean: torch.Tensor
        torch.manual_seed(0)
        self.register_buffer("mean", torch.randn(5))
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (batch, 2)."""
        return self.net((obs - self.mean).clamp(-5.0, 5.0))


class Noisy(Policy):
    """A policy that explores."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions that differ from call to call."""
        actions = super().forward(obs)
        return actions + torch.randn_like(actions)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export with a single example row."""
    folder = tmp_path_factory.mktemp("run") / "export"
    return export_policy(
        Policy().train(), torch.zeros(1, 5), folder, metadata={"task": "x", "versions": {"mujoco": "3"}}
    )


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_reloaded_policy_acts_the_same(exported: Path, batch: int) -> None:
    """Any batch size gives the actions of the trained module, from the folder and from the file."""
    observations = torch.randn(batch, 5)
    expected = Policy()(observations)
    for path in (exported, exported / "policy.pt2"):
        assert torch.allclose(load_exported(path)(observations), expected, atol=1e-6)


def test_description_says_what_goes_in_and_out(exported: Path) -> None:
    """The metadata is kept and completed with shapes, versions and the parity reached."""
    description = describe_exported(exported)
    assert description == json.loads((exported / "policy.json").read_text())
    assert description["task"] == "x"
    assert description["input"] == {"shape": [-1, 5], "dtype": "float32"}
    assert description["output"] == {"shape": [-1, 2], "dtype": "float32"}
    assert description["versions"] == {"torch": torch.__version__, "mujoco": "3"}
    assert description["parity_max_abs_difference"] <= 1e-5


def test_policy_with_noise_is_refused(tmp_path: Path) -> None:
    """An export that does not act as the module does raises."""
    with pytest.raises(ValueError, match="differs from the trained one"):
        export_policy(Noisy(), torch.zeros(2, 5), tmp_path, metadata={})


def test_export_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    """Training goes on after an export in mid-run."""
    policy = Policy().train()
    export_policy(policy, torch.zeros(2, 5), tmp_path, metadata={})
    assert policy.training
    assert all(parameter.requires_grad for parameter in policy.parameters())
