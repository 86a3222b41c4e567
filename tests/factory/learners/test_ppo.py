"""PPO: it learns, its step size is steered, accidents are contained, and it resumes exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete, Space

from factory.learners.gradient import Samples
from factory.learners.ppo import Ppo
from factory.learners.ppo_config import PpoConfig
from factory.learners.rollout import Rollout, advantages
from factory.policies.mlp import MlpPolicy
from factory.policies.mlp_config import MlpPolicyConfig

OBS, ACTIONS = 3, 2


def build(*, seed: int = 0, space: Space[Any] = Box(-1.0, 1.0, (ACTIONS,)), **values: object) -> Ppo:  # noqa: B008
    """Return a learner with a small policy."""
    torch.manual_seed(seed)
    policy = MlpPolicy(
        MlpPolicyConfig(actor_hidden=[16], critic_hidden=[16]),
        obs_size=OBS,
        critic_obs_size=OBS,
        action_space=space,
        control_hz=50.0,
        generator=torch.Generator().manual_seed(seed),
    )
    cfg = PpoConfig(**{"num_epochs": 2, "num_minibatches": 2, "schedule": "fixed", **values})  # type: ignore[arg-type]
    return Ppo(cfg, policy, generator=torch.Generator().manual_seed(seed + 1))


def bandit(policy: MlpPolicy, *, num_steps: int = 4, num_envs: int = 32, seed: int = 0) -> Rollout:
    """Return one-step episodes that pay for actions near (0.5, -0.5)."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num_steps * num_envs, OBS, generator=generator)
    seen = {"policy": obs, "critic": obs}
    action, extras, _ = policy.act(seen, policy.initial_state(len(obs)))
    reward = -(action - torch.tensor([0.5, -0.5])).square().sum(-1)
    shape = (num_steps, num_envs)
    ended = torch.ones(shape, dtype=torch.bool)
    return Rollout(
        obs={name: group.view(*shape, OBS) for name, group in seen.items()},
        final_obs={name: torch.zeros(*shape, OBS) for name in seen},
        initial_state=policy.initial_state(num_envs),
        actions=action.view(*shape, ACTIONS),
        extras={"log_prob": extras["log_prob"].view(shape)},
        rewards=reward.view(shape),
        terminated=ended,
        truncated=~ended,
        live=ended.clone(),
    )


def parameters(learner: Ppo) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.parameters]


def test_policy_learns_a_bandit_in_a_few_updates() -> None:
    """The deterministic action approaches the best one, and the critic comes to explain the rewards'
    level.
    """
    learner = build(learning_rate=1e-2, num_epochs=4)
    probe = {"policy": torch.randn(64, OBS), "critic": torch.randn(64, OBS)}
    best = torch.tensor([0.5, -0.5])

    def distance() -> float:
        return float(
            (learner.policy.act_deterministic(probe, torch.zeros(64, 0))[0] - best).norm(dim=-1).mean()
        )

    before = distance()
    for update in range(25):
        learner.update(bandit(learner.policy, seed=update))
    assert before > 0.6
    assert distance() < 0.25


@pytest.mark.parametrize(("desired_kl", "grows"), [(10.0, True), (1e-7, False)])
def test_adaptive_step_size_moves_towards_the_desired_divergence(desired_kl: float, grows: bool) -> None:
    """Updates smaller than desired raise the step size, larger ones lower it; it stays within its ends."""
    ends = {"min_learning_rate": 1e-4, "max_learning_rate": 1e-2}
    learner = build(schedule="adaptive", desired_kl=desired_kl, learning_rate=1e-3, num_epochs=8, **ends)
    stats = learner.update(bandit(learner.policy))
    assert (float(stats["learning_rate"]) > 1e-3) is grows
    for update in range(5):
        learner.update(bandit(learner.policy, seed=update))
    assert float(learner.learning_rate) == pytest.approx(1e-2 if grows else 1e-4, rel=0.6)
    assert float(learner.learning_rate) * (1 + 1e-6) >= 1e-4
    assert float(learner.learning_rate) <= 1e-2 * (1 + 1e-6)


def test_linear_step_size_falls_with_progress() -> None:
    """The step size is the configured one times what is left of the run."""
    learner = build(schedule="linear", learning_rate=8e-3)
    found = [
        float(learner.update(bandit(learner.policy), progress=p)["learning_rate"]) for p in (0.0, 0.25, 1.0)
    ]
    assert found == pytest.approx([8e-3, 6e-3, 0.0])


