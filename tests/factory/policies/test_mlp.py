"""The perceptron actor-critic: what it samples, what it says of it, and what it predicts."""

from __future__ import annotations

import pytest
import torch
from gymnasium.spaces import Box
from torch.distributions import Independent, Normal

from factory.energy.tokens import TokenSpec
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig


def build(*, seed: int = 0, **values: object) -> MlpPolicy:
    """Return a policy whose actor is far from zero."""
    torch.manual_seed(7)
    cfg = MlpPolicyConfig(**{"actor_hidden": [16], "critic_hidden": [16], **values})  # type: ignore[arg-type]
    policy = MlpPolicy(
        cfg,
        obs_size=4,
        critic_obs_size=6,
        action_space=Box(-1.0, 1.0, (3,)),
        control_hz=50.0,
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100.0)
    policy.update_observations(observations(64, seed=3))
    return policy


def observations(rows: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda size: 2.0 * torch.randn(rows, size, generator=generator) + 1.0  # noqa: E731
    return {"policy": draw(4), "critic": draw(6)}


def test_sampled_log_prob_is_that_of_the_sampled_action() -> None:
    """`act` reports the density of its own action about the deterministic one."""
    policy, obs = build(), observations(5)
    state = policy.initial_state(5)
    mean, _ = policy.act_deterministic(obs, state)
    action, extras, _ = policy.act(obs, state)
    log_prob = extras["log_prob"]
    reference = Independent(Normal(mean, policy.distribution.log_std.exp()), 1)
    torch.testing.assert_close(log_prob, reference.log_prob(action))
    assert action.shape == (5, 3)
    assert log_prob.shape == policy.value(obs).shape == (5,)


def test_learner_and_collector_agree() -> None:
    """`evaluate` on normalised observations gives what `act` gave."""
    policy, obs = build(), observations(5)
    action, extras, _ = policy.act(obs, policy.initial_state(5))
    log_prob = extras["log_prob"]
    found = policy.evaluate(policy.normalize(obs), action)
    torch.testing.assert_close(found.log_prob, log_prob)
    normal = Normal(torch.zeros(3), policy.distribution.log_std.exp())
    torch.testing.assert_close(found.entropy, normal.entropy().sum().expand(5))
    stats = policy.return_normalizer
    torch.testing.assert_close(found.value * stats.std.float() + stats.mean.float(), policy.value(obs))


def test_deterministic_action_draws_nothing() -> None:
    """The mean action is the same every time and leaves the generator alone."""
    policy, obs = build(), observations(5)
    before = policy.generator.get_state()
    first, second = (policy.act_deterministic(obs, policy.initial_state(5))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(policy.generator.get_state(), before)


def test_exploration_follows_the_seed_and_the_deviation() -> None:
    """Equal seeds give equal noise, other seeds other noise, of the configured size."""
    obs = observations(2000)
    actions = [build(seed=seed, init_std=0.25).act(obs, torch.zeros(2000, 0))[0] for seed in (0, 0, 1)]
    assert torch.equal(actions[0], actions[1])
    assert not torch.equal(actions[0], actions[2])
    noise = actions[0] - build().act_deterministic(obs, torch.zeros(2000, 0))[0]
    torch.testing.assert_close(noise.std(0), torch.full((3,), 0.25), rtol=0.1, atol=0)


def test_predicted_returns_stay_when_their_statistics_move() -> None:
    """PopArt: new return statistics rescale the last layer, so that no prediction jumps."""
    policy, obs = build(), observations(50)
    policy.update_returns(torch.randn(8, 16) * 3.0 + 20.0)
    before = policy.value(obs)
    mean, std = policy.return_normalizer.mean.clone(), policy.return_normalizer.std.clone()
    policy.update_returns(torch.randn(80, 16) * 40.0 - 100.0)
    assert not torch.equal(policy.return_normalizer.mean, mean)
    assert not torch.equal(policy.return_normalizer.std, std)
    torch.testing.assert_close(policy.value(obs), before, rtol=1e-4, atol=1e-3)


def test_observations_may_be_used_as_they_come() -> None:
    """Without normalisation the policy passes observations through and keeps no statistics."""
    policy, obs = build(normalize_observations=False), observations(5)
    assert policy.normalize(obs)["policy"] is obs["policy"]
    assert not [
        name for name in policy.state_dict() if "obs_normalizer" in name or "critic_normalizer" in name
    ]


def test_actor_never_sees_the_critic_group() -> None:
    """Privileged observations change values and nothing the robot does."""
    policy, obs = build(), observations(5)
    other = {"policy": obs["policy"], "critic": obs["critic"] + 1.0}
    state = policy.initial_state(5)
    assert torch.equal(policy.act_deterministic(obs, state)[0], policy.act_deterministic(other, state)[0])
    assert not torch.equal(policy.value(obs), policy.value(other))


def test_token_spec_says_what_a_token_is() -> None:
    """One action vector of this size at this rate, one network pass each."""
    assert build().token_spec == TokenSpec(kind="vector", control_hz=50.0, obs_dim=4, act_dim=3)


def test_state_dict_restores_every_prediction() -> None:
    """Weights and statistics travel together; a policy built otherwise predicts the same after loading."""
    policy, obs = build(), observations(5)
    policy.update_returns(torch.randn(8, 16) * 3.0 + 20.0)
    other = build(init_std=0.9)
    with torch.no_grad():
        other.critic[0].weight.add_(1.0)
    other.load_state_dict(policy.state_dict())
    assert torch.equal(other.value(obs), policy.value(obs))
    assert torch.equal(other.act(obs, torch.zeros(5, 0))[0], policy.act(obs, torch.zeros(5, 0))[0])


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"activation": "swish"}, "policy.activation=swish"),
        ({"init_std": 0.0}, "policy.init_std=0.0"),
        ({"actor_hidden": []}, "policy.actor_hidden=[]"),
        ({"critic_hidden": [8, 0]}, "policy.critic_hidden="),
    ],
)
def test_configuration_names_what_is_wrong(values: dict[str, object], key: str) -> None:
    """A value out of range is refused with its key."""
    with pytest.raises(ValueError, match="policy") as caught:
        MlpPolicyConfig(**values)  # type: ignore[arg-type]
    assert key in str(caught.value)
