"""Tests of cameras and of both renderers; those of OpenGL run where a context can be had."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import mujoco
import numpy as np
import pytest

from factory.envs.rendering import opengl
from factory.envs.rendering.camera import Camera
from factory.envs.rendering.renderer import open_renderer
from factory.envs.rendering.scenery import add_scenery
from factory.envs.rendering.surface import GAMMA, Surfaces

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 160, 120
LEVEL = Camera(azimuth_deg=90.0, elevation_deg=-20.0, distance_m=4.0)

SCENE = """
<mujoco>
  <statistic center="0 0 0" extent="3"/>
  <asset>
    <material name="green" rgba="0 1 0 1"/>
    <texture name="checks" type="2d" builtin="checker" rgb1="0 0 0" rgb2="1 1 1" width="64" height="64"/>
    <material name="checks" texture="checks" texuniform="true" texrepeat="1 1"/>
  </asset>
  <worldbody>
    <light pos="0 0 4"/>
    {floor}
    <camera name="top" pos="0 0 6" xyaxes="1 0 0 0 1 0" fovy="45"/>
    {geoms}
  </worldbody>
</mujoco>
"""
BALL = '<body name="ball"><freejoint/><geom size=".3" rgba="1 0 0 1"/></body>'
FLOOR = '<geom type="plane" size="0 0 1" rgba="1 1 1 1"/>'


def scene(geoms: str = BALL, *, floor: str = "") -> mujoco.MjModel:
    """Compile a scene of some geoms."""
    return mujoco.MjModel.from_xml_string(SCENE.format(geoms=geoms, floor=floor))


def at(*points: tuple[float, float, float]) -> np.ndarray:
    """Return positions `(F, 7)` of a free body at each point, unrotated."""
    return np.array([[*point, 1, 0, 0, 0] for point in points], dtype=float)


def picture(
    model: mujoco.MjModel, qpos: np.ndarray, camera: Camera = LEVEL, backend: str = "raycast"
) -> np.ndarray:
    """Return the pictures of `qpos` as int, so that differences have signs."""
    with closing(open_renderer(model, width=WIDTH, height=HEIGHT, backend=backend)) as renderer:
        return renderer.render(qpos, camera=camera).astype(int)


def reddish(frame: np.ndarray) -> np.ndarray:
    """Return which pixels `(H, W)` are red."""
    return frame[..., 0] > 1.6 * np.maximum(frame[..., 1], frame[..., 2])


@pytest.fixture
def unprobed() -> Iterator[None]:
    """Forget which OpenGL platform works, before and after."""
    opengl._first_working.cache_clear()
    yield
    opengl._first_working.cache_clear()


needs_opengl = pytest.mark.skipif("opengl.working_platform() is None", reason="no OpenGL context here")
backends = pytest.mark.parametrize("backend", ["raycast", pytest.param("opengl", marks=needs_opengl)])


@backends
def test_a_point_lands_where_the_pinhole_model_says(backend: str) -> None:
    """A ball right of and above the axis of a fixed camera projects to the pixel of its centre."""
    frame = picture(scene(), at((0.8, -0.5, 0.0)), Camera(fixed="top"), backend)[0]
    rows, columns = np.nonzero(reddish(frame))
    pixels_per_m = HEIGHT / 2 / (6.0 * np.tan(np.radians(22.5)))
    assert columns.mean() == pytest.approx(WIDTH / 2 - 0.5 + 0.8 * pixels_per_m, abs=1.0)
    assert rows.mean() == pytest.approx(HEIGHT / 2 - 0.5 + 0.5 * pixels_per_m, abs=1.0)


@backends
def test_the_nearer_geom_hides_the_farther(backend: str) -> None:
    """A green box in front of the red ball is all that is seen in the middle."""
    model = scene(BALL + '<geom type="box" size=".5 .1 .5" pos="0 -1 .3" material="green"/>')
    frame = picture(model, at((0, 0, 0)), backend=backend)[0]
    red, green, _ = frame[HEIGHT // 2, WIDTH // 2]
    assert green > 2 * red
    assert not reddish(frame).any()


@needs_opengl
def test_both_backends_draw_the_same_silhouette() -> None:
    """Ball, box and capsule cover the same pixels, seen by a following camera that looks down at a slant."""
    solids = '<geom type="box" size=".3 .2 .4"/><geom type="capsule" size=".1" fromto="0 0 0 1 .5 .7"/>'
    model = scene(f'<body><freejoint/><geom size=".3" pos="-.5 0 0"/>{solids}</body>')
    model.geom_rgba[:] = (1, 0, 0, 1)
    pose = np.array([[0.3, 0.2, 1.0, 0.8, 0.2, 0.3, 0.4]])
    camera = Camera(azimuth_deg=37.0, elevation_deg=-25.0, distance_m=2.0)
    ours, theirs = (reddish(picture(model, pose, camera, backend)[0]) for backend in ("raycast", "opengl"))
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.95


@needs_opengl
def test_both_backends_lay_the_floor_pattern_alike() -> None:
    """Dark checks of infinite and of finite planes lie at the same places."""
    for size in ("0 0 1", "7 5 1"):
        model = scene(floor=f'<geom type="plane" size="{size}" material="checks"/>')
        frames = [picture(model, at((0, 0, -9)), Camera(fixed="top"), b)[0] for b in ("raycast", "opengl")]
        dark = [frame.sum(axis=2) < frame.sum(axis=2).mean() for frame in frames]
        assert (dark[0] == dark[1]).mean() > 0.95


def test_a_shadow_falls_away_from_the_sun() -> None:
    """The sun stands left of the camera: a ball over the floor darkens floor to its right only."""
    model = scene(floor=FLOOR)
    with_ball, without = picture(model, at((0, 0, 0.8), (0, 0, -5)), Camera(fixed="top"))
    darker = (without.sum(axis=2) - with_ball.sum(axis=2) > 60) & ~reddish(with_ball)
    _, columns = np.nonzero(darker)
    assert len(columns) > 50
    assert columns.min() > WIDTH // 2 - 12
    assert columns.mean() > WIDTH // 2 + 5


def test_edges_are_smoothed() -> None:
    """Between the ball's red and the sky there are pixels of neither colour."""
    blue = picture(scene(), at((0, 0, 0)))[0, ..., 2]
    ball, sky = blue[HEIGHT // 2, WIDTH // 2], blue.max()
    assert 20 < ((blue > ball + 60) & (blue < sky - 60)).sum() < 200


def test_hidden_groups_are_not_drawn() -> None:
    """A collision geom of group 3 shows nothing and casts no shadow; the same geom of group 2 does."""
    floor = FLOOR + '<geom type="box" size=".4 .4 .4" pos="0 0 1" rgba="1 0 0 1" group="{}"/>'
    hidden, shown = (scene("", floor=floor.format(group)) for group in (3, 2))
    empty, camera = scene("", floor=FLOOR), Camera(fixed="top")
    nowhere = np.zeros((1, 0))
    assert (picture(hidden, nowhere, camera) == picture(empty, nowhere, camera)).all()
    assert reddish(picture(shown, nowhere, camera)[0]).sum() > 100


def test_a_translucent_geom_shows_what_is_behind() -> None:
    """A red ball is still seen through a clear green pane, mixed with green."""
    pane = '<geom type="box" size="1 .02 1" pos="0 -1 .3" rgba="0 1 0 .4"/>'
    through = picture(scene(BALL + pane), at((0, 0, 0)))[0, HEIGHT // 2, WIDTH // 2]
    alone = picture(scene(), at((0, 0, 0)))[0, HEIGHT // 2, WIDTH // 2]
    assert through[1] > alone[1] + 40
    assert through[0] > 1.3 * through[2]


def test_mesh_geoms_are_drawn() -> None:
    """A tetrahedron given by its vertices appears in its colour."""
    mesh = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>'
        '<geom type="mesh" mesh="m" rgba="1 0 0 1"/></worldbody></mujoco>'
    )
    assert reddish(picture(mesh, np.zeros((1, 0)))[0]).sum() > 100


def test_material_colours_a_geom_unless_it_has_its_own() -> None:
    """MuJoCo's rule: the default grey gives way to the material, any other colour does not."""
    own = '<geom size=".1" material="green"/><geom size=".1" material="green" rgba="0 0 1 1"/>'
    surfaces = Surfaces(scene(own))
    assert surfaces.color == pytest.approx(np.array([[0, 1, 0], [0, 0, 1]]))


def test_distant_checks_blend_to_their_mean() -> None:
    """A footprint of many checks is grey, one inside a check is its colour."""
    pattern = Surfaces(scene("", floor='<geom type="plane" size="0 0 1" material="checks"/>')).patterns[0]
    place = np.array([0.5]), np.array([0.5])
    near, far = (pattern.color(*place, *(np.array([width]),) * 2)[0] for width in (0.01, 500.0))
    assert float(near[0]) in (0.0, 1.0)
    assert far[0] ** (1 / GAMMA) == pytest.approx(0.5 ** (1 / GAMMA), abs=0.01)


def test_the_camera_follows_the_moving_body() -> None:
    """However far the ball rolls, it stays in the middle of the picture."""
    track = at(*((0.05 * step, 0.0, 0.0) for step in range(40)))
    for frame in picture(scene(), track)[10:30:5]:
        rows, columns = np.nonzero(reddish(frame))
        assert (rows.mean(), columns.mean()) == pytest.approx((HEIGHT / 2, WIDTH / 2), abs=2.0)


def test_the_camera_does_not_shake() -> None:
    """A body that trembles moves the eye far less than itself."""
    tremble = at(*((0.1 * (-1) ** step, 0.0, 0.0) for step in range(60)))
    eyes = np.array([view.eye for view in LEVEL.views(scene(), tremble)])
    assert np.abs(np.diff(eyes[:, 0])).max() < 0.02


def test_the_camera_jumps_with_a_new_episode() -> None:
    """Where the body is put back to the start, so is the eye, with no frame in between."""
    track = at(
        *((0.05 * step, 0.0, 0.0) for step in range(80)), *((0.05 * step, 0.0, 0.0) for step in range(20))
    )
    eyes = np.array([view.eye for view in LEVEL.views(scene(), track)])
    assert eyes[79, 0] - eyes[80, 0] > 3.0
    assert eyes[79, 0] == pytest.approx(79 * 0.05, abs=0.4)


def test_videos_longer_than_the_queue_come_in_order() -> None:
    """Every picture of a video is the picture of its own row."""
    track = at(*((0.0, 0.0, 0.02 * step) for step in range(25)))
    frames = picture(scene(), track, Camera(fixed="top"))
    areas = [reddish(frame).sum() for frame in frames]
    assert areas[0] < areas[12] < areas[24]
    assert (frames[7] == picture(scene(), track[7:8], Camera(fixed="top"))[0]).all()


@pytest.mark.parametrize("setting", ["disable", "off", "0"])
def test_mujoco_gl_off_means_raycast(setting: str, monkeypatch: pytest.MonkeyPatch, unprobed: None) -> None:
    """A user who switched OpenGL off gets no OpenGL, and asking for it by name says so."""
    monkeypatch.setenv("MUJOCO_GL", setting)
    with closing(open_renderer(scene(), width=8, height=8)) as renderer:
        assert renderer.name == "raycast"
    with pytest.raises(RuntimeError, match="backend=opengl"):
        open_renderer(scene(), width=8, height=8, backend="opengl")


def test_a_platform_that_cannot_draw_is_found_out() -> None:
    """The probe of a platform that does not exist is a plain no, and leaves this process whole."""
    assert not opengl._draws("none_such")


@needs_opengl
def test_a_crash_of_the_driver_costs_nothing_but_the_look(caplog: pytest.LogCaptureFixture) -> None:
    """The process that draws is killed after two of five frames: the others are ray-cast, and one line says
    so.
    """
    with closing(open_renderer(scene(), width=512, height=512)) as renderer:
        frames = renderer.frames(at(*[(0.0, 0.0, 0.0)] * 5), camera=LEVEL)
        drawn = [next(frames) for _ in range(2)]
        renderer._renderer._process.kill()  # type: ignore[attr-defined]
        drawn += list(frames)
        assert renderer.name == "raycast"
    assert [reddish(frame.astype(int)).any() for frame in drawn] == [True] * 5
    assert "stopped with signal 9; the remaining frames are drawn by ray casting" in caplog.text
    assert len(caplog.records) == 1


@needs_opengl
def test_the_driver_is_never_loaded_into_this_process() -> None:
    """Neither EGL, OSMesa nor their LLVM is mapped by a process that has drawn: triton's LLVM would crash
    with it.
    """
    code = (
        "import factory, mujoco, numpy as np\n"
        "from factory.envs.rendering.camera import Camera\n"
        "from factory.envs.rendering.renderer import open_renderer\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom "
        'size=".3"/></worldbody></mujoco>\')\n'
        "renderer = open_renderer(model, width=64, height=48, backend='opengl')\n"
        "renderer.render(np.zeros((1, 0)), camera=Camera(distance_m=2.0))\n"
        "print(open('/proc/self/maps').read())"
    )
    for setting in ("", "egl", "osmesa", "nonsense"):
        environment = {**os.environ, "MUJOCO_GL": setting}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert "libmujoco" in done.stdout
        assert not re.search("LLVM|libEGL|OSMesa|libGLX", done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="OSMesa is an option on Linux only")
def test_a_chosen_platform_that_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, unprobed: None, caplog: pytest.LogCaptureFixture
) -> None:
    """`MUJOCO_GL=osmesa` without OSMesa: mujoco can be imported, and the video is drawn by other means."""
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(opengl, "_draws", lambda platform: False)
    with closing(open_renderer(scene(), width=8, height=8)) as renderer:
        assert renderer.name == "raycast"
    assert caplog.messages == ["MUJOCO_GL=osmesa does not draw on this machine; using ray casting"]


@needs_opengl
def test_mujocos_own_renderer_still_works() -> None:
    """A user's `mujoco.Renderer` opens the platform of MUJOCO_GL when it is made, not at import."""
    code = (
        "import factory, mujoco\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom "
        'size=".3"/></worldbody></mujoco>\')\n'
        "renderer = mujoco.Renderer(model, 48, 64)\n"
        "renderer.update_scene(mujoco.MjData(model))\n"
        "print(renderer.render().shape)"
    )
    environment = {**os.environ, "MUJOCO_GL": opengl.working_platform() or ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(48, 64, 3)"


@needs_opengl
def test_auto_takes_opengl_where_it_works() -> None:
    """The renderer says which platform draws."""
    with closing(open_renderer(scene(), width=8, height=8)) as renderer:
        assert renderer.name == f"opengl:{opengl.working_platform()}"


@needs_opengl
def test_opengl_pictures_may_exceed_the_models_buffer() -> None:
    """The offscreen buffer is sized by the video, not by the model."""
    model = scene()
    with closing(
        open_renderer(model, width=model.vis.global_.offwidth + 2, height=16, backend="opengl")
    ) as renderer:
        frames = renderer.render(at((0, 0, 0)), camera=LEVEL)
    assert frames.shape == (1, 16, model.vis.global_.offwidth + 2, 3)
    assert reddish(frames[0].astype(int)).any()


def test_bad_settings_name_the_key_and_the_choices() -> None:
    """Each error is one line with the key, the value and what would do."""
    model = scene()
    with pytest.raises(ValueError, match="backend=vulkan: choose one of auto, opengl, raycast"):
        open_renderer(model, width=8, height=8, backend="vulkan")
    with pytest.raises(ValueError, match="width=0"):
        open_renderer(model, width=0, height=8)
    with pytest.raises(ValueError, match=r"camera.track=tail: .* ball"):
        Camera(track="tail").views(model, at((0, 0, 0)))
    with pytest.raises(ValueError, match=r"camera.fixed=side: .* top"):
        Camera(fixed="side").views(model, at((0, 0, 0)))
    with pytest.raises(ValueError, match=r"\(frames, 7\)"):
        LEVEL.views(model, np.zeros((1, 3)))


BARE = (
    '<mujoco><worldbody><body pos="0 0 1"><joint axis="0 1 0"/><geom size=".2"/></body></worldbody></mujoco>'
)


def test_a_bare_model_gets_floor_light_and_sky() -> None:
    """What is added is seen, and the motion stays what it was, bit for bit."""
    spec = mujoco.MjSpec.from_string(BARE)
    add_scenery(spec)
    dressed = spec.compile()
    assert (dressed.nlight, dressed.ngeom) == (1, 2)
    assert dressed.tex_type.tolist().count(mujoco.mjtTexture.mjTEXTURE_SKYBOX) == 1
    assert dressed.geom("scenery_floor").pos[2] == pytest.approx(0.8)
    ends = []
    for model in (mujoco.MjModel.from_xml_string(BARE), dressed):
        data = mujoco.MjData(model)
        data.qvel[0] = 3.0
        mujoco.mj_step(model, data, nstep=100)
        ends.append((data.qpos.tolist(), data.qvel.tolist()))
    assert ends[0] == ends[1]


def test_a_whole_scene_stays_as_it_is() -> None:
    """A model's own floor, light and sky are kept, and no other is added."""
    sky = '<asset><texture type="skybox" builtin="flat" width="8" height="8" rgb1="1 0 0"/></asset>'
    light = '<worldbody><light/><geom name="mine" type="plane" size="1 1 1"/></worldbody>'
    spec = mujoco.MjSpec.from_string(f"<mujoco>{sky}{light}</mujoco>")
    add_scenery(spec)
    model = spec.compile()
    assert (model.ngeom, model.nlight, model.ntex) == (1, 1, 1)