def test_fixed_step_size_stays() -> None:
    """`schedule=fixed` never touches the step size."""
    learner = build(learning_rate=2e-3)
    assert float(learner.update(bandit(learner.policy), progress=0.9)["learning_rate"]) == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("where", "poison"),
    [("rewards", value) for value in (math.nan, math.inf, -math.inf, 1e35)]
    + [(where, math.nan) for where in ("log_prob", "actions", "obs")],
)
def test_a_bad_sample_is_left_out_as_if_it_were_not_live(where: str, poison: float) -> None:
    """Everything that is learned is equal, bit for bit, to learning from the others; it is counted."""
    learned = []
    for is_poisoned in (True, False):
        learner = build(num_epochs=3, num_minibatches=4)
        rollout = bandit(learner.policy)
        for tensor in (*{id(v): v for v in rollout.obs.values()}.values(), rollout.actions):
            tensor[1, 2] = 0.0
        for tensor in (rollout.rewards, rollout.extras["log_prob"]):
            tensor[1, 2] = 0.0
        if is_poisoned:
            target = {"rewards": rollout.rewards, "actions": rollout.actions, "obs": rollout.obs["policy"]}
            target.get(where, rollout.extras["log_prob"])[1, 2] = poison
        else:
            rollout.live[1, 2] = False
        stats = learner.update(rollout)
        assert float(stats["discarded"]) == float(is_poisoned)
        assert float(stats["skipped"]) == 0
        learned.append([*learner.policy.state_dict().values(), *learner.adam.state().values()])
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


def test_the_step_before_a_bad_sample_is_bootstrapped() -> None:
    """Its advantage is that of a rollout that ends there, whatever came after."""
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (torch.randn(6, 1, generator=generator) for _ in range(3))
    never = torch.zeros(6, 1, dtype=torch.bool)
    live = ~never
    live[3] = False
    given = {"gamma": 0.9, "gae_lambda": 0.8}
    found = advantages(rewards, values, next_values, never, never, live, **given)
    short = [tensor[:3] for tensor in (rewards, values, next_values, never, never, live)]
    assert torch.equal(found[:3], advantages(*short, **given))


