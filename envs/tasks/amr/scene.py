"""MuJoCo model of a hall: a robot on planar joints, boxes and movers whose places the task sets."""

from __future__ import annotations

import mujoco

ROBOT_HEIGHT_M = 0.3
LIDAR_HEIGHT_M = 0.2
BOX_HALF_HEIGHT_M = 0.4
MOVER_HALF_HEIGHT_M = 0.6
BELOW_M = -100.0
"""Height of boxes that a hall does not have."""
_MASS_KG = 40.0

# Contacts are off: the task measures distances, and an episode ends at a touch. In one step, the servos leave
# mass / (mass + kv dt) = 1 % of an error in velocity.
_SCENE = """
<mujoco model="hall">
  <compiler angle="radian"/>
  <option timestep="{step_s}" integrator="implicitfast" gravity="0 0 0">
    <flag constraint="disable" contact="disable"/>
  </option>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <light pos="{middle} {middle} 12" dir="0 0 -1"/>
    <geom name="wall_west" type="plane" size="0 0 1" zaxis="1 0 0"/>
    <geom name="wall_south" type="plane" size="0 0 1" zaxis="0 1 0"/>
    <geom name="wall_east" type="plane" size="0 0 1" zaxis="-1 0 0" pos="{size} 0 0"/>
    <geom name="wall_north" type="plane" size="0 0 1" zaxis="0 -1 0" pos="0 {size} 0"/>
    {boxes}
    {movers}
    <body name="robot">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <joint name="heading" type="hinge" axis="0 0 1"/>
      <geom type="cylinder" size="{radius} {half_height}" pos="0 0 {half_height}" mass="{mass}" group="3"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="{kv}"/>
    <velocity joint="y" kv="{kv}"/>
    <velocity joint="heading" kv="{kv}"/>
  </actuator>
</mujoco>
"""
_BOX = """<body name="box_{i}" mocap="true" pos="0 0 {below}">
      <geom name="box_{i}" type="box" size="0.1 0.1 {half_height}"/></body>"""
_MOVER = """<body name="mover_{i}" mocap="true" pos="0 0 {below}">
      <geom name="mover_{i}" type="cylinder" size="0.1 {half_height}"/></body>"""


def load_hall(
    *, size_m: float, num_boxes: int, num_movers: int, robot_radius_m: float, step_s: float
) -> mujoco.MjModel:
    """Return the model; mocap bodies are first the boxes, then the movers.

    The robot is in geom group 3, which its own lidar leaves out.
    """
    boxes = [_BOX.format(i=i, below=BELOW_M, half_height=BOX_HALF_HEIGHT_M) for i in range(num_boxes)]
    movers = [_MOVER.format(i=i, below=BELOW_M, half_height=MOVER_HALF_HEIGHT_M) for i in range(num_movers)]
    xml = _SCENE.format(
        step_s=step_s,
        size=size_m,
        middle=size_m / 2.0,
        boxes="\n    ".join(boxes),
        movers="\n    ".join(movers),
        radius=robot_radius_m,
        half_height=ROBOT_HEIGHT_M / 2.0,
        mass=_MASS_KG,
        kv=1000.0 * _MASS_KG,
    )
    return mujoco.MjModel.from_xml_string(xml)
