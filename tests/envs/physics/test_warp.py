"""MuJoCo Warp on the CPU moves robots as MuJoCo does, as far as float32 lets it, and never waits for the
device.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import gymnasium
import mujoco
import mujoco_warp as mjw
import pytest
import torch
import warp as wp

from factory.envs.core.check import check_vector_env
from factory.envs.core.graph_safety import graph_safe
from factory.envs.physics import PhysicsConfig, open_physics
from factory.envs.physics.contact_forces import add_contact_forces
from factory.envs.physics.warp import WarpPhysics

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TASKS = ("factory/CartpoleSwingup-v0", "factory/QuadrupedVelocity-v0", "factory/HalfCheetah-v5")
TOLERANCE = dict(zip(TASKS, (2e-6, 1e-2, 2e-4), strict=True))
"""For 50 control steps [m, rad, m/s, rad/s]."""
XML = """
<mujoco><worldbody>
  <body pos="0 0 1"><freejoint/><geom size="0.1"/></body>
  <geom type="plane" size="0 0 1"/>
</worldbody></mujoco>
"""
FIELDS = [
    "xpos",
    "xquat",
    "xmat",
    "xipos",
    "geom_xpos",
    "geom_xmat",
    "subtree_com",
    "cvel",
    "cinert",
    "qfrc_bias",
    "qacc",
]


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(XML)


def make(env_id: str, physics: str | PhysicsConfig = "warp", **kwargs: Any) -> Any:
    return gymnasium.make_vec(f"factory.envs:{env_id}", physics=physics, **kwargs).unwrapped


@pytest.mark.parametrize("env_id", TASKS)
def test_fifty_control_steps_are_those_of_the_cpu_engine(env_id: str) -> None:
    """In the median world positions and velocities agree to the tolerance, which float32 alone would use up.

    Contacts multiply a difference, whatever its cause. So the measure beside the tolerance is the CPU engine
    itself with +-1e-6 added to every position and velocity at every control step, a few roundings of float32
    (1.2e-7 at 1, 1e-6 from 8 on): Warp is nearer to the exact one than that.
    """
    worlds, steps = 32, 50
    exact, noisy, tested = (
        make(env_id, engine, num_envs=worlds, seed=0, autoreset_mode="Disabled")
        for engine in ("mujoco", "mujoco", "warp")
    )
    exact.reset(seed=0)
    qpos, qvel = (exact.physics.field(name).float() for name in ("qpos", "qvel"))
    for env in (exact, noisy, tested):
        env.set_state(qpos, qvel)
        for name in exact.physics._model_fields:
            env.physics.model_field(name).copy_(exact.physics.model_field(name))
    generator = torch.Generator().manual_seed(0)
    draw = lambda shape: 2.0 * torch.rand(shape, generator=generator) - 1.0  # noqa: E731
    for step in range(steps):
        exact._apply_action(0.5 * draw(exact.action_space.shape))
        for name in ("qpos", "qvel"):
            noisy.physics.field(name).add_(1e-6 * draw(noisy.physics.field(name).shape))
        for env in (exact, noisy, tested):
            env.physics.field("ctrl").copy_(exact.physics.field("ctrl"))
            env.physics.step(env.decimation)
        assert distance(exact, tested) <= distance(exact, noisy), f"after {step + 1} control steps"
        assert distance(exact, tested) <= TOLERANCE[env_id]


def distance(first: Any, second: Any) -> float:
    """Return how far two environments' states are apart in the median world."""
    fields = [(first.physics.field(name), second.physics.field(name)) for name in ("qpos", "qvel")]
    return float(torch.cat([(ours - theirs).abs() for ours, theirs in fields], -1).amax(-1).median())


