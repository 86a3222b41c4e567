"""Both engines keep one contract; the CPU engine does what MuJoCo does to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from factory.envs.physics import ENGINES, engine_timers, open_physics
from factory.envs.physics.base import Physics
from factory.envs.physics.contact_forces import add_contact_forces

XML = """
<mujoco><worldbody>
  <body pos="0 0 1"><freejoint/><geom name="ball" size="0.1"/></body>
  <geom name="floor" type="plane" size="0 0 1"/>
</worldbody></mujoco>
"""
SERVO = """
<mujoco><worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.1"/></body></worldbody>
  <actuator><position joint="x" kp="10"/></actuator>
</mujoco>
"""
ROUNDING_M = {"mujoco": 1e-5, "warp": 1e-4}
"""How exactly the engines find where a ray hits a ball: Warp takes all steps in float32."""


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def opened(engine: str, model: mujoco.MjModel, num_envs: int) -> Physics:
    return open_physics(engine, model, num_envs=num_envs, device=torch.device("cpu"))


def test_steps_as_mujoco_does(model: mujoco.MjModel) -> None:
    """Several worlds from different states end where `mj_step` puts each of them."""
    physics = open_physics("mujoco", model, num_envs=3, device=torch.device("cpu"))
    velocity = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 3]], dtype=torch.float64)
    physics.field("qvel")[:, :3] = velocity
    physics.step(50)
    for world in range(3):
        data = mujoco.MjData(model)
        data.qvel[:3] = velocity[world]
        mujoco.mj_step(model, data, 50)
        np.testing.assert_array_equal(physics.field("qpos")[world], data.qpos)


@pytest.mark.parametrize(
    "file", ["ant.xml", "half_cheetah.xml", "humanoid.xml", "hopper.xml", "pusher_v5.xml"]
)
def test_shortcuts_change_no_bit(file: str) -> None:
    """What the engine leaves out, islands of a single tree and timers, is not in the result: contacts and
    all.
    """
    model = mujoco.MjModel.from_xml_path(str(Path(gymnasium.__file__).parent / "envs/mujoco/assets" / file))
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    data, draw = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(100):
        data.ctrl[:] = draw.uniform(-1.0, 1.0, model.nu)
        physics.field("ctrl")[:] = torch.from_numpy(data.ctrl)
        physics.step(5)
        mujoco.mj_step(model, data, 5)
    np.testing.assert_array_equal(physics.field("qpos")[1], data.qpos)
    np.testing.assert_array_equal(physics.field("qvel")[1], data.qvel)


def test_engine_reads_no_clock(model: mujoco.MjModel) -> None:
    """While worlds step MuJoCo asks for no time; afterwards whoever set a clock has it back."""
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    readings: list[float] = []
    mujoco.set_mjcb_time(lambda: float(len(readings)) if readings.append(0.0) is None else 0.0)
    try:
        physics.step(1)
        assert not readings
        mujoco.mj_step(model, mujoco.MjData(model))
        assert readings
    finally:
        mujoco.set_mjcb_time(None)


def test_clock_is_back_when_the_last_thread_is_done() -> None:
    """Threads that step batches side by side leave the clock as the first of them found it."""
    mujoco.set_mjcb_time(lambda: 1.0)
    try:
        first, second = engine_timers.stopped(), engine_timers.stopped()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        data = mujoco.MjData(model := mujoco.MjModel.from_xml_string(XML))
        mujoco.mj_step(model, data)
        assert data.timer[mujoco.mjtTimer.mjTIMER_STEP].number == 1
    finally:
        mujoco.set_mjcb_time(None)


def test_reset_keeps_written_values_that_equal_the_old_ones(engine: str, model: mujoco.MjModel) -> None:
    """A position written again unchanged before `reset` stays; it is not taken for the model's default."""
    physics = opened(engine, model, 2)
    mask = torch.tensor([True, False])
    for _ in range(2):
        physics.field("qpos")[:, 2] = 0.4
        physics.reset(mask)
    assert physics.field("qpos")[:, 2].tolist() == pytest.approx([0.4, 0.4], abs=1e-7)
    physics.step(1)
    assert physics.field("qpos")[0, 2] == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("derived", ["geom_xpos", "qfrc_bias"])
