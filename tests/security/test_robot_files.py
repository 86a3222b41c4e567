"""Exploits in robot files: no entity, no file from elsewhere, no absurd size reaches MuJoCo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.envs.robots import robot_file

ENTITIES = '<!DOCTYPE x [<!ENTITY a "{a}">{more}]><mujoco model="&z;"/>'
BOMB = ENTITIES.format(
    a="ha" * 10,
    more="".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghz", strict=True)),
)
HOSTILE = {
    "entity bomb": BOMB,
    "entity from a file": '<!DOCTYPE x [<!ENTITY z SYSTEM "file:///etc/passwd">]><mujoco model="&z;"/>',
    "include by its whole path": '<mujoco><include file="/etc/passwd"/></mujoco>',
    "include that climbs": '<mujoco><include file="../../secret.xml"/></mujoco>',
    "mesh that climbs": '<mujoco><asset><mesh file="../secret.obj"/></asset></mujoco>',
    "mesh by its whole path": '<mujoco><asset><mesh file="/etc/passwd"/></asset></mujoco>',
    "folder of meshes that climbs": (
        '<mujoco><compiler meshdir="../../.."/><asset><mesh file="etc/passwd"/></asset></mujoco>'
    ),
    "folder of meshes at the root": (
        '<mujoco><compiler assetdir="/etc"/><asset><texture file="passwd"/></asset></mujoco>'
    ),
    "backslashes": '<mujoco><asset><hfield file="..\\..\\secret.png"/></asset></mujoco>',
    "sides of a texture": '<mujoco><asset><texture fileleft="../../secret.png"/></asset></mujoco>',
    "another model": '<mujoco><asset><model file="../../other.xml"/></asset></mujoco>',
    "mesh of a URDF": '<robot><mesh filename="package://x/../../../etc/passwd"/></robot>',
    "link among the meshes": '<mujoco><asset><mesh file="link.obj"/></asset></mujoco>',
    "pipe among the meshes": '<mujoco><asset><mesh file="pipe.obj"/></asset></mujoco>',
    "texture of 10 TB": '<mujoco><asset><texture width="1000000" height="10000000"/></asset></mujoco>',
    "height field of 10 TB": '<mujoco><asset><hfield nrow="1000000" ncol="1000000"/></asset></mujoco>',
    "arena of 1 PB": '<mujoco><size memory="1P"/></mujoco>',
    "user data of 16 GB": '<mujoco><size nuserdata="2000000000"/></mujoco>',
    "copies of copies": "<mujoco>" + '<replicate count="1000">' * 3 + "</replicate>" * 3 + "</mujoco>",
    "a composite of a billion": '<mujoco><composite count="1000 1000 1000"/></mujoco>',
    "deep nesting": "<body>" * 5000 + "</body>" * 5000,
    "elements without end": "<mujoco>" + "<b/>" * 300_000 + "</mujoco>",
    "no XML": "\x7fELF",
}


def prepare(tmp_path: Path, content: str) -> Path:
    """Write a robot's file into a folder of its own, with a link and a pipe beside it."""
    folder = tmp_path / "robot"
    folder.mkdir()
    (tmp_path / "secret.obj").write_text("hunter2")
    (folder / "link.obj").symlink_to(tmp_path / "secret.obj")
    os.mkfifo(folder / "pipe.obj")
    path = folder / "dog.xml"
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_robot_is_refused(tmp_path: Path, name: str) -> None:
    """One line that names the file, before MuJoCo opens it."""
    path = prepare(tmp_path, HOSTILE[name])
    with pytest.raises(ValueError) as caught:
        robot_file.check(path)
    assert "dog.xml" in str(caught.value) and "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("task", ["quadruped_velocity", "gym/ant"])
@pytest.mark.parametrize("name", ["include that climbs", "entity bomb", "arena of 1 PB"])
def test_training_refuses_a_hostile_robot(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], name: str, task: str
) -> None:
    """The command answers with the key, status 2, and writes nothing."""
    path = prepare(tmp_path, HOSTILE[name])
    status, _, err = command("train", f"task={task}", f"robot=file:{path}")
    assert (status, err.count("\n")) == (2, 1), err
    assert "robot=file:" in err and not list(Path.cwd().iterdir())


def test_harmless_layouts_pass(tmp_path: Path) -> None:
    """Files may lie beside the robot, in a folder below, or in `meshes` as ROS packages have it."""
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "leg.obj").touch()
    content = (
        '<mujoco><compiler meshdir="../meshes"/><include file="parts/floor.xml"/>'
        '<asset><mesh file="leg.obj"/><texture width="64" height="64"/></asset><size memory="64M"/></mujoco>'
    )
    path = prepare(tmp_path, content)
    (path.parent / "parts").mkdir()
    (path.parent / "parts" / "floor.xml").write_text("<mujoco/>")
    robot_file.check(path)


def test_included_files_are_checked_too(tmp_path: Path) -> None:
    """What an included file names counts like the robot's own; a file that includes itself ends."""
    path = prepare(tmp_path, '<mujoco><include file="dog.xml"/><include file="part.xml"/></mujoco>')
    (path.parent / "part.xml").write_text('<mujoco><asset><mesh file="/etc/passwd"/></asset></mujoco>')
    with pytest.raises(ValueError, match="outside the robot's folder"):
        robot_file.check(path)