def test_gradient_that_is_not_finite_is_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its gradient step and nothing else."""
    learner = build(num_epochs=3, num_minibatches=4)
    compute = learner._gradient
    calls = []

    def broken(batch: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
        calls.append(1)
        return compute(batch, samples) * (float("nan") if len(calls) == 5 else 1.0)

    monkeypatch.setattr(learner, "_gradient", broken)
    before = parameters(learner)
    stats = learner.update(bandit(learner.policy))
    assert (float(stats["skipped"]), float(stats["gradient_steps"])) == (1, 12)
    assert all(parameter.isfinite().all() for parameter in learner.parameters)
    assert not all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


@pytest.mark.parametrize("schedule", ["adaptive", "annealed", "linear", "fixed"])
def test_a_cut_step_size_stays_cut_and_comes_back_with_updates_that_last(schedule: str) -> None:
    """Two cuts make a quarter of it, for every schedule, and updates that last bring it back to the whole."""
    learner = build(schedule=schedule, learning_rate=4e-3, max_learning_rate=4e-3, desired_kl=1e3)
    learner.cut_step_size()
    learner.cut_step_size()
    assert float(learner.update(bandit(learner.policy))["learning_rate"]) == pytest.approx(1e-3)
    assert float(learner.adam.steps) == 4
    for _ in range(40):
        stats = learner.update(bandit(learner.policy))
    assert float(stats["learning_rate"]) == pytest.approx(4e-3)


def test_resumed_learner_goes_on_bit_for_bit() -> None:
    """Policy and learner state loaded into new objects make the next update equal in every bit.

    Also while the step size is cut.
    """
    learner = build(schedule="adaptive", desired_kl=0.02)
    learner.cut_step_size()
    learner.update(bandit(learner.policy))
    resumed = build(schedule="adaptive", desired_kl=0.02, seed=99)
    resumed.policy.load_state_dict(learner.policy.state_dict())
    resumed.load_state_dict(learner.state_dict())
    rollout = bandit(learner.policy, seed=5)
    first, second = learner.update(rollout), resumed.update(rollout)
    for ours, theirs in zip(learner.parameters, resumed.parameters, strict=True):
        assert torch.equal(ours, theirs)
    assert learner.state_dict().keys() == resumed.state_dict().keys()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert torch.equal(first["policy"], second["policy"])


def test_state_is_a_copy() -> None:
    """A state taken before an update does not change with it."""
    learner = build()
    learner.update(bandit(learner.policy))
    state = learner.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    learner.update(bandit(learner.policy, seed=1))
    assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert not all(torch.equal(value, learner.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("space", [Box(-1.0, 1.0, (ACTIONS,)), Discrete(3)], ids=["gaussian", "categorical"])
@pytest.mark.parametrize("entropy_coef", [0.0, 0.1])
def test_gradient_is_that_of_the_clipped_loss(
    space: Space[Any], entropy_coef: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step hands to Adam is what autograd finds for the loss as Schulman et al. write it, clipped and
    not.
    """
    learner = build(entropy_coef=entropy_coef, value_coef=0.7, max_grad_norm=1e9, space=space)
    policy, size = learner.policy, 64
    obs = {"policy": torch.randn(size, OBS), "critic": torch.randn(size, OBS)}
    action = policy.act(obs, torch.zeros(size, 0))[0].view(size, -1).float()
    old, advantage, returns = torch.randn(3, size) * 0.3 + torch.tensor([[-1.5], [0.0], [0.0]])
    live = (torch.rand(size) > 0.2).float()
    out = policy.evaluate(obs, action)
    ratio = (out.log_prob - old).exp()
    assert 0.1 < float(((ratio - 1).abs() > learner.cfg.clip_coef).float().mean()) < 0.95
    surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    each = -surrogate + 0.5 * 0.7 * (out.value - returns).square() - entropy_coef * out.entropy
    grads = torch.autograd.grad((each * live).sum() / live.sum(), learner.parameters)
    handed: list[torch.Tensor] = []
    monkeypatch.setattr(learner.adam, "step", lambda grad, learning_rate: handed.append(grad))
    bound = advantage + learner.cfg.clip_coef * advantage.abs()
    samples = Samples(old, advantage, bound, returns, live)
    figures = learner._gradient_step(obs | {"action": action}, samples, desired_kl=torch.tensor(0.01))
    torch.testing.assert_close(handed[0], torch.cat([grad.flatten() for grad in grads]), rtol=1e-4, atol=1e-6)
    mean = lambda value: float((value.detach() * live).sum() / live.sum())  # noqa: E731
    expected = [-surrogate, (out.value - returns).square(), out.entropy, ratio - 1 - ratio.log()]
    assert figures[:4].tolist() == pytest.approx([mean(value) for value in expected], rel=1e-4, abs=1e-6)


def test_first_step_starts_at_ratio_one() -> None:
    """Before the first gradient step the policy is the one that collected: no divergence, nothing clipped."""
    learner = build(num_epochs=1, num_minibatches=1)
    for update in range(2):  # the second time with observation statistics that have moved
        stats = learner.update(bandit(learner.policy, seed=update))
        assert abs(float(stats["approx_kl"])) < 1e-6
        assert float(stats["clip_fraction"]) == 0.0


@pytest.mark.parametrize(("num_minibatches", "processed"), [(1, 2 * 20), (3, 2 * 18), (20, 2 * 20)])
def test_processed_samples_are_those_that_reached_a_gradient(num_minibatches: int, processed: int) -> None:
    """Minibatch samples times epochs; what a pass cannot share out evenly is not counted."""
    learner = build(num_minibatches=num_minibatches)
    assert learner.update(bandit(learner.policy, num_steps=4, num_envs=5))["processed"] == processed


