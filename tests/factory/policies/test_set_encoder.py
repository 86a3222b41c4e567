"""Networks for sets: the order of elements does not matter, and kernels compute what torch does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.learners.gradient import AutogradGradient, NumbaGradient, Samples, make_gradient
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig

OWN = 5
COUNT = 3
SIZE = 4


def build(**values: object) -> MlpPolicy:
    """Return a policy for 5 numbers and a set of 3 elements with 4 numbers each."""
    torch.manual_seed(3)
    given = {"actor_hidden": [20], "critic_hidden": [7, 9], "set_hidden": [6, 33], **values}
    cfg = MlpPolicyConfig(set_count=COUNT, set_size=SIZE, **given)  # type: ignore[arg-type]
    size = OWN + COUNT * SIZE
    policy = cfg.build(
        obs_sizes={"policy": size, "critic": size},
        action_space=Box(-1.0, 1.0, (2,)),
        control_hz=10.0,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        policy.actor.last.weight.mul_(100.0)
    return policy


def observations(rows: int) -> Tensor:
    return torch.randn(rows, OWN + COUNT * SIZE, generator=torch.Generator().manual_seed(1))


def with_absent_elements(obs: Tensor) -> Tensor:
    """Return observations in which about half of all elements look alike, as absent ones do."""
    elements = obs[:, OWN:].unflatten(1, (COUNT, SIZE))
    is_absent = torch.rand(len(obs), COUNT, 1, generator=torch.Generator().manual_seed(2)) < 0.5
    return torch.cat([obs[:, :OWN], torch.where(is_absent, 0.25, elements).flatten(1)], 1)


def turned(obs: Tensor) -> Tensor:
    """Return observations with the elements of the set in another order."""
    elements = obs[:, OWN:].unflatten(1, (COUNT, SIZE))[:, [2, 0, 1]]
    return torch.cat([obs[:, :OWN], elements.flatten(1)], 1)


def test_order_of_elements_does_not_matter() -> None:
    """Actions and values stay the same when elements change places, with statistics of a batch as well."""
    policy = build()
    obs = observations(50)
    policy.update_observations({"policy": obs * 2.0 + 1.0, "critic": obs - 1.0})
    first, _ = policy.act_deterministic({"policy": obs}, torch.zeros(50, 0))
    second, _ = policy.act_deterministic({"policy": turned(obs)}, torch.zeros(50, 0))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first[0], first[1])
    torch.testing.assert_close(policy.value({"critic": obs}), policy.value({"critic": turned(obs)}))


def test_elements_share_their_statistics() -> None:
    """The mean and deviation of a feature are those over all elements."""
    policy = build()
    obs = observations(200) * 3.0 + 2.0
    # The first element is unlike the others.
    obs[:, OWN : OWN + SIZE] += 10.0
    policy.update_observations({"policy": obs, "critic": obs})
    values = obs[:, OWN:].unflatten(1, (COUNT, SIZE)).flatten(0, 1).double()
    normalizer = policy.obs_normalizer
    torch.testing.assert_close(normalizer.mean[OWN:], values.mean(0).repeat(COUNT), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        normalizer.std[OWN:], values.std(0, correction=0).repeat(COUNT), atol=1e-5, rtol=1e-5
    )


def test_statistics_of_a_shared_group_are_those_of_equal_ones() -> None:
    """One tensor for both groups gives the same as a copy does, also after the groups have differed."""
    obs = observations(100)
    policies = (build(), build())
    for policy, critic_obs in zip(policies, (obs, obs.clone()), strict=True):
        policy.update_observations({"policy": obs, "critic": critic_obs})
        policy.update_observations({"policy": obs, "critic": 2.0 * obs})
        policy.update_observations({"policy": obs, "critic": critic_obs})
    shared, apart = (policy.critic_normalizer.state_dict() for policy in policies)
    assert all(torch.equal(shared[name], apart[name]) for name in apart)
    assert not torch.equal(shared["mean"], policies[0].obs_normalizer.mean)


@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize("change", [Tensor.clone, with_absent_elements])
def test_outputs_of_kernels_are_those_of_torch(
    rows: int, change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled pass gives what the layers give one by one, also where elements are alike."""
    policy = build()
    obs = change(observations(rows))
    with torch.no_grad():
        found = policy.actor(obs)
        monkeypatch.setenv("FACTORY_KERNELS", "off")
        torch.testing.assert_close(found, policy.actor(obs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("change", [Tensor.clone, with_absent_elements])
def test_gradient_of_kernels_is_that_of_autograd(activation: str, change: Callable[[Tensor], Tensor]) -> None:
    """PPO's gradient through the maximum over a set, and the six sums, also where elements are alike."""
    policy = build(activation=activation)
    obs = change(observations(300))
    action = torch.randn(300, 2)
    parameters = list(policy.parameters())
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    with torch.no_grad():
        log_prob = policy.evaluate({"policy": obs}, action).log_prob
    advantage = torch.randn(300)
    samples = Samples(log_prob + 0.1, advantage, advantage + 0.2, torch.randn(300), torch.ones(300))
    settings = {"clip_coef": 0.2, "value_coef": 1.0, "entropy_coef": 0.01}
    compiled = make_gradient(policy, parameters, flat, **settings)
    assert isinstance(compiled, NumbaGradient)
    batch = {"policy": obs, "action": action}
    wanted = AutogradGradient(policy, parameters, flat, **settings)(batch, samples)
    torch.testing.assert_close(compiled(batch, samples), wanted, rtol=1e-3, atol=1e-3)


def test_a_set_larger_than_the_observation_is_refused() -> None:
    """The message names the key and the size."""
    cfg = MlpPolicyConfig(set_count=7, set_size=16, set_hidden=[8])
    with pytest.raises(ValueError, match=r"policy\.set_count=7: the set has more features than the 10"):
        cfg.build(
            obs_sizes={"policy": 10, "critic": 10},
            action_space=Box(-1.0, 1.0, (2,)),
            control_hz=10.0,
            generator=torch.Generator(),
        )
    with pytest.raises(ValueError, match=r"policy\.set_size=0: set_count and set_size belong together"):
        MlpPolicyConfig(set_count=7, set_hidden=[8])
    with pytest.raises(ValueError, match=r"policy\.set_hidden=\[\]: needs at least one positive size"):
        MlpPolicyConfig(set_count=7, set_size=16)
