"""The CPU engine does what MuJoCo does, world by world."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from envs.physics import open_physics
from envs.physics.contact_forces import add_contact_forces

XML = """
<mujoco><worldbody>
  <body pos="0 0 1"><freejoint/><geom name="ball" size="0.1"/></body>
  <geom name="floor" type="plane" size="0 0 1"/>
</worldbody></mujoco>
"""


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(XML)


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


def test_reset_keeps_written_values_that_equal_the_old_ones(model: mujoco.MjModel) -> None:
    """A position written again unchanged before `reset` stays; it is not taken for the model's default."""
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    mask = torch.tensor([True, False])
    for _ in range(2):
        physics.field("qpos")[:, 2] = 0.4
        physics.reset(mask)
    assert physics.field("qpos")[:, 2].tolist() == [0.4, 0.4]
    physics.step(1)
    assert physics.field("qpos")[0, 2] == pytest.approx(0.4, abs=1e-3)


def test_reset_leaves_other_worlds_alone_and_fills_derived_fields(model: mujoco.MjModel) -> None:
    """Only masked worlds change, and their derived fields belong to the new state."""
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    xpos = physics.field("geom_xpos")
    physics.step(20)
    before = physics.field("qpos")[1].clone()
    physics.field("qpos")[0, :3] = torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64)
    physics.reset(torch.tensor([True, False]))
    assert torch.equal(physics.field("qpos")[1], before)
    assert xpos[0, model.geom("ball").id].tolist() == [5.0, 6.0, 7.0]


def test_model_fields_are_per_world(model: mujoco.MjModel) -> None:
    """Gravity written for one world acts in that world only."""
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    physics.model_field("gravity")[1] = 0.0
    physics.step(100)
    height = physics.field("qpos")[:, 2]
    assert height[0] < 0.9
    assert height[1] == 1.0


def test_rays_measure_distances(model: mujoco.MjModel) -> None:
    """A ray straight down from 2 m hits the ball's top, one beside it the floor, one upward nothing."""
    physics = open_physics("mujoco", model, num_envs=1, device=torch.device("cpu"))
    origin = torch.tensor([[[0.0, 0, 2], [1, 0, 2], [1, 0, 2]]])
    direction = torch.tensor([[[0.0, 0, -1], [0, 0, -1], [0, 0, 1]]])
    assert physics.rays(origin, direction)[0].tolist() == pytest.approx([0.9, 2.0, -1.0], abs=1e-5)


def test_time_in_the_engine_is_counted(model: mujoco.MjModel) -> None:
    """`elapsed_s` grows with every call into the engine."""
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"))
    before = physics.elapsed_s
    physics.step(10)
    assert physics.elapsed_s > before


def test_unknown_engine_and_wrong_device_are_named(model: mujoco.MjModel) -> None:
    """The message names key, value and what to choose."""
    with pytest.raises(ValueError, match=r"physics=bullet.*mujoco"):
        open_physics("bullet", model, num_envs=1, device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"device=cuda.*device=cpu"):
        open_physics("mujoco", model, num_envs=1, device=torch.device("cuda"))


@pytest.mark.parametrize("integrator", ["mjINT_RK4", "mjINT_EULER", "mjINT_IMPLICITFAST"])
def test_contact_forces_are_those_of_a_call_by_hand(integrator: str) -> None:
    """`cfrc_ext` after several substeps equals `mj_rnePostConstraint` after `mj_step`, and the motion is unchanged."""
    spec = mujoco.MjSpec.from_string(XML)
    spec.option.integrator = getattr(mujoco.mjtIntegrator, integrator)
    plain = spec.compile()
    add_contact_forces(spec)
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


def test_derived_fields_are_float32_unless_precise(model: mujoco.MjModel) -> None:
    """A derived field comes in the precision that its first call asks for, and survives a restore in it."""
    first, second = (open_physics("mujoco", model, num_envs=2, device=torch.device("cpu")) for _ in range(2))
    assert first.field("xpos", precise=True).dtype == torch.float64
    assert first.field("xipos").dtype == torch.float32
    first.step(3)
    second.set_state(first.state())
    for name in ("xpos", "xipos"):
        assert torch.equal(first.field(name), second.field(name))