@pytest.mark.parametrize("env_id", TASKS)
def test_control_step_is_graph_safe(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on which episodes end and worlds restart pass the guard, with the engine, as a GPU takes them."""
    env = make(env_id, num_envs=2, max_episode_steps=2, seed=0)
    env.reset(seed=0)
    action = torch.from_numpy(env.action_space.sample())
    env.step(action)
    monkeypatch.setattr(env, "_reads_values", False)
    with graph_safe():
        for _ in range(3):
            env.step(action)


def test_recordings_do_what_mujoco_warp_does(model: mujoco.MjModel) -> None:
    """Replayed steps equal `mujoco_warp.step` bit for bit."""
    physics = WarpPhysics(model, num_envs=2, device=CPU, nconmax=8, njmax=8)
    with wp.ScopedDevice("cpu"):
        m, d = mjw.put_model(model), mjw.make_data(model, nworld=2, nconmax=8, njmax=8)
        m.opt.warn_overflow = 0  # other kernels do the printing
        for _ in range(12):
            physics.step(25)
            for _ in range(25):
                mjw.step(m, d)
    assert torch.equal(physics.field("qpos"), wp.to_torch(d.qpos))
    assert physics.field("qpos")[0, 2] < 0.5


def test_fields_look_as_those_of_the_cpu_engine(model: mujoco.MjModel) -> None:
    """Shapes, order of quaternions and values are the same."""
    engines = [open_physics(name, model, num_envs=2, device=CPU) for name in ("mujoco", "warp")]
    for physics in engines:
        physics.field("qpos")[:, 3:] = torch.tensor([0.8, 0.6, 0.0, 0.0])
        physics.field("qvel")[1] = torch.arange(6.0)
        physics.reset(torch.tensor([True, True]))
    for name in FIELDS:
        expected, got = (physics.field(name) for physics in engines)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_contact_forces_are_those_of_the_cpu_engine() -> None:
    """A ball that lies on the floor is pushed up by its weight, in both engines alike."""
    spec = mujoco.MjSpec.from_string(XML)
    warp_forces = open_physics("warp", spec.compile(), num_envs=2, device=CPU)
    add_contact_forces(spec, every=400)
    engines = open_physics("mujoco", spec.compile(), num_envs=2, device=CPU), warp_forces
    for physics in engines:
        physics.field("cfrc_ext")
        physics.field("qpos")[:, 2] = 0.1
        physics.step(400)
    expected, got = (physics.field("cfrc_ext") for physics in engines)
    weight_n = float(engines[0].model.body_mass[1]) * 9.81
    assert got[1, 1, 5] == pytest.approx(weight_n, rel=1e-2)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_state_continues_bit_for_bit() -> None:
    """Steps after `load_state_dict` repeat those after `state_dict`: physics per world, lag and randomness
    included.
    """
    first, second = (make(TASKS[1], num_envs=4, max_episode_steps=12, seed=seed) for seed in (3, 99))
    first.reset(seed=3)
    action = torch.linspace(-0.3, 0.3, 48).reshape(4, 12)
    for _ in range(5):
        first.step(action)
    second.load_state_dict(first.state_dict())
    for _ in range(20):
        expected, got = first.step(action), second.step(action)
        assert torch.equal(expected[0]["critic"], got[0]["critic"])
        assert torch.equal(expected[1], got[1])


def test_vector_contract() -> None:
    """The batched environment passes the conformance check in all three autoreset modes."""
    check_vector_env(lambda **kwargs: make(TASKS[0], **kwargs))


def test_a_world_that_is_no_longer_finite_is_ended_and_restarted() -> None:
    """NaN in one world's velocity ends that world only, which goes on from a new state; it is counted."""
    env = make(TASKS[0], num_envs=3, seed=0)
    env.reset(seed=0)
    env.physics.field("qvel")[1] = float("nan")
    obs, _, terminated, _, info = env.step(torch.zeros(3, 1))
    assert info["nonfinite"].tolist() == terminated.tolist() == [False, True, False]
    assert obs.isfinite().all()
    obs, *_, info = env.step(torch.zeros(3, 1))
    assert obs.isfinite().all() and not info["nonfinite"].any()


def test_buffers_that_overflow_are_named_once_with_a_remedy() -> None:
    """A robot on four feet has no room for a contact each: a line for each buffer says what to set."""
    cramped, roomy = (
        make(TASKS[1], PhysicsConfig(name="warp", nconmax=nconmax, njmax=njmax), num_envs=2, seed=0).physics
        for nconmax, njmax in ((1, 4), (0, 0))
    )
    for physics in (cramped, roomy):
        physics.step(100)
    lines = cramped.warnings()
    assert [line.partition(":")[0] for line in lines] == ["physics.njmax=4", "physics.nconmax=1"]
    assert lines[1].endswith("give physics.nconmax=2")
    assert cramped.warnings() == roomy.warnings() == ()


def test_solver_that_warp_lacks_is_replaced_and_said(model: mujoco.MjModel) -> None:
    """PGS becomes Newton, in Warp's copy of the model alone, and whoever trains is told once."""
    model.opt.solver = mujoco.mjtSolver.mjSOL_PGS
    physics = open_physics("warp", model, num_envs=1, device=CPU)
    assert model.opt.solver == mujoco.mjtSolver.mjSOL_PGS
    assert ["PGS" in line for line in physics.warnings()] == [True]
    assert physics.warnings() == ()


def test_robot_that_warp_cannot_simulate_is_refused_in_one_line(model: mujoco.MjModel) -> None:
    """The message says what is missing and which engine has it."""
    noslip = copy.copy(model)
    noslip.opt.noslip_iterations = 3
    with pytest.raises(ValueError, match=r"physics=warp: .*noslip.*physics=mujoco"):
        open_physics("warp", noslip, num_envs=1, device=CPU)


def test_packages_that_are_missing_are_named(model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MuJoCo Warp the message says what to install."""
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    monkeypatch.delitem(sys.modules, "factory.envs.physics.warp")
    with pytest.raises(ValueError, match=r"physics=warp: mujoco_warp is not installed; pip install .*gpu"):
        open_physics("warp", model, num_envs=1, device=CPU)