def test_reset_leaves_other_worlds_alone(engine: str, model: mujoco.MjModel, derived: str) -> None:
    """Only masked worlds change; derived fields of the others lag by a step, as they did."""
    physics = opened(engine, model, 2)
    field = physics.field(derived)
    physics.field("qvel")[:, 3:] = torch.tensor([1.0, 2.0, 3.0])
    physics.step(20)
    before = physics.field("qpos")[1].clone(), field[1].clone()
    physics.reset(torch.tensor([True, False]))
    assert torch.equal(physics.field("qpos")[1], before[0])
    assert torch.equal(field[1], before[1])


def test_reset_fills_derived_fields(engine: str, model: mujoco.MjModel) -> None:
    """Derived fields of a masked world belong to the state it was given."""
    physics = opened(engine, model, 2)
    xpos = physics.field("geom_xpos")
    physics.field("qpos")[0, :3] = torch.tensor([5.0, 6.0, 7.0])
    physics.reset(torch.tensor([True, False]))
    assert xpos[0, model.geom("ball").id].tolist() == [5.0, 6.0, 7.0]


def test_model_fields_are_per_world(engine: str, model: mujoco.MjModel) -> None:
    """Gravity written for one world acts in that world only."""
    physics = opened(engine, model, 2)
    physics.model_field("gravity")[1] = 0.0
    physics.step(100)
    height = physics.field("qpos")[:, 2]
    assert height[0] < 0.9
    assert height[1] == 1.0


def test_rays_measure_distances(engine: str, model: mujoco.MjModel) -> None:
    """A ray straight down from 2 m hits the ball's top, one beside it the floor, one upward nothing."""
    physics = opened(engine, model, 1)
    origin = torch.tensor([[[0.0, 0, 2], [1, 0, 2], [1, 0, 2]]])
    direction = torch.tensor([[[0.0, 0, -1], [0, 0, -1], [0, 0, 1]]])
    assert physics.rays(origin, direction)[0].tolist() == pytest.approx(
        [0.9, 2.0, -1.0], abs=ROUNDING_M[engine]
    )


def test_rays_leave_out_the_body_that_casts_them(engine: str, model: mujoco.MjModel) -> None:
    """From within the ball a ray meets the ball, or, without its body, the floor."""
    physics = opened(engine, model, 2)
    origin = torch.tensor([[[0.0, 0, 1]]] * 2)
    direction = torch.tensor([[[0.0, 0, -1]]] * 2)
    ball = int(model.geom("ball").bodyid[0])
    found = physics.rays(origin, direction)
    assert found.flatten().tolist() == pytest.approx([0.1, 0.1], abs=ROUNDING_M[engine])
    found = physics.rays(origin, direction, body_exclude=ball)
    assert found.flatten().tolist() == pytest.approx([1.0, 1.0], abs=ROUNDING_M[engine])


def test_reset_keeps_controls_that_were_written(engine: str) -> None:
    """A servo's target written before `reset` holds from the first step on."""
    model = mujoco.MjModel.from_xml_string(SERVO)
    physics = opened(engine, model, 2)
    physics.field("ctrl")[:, 0] = torch.tensor([0.5, -0.5])
    physics.reset(torch.tensor([True, False]))
    assert physics.field("ctrl")[:, 0].tolist() == [0.5, -0.5]
    physics.step(1)
    assert physics.field("qvel")[0, 0] > 0.0 > physics.field("qvel")[1, 0]


def test_time_in_the_engine_is_counted(engine: str, model: mujoco.MjModel) -> None:
    """`elapsed_s` grows with every call into the engine."""
    physics = opened(engine, model, 2)
    before = physics.elapsed_s
    physics.step(10)
    assert physics.elapsed_s > before


