"""Exploits in robot files: no entity, no file from elsewhere, no absurd size reaches MuJoCo."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import mujoco
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
    "another encoding": '<?xml version="1.0" encoding="ISO-8859-1"?><mujoco/>',
    "line break in a name": '<mujoco><asset><mesh file="li\nnk.obj"/></asset></mujoco>',
    "tab in a name": "<mujoco><asset><mesh name = 'a' file = 'li\tnk.obj'/></asset></mujoco>",
    "line break by its number": '<mujoco><asset><mesh file="li&#10;nk.obj"/></asset></mujoco>',
    "names without their folders": '<mujoco><asset><mesh file="sub/link.obj"/></asset></mujoco>',
    "folder that MuJoCo drops": '<mujoco><asset><mesh file="inner/../sub/../link.obj"/></asset></mujoco>',
    "include beside the included file": '<mujoco><include file="inner/part.xml"/></mujoco>',
    "model that is attached": '<mujoco><asset><model file="child.xml"/></asset></mujoco>',
    "thousands of folders": "<mujoco>"
    + "".join(f'<compiler meshdir="m{i}"/><mesh file="{i}.obj"/>' for i in range(3000))
    + "</mujoco>",
    "user data of 10 TB by its length": "<mujoco><geom user='" + "0 " * 1000 + "'/></mujoco>",
    "touch grid": '<mujoco><sensor><plugin plugin="mujoco.sensor.touch_grid"/></sensor></mujoco>',
    "a ray a pixel": '<mujoco><sensor><rangefinder camera="eye"/></sensor></mujoco>',
    "sensors with copied bodies": '<mujoco><replicate count="10000"/>'
    + '<sensor><user dim="1000"/></sensor></mujoco>',
    "many large textures": "<mujoco>" + '<texture width="2000" height="2000"/>' * 20 + "</mujoco>",
    "keyframes without end": "<mujoco>" + "<key/>" * 3000 + "</mujoco>",
}
COSTLY = {
    f"option {key}={value}": f'<option {key}="{value}"/>'
    for key, value in (
        *(("timestep", value) for value in ("1e-9", "1e-300", "0", "-1", "100", "nan", "0x1p-30")),
        ("iterations", "2000000000"),
        ("ls_iterations", "2000000000"),
        ("noslip_iterations", "2e9"),
        ("ccd_iterations", "2000000000"),
        ("sdf_initpoints", "2000000000"),
    )
} | {
    "user sensor": '<sensor><user dim="500000000"/></sensor>',
    "history": '<sensor><gyro nsample="100000000"/></sensor>',
    "contacts": '<sensor><contact num="100000000"/></sensor>',
    "user numbers": '<size nuser_geom="200000000"/>',
    "keyframes": '<size nkey="50000000"/>',
    "user data": '<size nuserdata="200000000"/>',
    "camera": '<camera resolution="20000 20000"/>',
    "numeric": '<numeric size="500000000"/>',
    "plate": '<mesh builtin="plate" params="20000 20000"/>',
    "torus": '<mesh builtin="supertorus" params="20000 .5 1 1"/>',
    "sphere": '<mesh builtin="sphere" params="12"/>',
    "octree": '<mesh octree_maxdepth="30"/>',
    "shadow": '<quality shadowsize="100000"/>',
    "slices": '<quality numslices="100000"/>',
    "muscles": '<lengthrange inttotal="1e9"/>',
    "copies": '<replicate count="1e9"/>',
}


def prepare(tmp_path: Path, content: str) -> Path:
    """Write a robot's file into a folder of its own, with a link and a pipe beside it."""
    folder = tmp_path / "robot"
    folder.mkdir()
    (tmp_path / "secret.obj").write_text("hunter2")
    (folder / "link.obj").symlink_to(tmp_path / "secret.obj")
    os.mkfifo(folder / "pipe.obj")
    inner = folder / "inner"
    inner.mkdir()
    (inner / "part.xml").write_text('<mujoco><include file="beside.xml"/></mujoco>')
    (inner / "beside.xml").write_text('<mujoco><mesh file="../../secret.obj"/></mujoco>')
    (folder / "sub").symlink_to(inner)
    (folder / "child.xml").write_text('<mujoco><mesh file="../secret.obj"/></mujoco>')
    path = folder / "dog.xml"
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_robot_is_refused(tmp_path: Path, name: str) -> None:
    """One line that names the file, before MuJoCo opens it."""
    path = prepare(tmp_path, HOSTILE[name])
    with pytest.raises(ValueError) as caught:
        robot_file.check(path)
    assert "dog.xml" in str(caught.value) and str(caught.value).isprintable()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", COSTLY)
def test_costly_number_is_refused(tmp_path: Path, name: str) -> None:
    """One line names the file, the element, the attribute and its value."""
    path = prepare(tmp_path, f"<mujoco>{COSTLY[name]}</mujoco>")
    with pytest.raises(ValueError, match=r"^dog.xml: <\w+ \w+=.*> is no") as caught:
        robot_file.check(path)
    assert str(caught.value).isprintable()


def write_png(path: Path, width: int, height: int, rows: bytes) -> None:
    """Write a grey PNG file whose head may lie about its rows."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            checksum = zlib.crc32(kind + data)
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))


@pytest.mark.parametrize(
    ("width", "num_rows", "complaint"), [(4, 4, ""), (20_000, 4, "pixels"), (4, 1_000_000, "unpacks to more")]
)
def test_image_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, width: int, num_rows: int, complaint: str
) -> None:
    """Neither the head of a PNG file nor its compressed rows may ask for too much."""
    path = prepare(tmp_path, '<mujoco><asset><texture type="2d" file="a.png"/></asset></mujoco>')
    image = path.with_name("a.png")
    write_png(image, width, width, b"\0\0\0\0\0" * num_rows)
    if not complaint:
        assert robot_file.check(path) == {path, image}
        return
    with pytest.raises(ValueError, match=rf"dog.xml names 'a.png'.*{complaint}"):
        robot_file.check(path)


def test_latin_names_are_not_what_they_seem(tmp_path: Path) -> None:
    """A link whose name has a letter beyond ASCII is found under the name that MuJoCo uses."""
    path = prepare(tmp_path, '<mujoco><asset><mesh file="\u00e9.obj"/></asset></mujoco>')
    path.with_name("\u00e9.obj").symlink_to(tmp_path / "secret.obj")
    with pytest.raises(ValueError, match="outside the robot's folder"):
        robot_file.check(path)
    path.write_bytes(path.read_text().encode("latin-1"))
    with pytest.raises(ValueError, match="no XML in UTF-8"):
        robot_file.check(path)


def test_every_attribute_of_a_file_is_known() -> None:
    """An attribute of a newer MuJoCo that names a file or a folder does not escape the check."""
    words = set(mujoco.mj_printSchema(False, False).split())
    sides = {f"file{side}" for side in ("back", "down", "front", "left", "right", "up")}
    assert {word for word in words if re.search("file|path", word)} == {"file", "strippath", *sides}
    assert {word for word in words if word.endswith("dir")} == {"dir", "assetdir", "meshdir", "texturedir"}


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