@pytest.mark.parametrize("mostly", [False, True])
def test_worlds_that_were_reset_teach_nothing(mostly: bool) -> None:
    """What stands in samples that are not live changes nothing: no weight, no statistic, no figure."""
    results = []
    for poison in (0.0, 30.0):
        learner = build(num_epochs=2, num_minibatches=3, entropy_coef=0.01)
        rollout = bandit(learner.policy)
        rollout.live[:, : 30 if mostly else 2] = False
        reset = ~rollout.live
        for tensor in (rollout.extras["log_prob"], rollout.rewards, *rollout.final_obs.values()):
            tensor[reset] += poison
        for tensor in (*rollout.obs.values(), rollout.actions):
            tensor[reset] *= 1.0 + poison
        stats = learner.update(rollout)
        results.append([*learner.policy.state_dict().values(), *stats.values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_advantage_of_a_live_step_ends_with_its_episode() -> None:
    """In NEXT_STEP mode the row that resets follows an end, so that nothing of it flows into the row
    before.
    """
    rewards, values, next_values = (
        torch.randn(6, 1, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    ended = torch.tensor([False, True, False, False, True, False])[:, None]
    never = torch.zeros_like(ended)
    live = torch.tensor([True, True, False, True, True, False])[:, None]
    found = []
    for poison in (0.0, 100.0):
        spoilt = [torch.where(live, tensor, poison) for tensor in (rewards, values, next_values)]
        for terminated, truncated in ((ended, never), (never, ended)):
            gae = advantages(*spoilt, terminated, truncated, live, gamma=0.9, gae_lambda=0.8)
            found.append(gae[live])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


def test_statistics_are_those_of_live_steps() -> None:
    """Observations, returns and advantages of worlds that were reset enter no mean and no deviation."""
    learner = build(num_epochs=1, num_minibatches=1)
    rollout = bandit(learner.policy)
    rollout.live[:, 5:] = False
    policy, live = learner.policy, rollout.live
    advantage = learner._samples(rollout, rollout.rewards, rollout.rewards).advantage
    kept = advantage[live]
    assert float(kept.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(kept.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    learner.update(rollout)
    seen = rollout.obs["policy"][live].double()
    torch.testing.assert_close(policy.obs_normalizer.mean, seen.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(policy.obs_normalizer.var, seen.var(0, correction=0), rtol=1e-5, atol=1e-6)
    assert float(policy.obs_normalizer.count) == int(live.sum())
    paid = rollout.rewards[live].double()
    assert float(policy.return_normalizer.mean) == pytest.approx(float(paid.mean()), abs=1e-6)
    assert float(policy.return_normalizer.count) == int(live.sum())


def test_rollout_without_a_live_step_changes_nothing_but_adams_clock() -> None:
    """Where every world was being reset, there is nothing to learn, and nothing breaks."""
    learner = build()
    rollout = bandit(learner.policy)
    rollout.live[:] = False
    before = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    stats = learner.update(rollout)
    assert float(stats["skipped"]) == 0
    assert all(torch.equal(value, before[name]) for name, value in learner.policy.state_dict().items())


@pytest.mark.parametrize(
    "values",
    [
        {"num_steps": 0},
        {"num_epochs": 0},
        {"num_minibatches": 0},
        {"learning_rate": 0.0},
        {"clip_coef": -0.1},
        {"gamma": 1.01},
        {"gae_lambda": -0.1},
        {"schedule": "cosine"},
        {"max_grad_norm": 0.0},
        {"desired_kl": 0.0},
        {"min_learning_rate": 0.5, "max_learning_rate": 0.1},
    ],
)
def test_configuration_names_what_is_wrong(values: dict[str, object]) -> None:
    """A value out of range, or ends that cross, are refused with their key."""
    with pytest.raises(ValueError, match=r"learner\.\w+="):
        PpoConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "rate"), [(["learning_rate"], 1e-5), (["schedule"], 1e-5), (["gamma"], 3e-4)]
)
def test_changed_step_size_replaces_the_restored_one(changed: list[str], rate: float) -> None:
    """A resumed run starts from the step size it is given; other changes leave the restored one."""
    trained = build(learning_rate=3e-4, schedule="fixed")
    resumed = build(learning_rate=1e-5, schedule="fixed")
    resumed.load_state_dict(trained.state_dict())
    resumed.take_changes(changed)
    assert float(resumed.learning_rate) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("is_recurrent", "minibatches", "fits"), [(True, 4, True), (True, 5, False), (False, 5, True)]
)
def test_minibatches_of_a_recurrent_policy_hold_an_environment_each(
    is_recurrent: bool, minibatches: int, fits: bool
) -> None:
    """More minibatches than environments are refused by key and value, for a policy with memory alone."""
    learner = build()
    learner.policy.is_recurrent = is_recurrent
    cfg = PpoConfig(num_minibatches=minibatches)
    if fits:
        cfg.check_policy(learner.policy, num_envs=4)
    else:
        with pytest.raises(ValueError, match=r"learner.num_minibatches=5: .*\(4\)"):
            cfg.check_policy(learner.policy, num_envs=4)