def test_unknown_engine_and_wrong_device_are_named(model: mujoco.MjModel) -> None:
    """The message names key, value and what to choose."""
    with pytest.raises(ValueError, match=r"physics=bullet.*mujoco"):
        open_physics("bullet", model, num_envs=1, device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"device=cuda.*physics=warp.*device=cpu"):
        open_physics("mujoco", model, num_envs=1, device=torch.device("cuda"))


@pytest.mark.parametrize("integrator", ["mjINT_RK4", "mjINT_EULER", "mjINT_IMPLICITFAST"])
def test_contact_forces_are_those_of_a_call_by_hand(integrator: str) -> None:
    """`cfrc_ext` after a control step equals `mj_rnePostConstraint` after `mj_step`, and the motion is
    unchanged.
    """
    spec = mujoco.MjSpec.from_string(XML)
    spec.option.integrator = getattr(mujoco.mjtIntegrator, integrator)
    plain = spec.compile()
    add_contact_forces(spec, every=4)
    physics = open_physics("mujoco", spec.compile(), num_envs=2, device=torch.device("cpu"))
    data, forces, touched = mujoco.MjData(plain), physics.field("cfrc_ext", precise=True), False
    for _ in range(150):
        physics.step(4)
        mujoco.mj_step(plain, data, 4)
        mujoco.mj_rnePostConstraint(plain, data)
        np.testing.assert_array_equal(physics.field("qpos")[1], data.qpos)
        np.testing.assert_array_equal(forces[1], data.cfrc_ext)
        touched |= bool(data.cfrc_ext.any())
    assert touched


def test_contact_forces_are_brought_up_to_date_in_due_steps() -> None:
    """Every world has its own then, also after a reset in the middle, which begins to count anew."""
    spec = mujoco.MjSpec.from_string(XML)
    plain = spec.compile()
    add_contact_forces(spec, every=3)
    physics = open_physics("mujoco", spec.compile(), num_envs=2, device=torch.device("cpu"))
    forces, depths_m = physics.field("cfrc_ext", precise=True), (0.001, 0.002)
    for steps in (7, 9):
        worlds = [mujoco.MjData(plain) for _ in depths_m]
        for world, (data, depth_m) in enumerate(zip(worlds, depths_m, strict=True)):
            physics.field("qpos")[world, 2] = data.qpos[2] = 0.1 - depth_m
        physics.field("qvel").zero_()
        physics.reset(torch.ones(2, dtype=torch.bool))
        for step in range(steps):
            physics.step(1)
            for world, data in enumerate(worlds):
                mujoco.mj_step(plain, data)
                mujoco.mj_rnePostConstraint(plain, data)
                assert step % 3 != 2 or np.array_equal(forces[world], data.cfrc_ext)


def test_contact_forces_may_be_asked_for_by_several_threads_at_once() -> None:
    """The plugin is registered once; a module that is loaded again finds it."""
    program = """
import importlib, threading, mujoco
from factory.envs.physics import contact_forces
def build():
    body = '<body><joint/><geom size="1"/></body>'
    spec = mujoco.MjSpec.from_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    contact_forces.add_contact_forces(spec, every=7)
    model = spec.compile()
    mujoco.mj_step(model, mujoco.MjData(model), 10)
threads = [threading.Thread(target=build) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
importlib.reload(contact_forces)
build()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_derived_fields_are_float32_unless_precise(model: mujoco.MjModel) -> None:
    """A derived field comes in the precision that its first call asks for, and survives a restore in it."""
    first, second = (open_physics("mujoco", model, num_envs=2, device=torch.device("cpu")) for _ in range(2))
    assert first.field("xpos", precise=True).dtype == torch.float64
    assert first.field("xipos").dtype == torch.float32
    first.step(3)
    second.set_state(first.state())
    for name in ("xpos", "xipos"):
        assert torch.equal(first.field(name), second.field(name))
