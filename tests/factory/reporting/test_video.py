"""Tests of video files, strips of stills and captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import mujoco
import numpy as np
import pytest
from PIL import Image

from factory.envs.rendering.renderer import PassthroughRenderer, open_renderer
from factory.reporting.video import caption, draw_video, write_filmstrip, write_mp4

MODEL = """
<mujoco><worldbody><geom type="plane" size="0 0 1"/>
  <body><freejoint/><geom size=".2" rgba="1 0 0 1"/></body></worldbody></mujoco>
"""


def plain(count: int, *, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Return frames that grow brighter, each of one grey."""
    return [np.full((height, width, 3), 20 * index % 256, dtype=np.uint8) for index in range(count)]


def read(path: Path) -> list[np.ndarray]:
    """Return the frames of a video."""
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_a_video_reads_back_frame_by_frame(tmp_path: Path) -> None:
    """Count, size, order, rate and coding are those that a browser was promised."""
    path = write_mp4(tmp_path / "policy.mp4", iter(plain(12)), fps=25)
    frames = read(path)
    assert len(frames) == 12
    assert frames[0].shape == (48, 64, 3)
    assert [int(frame.mean()) for frame in frames] == pytest.approx(
        [20 * index for index in range(12)], abs=6
    )
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == (
            "h264",
            "yuv420p",
            25,
        )


def test_colours_survive_the_coding(tmp_path: Path) -> None:
    """A saturated colour comes back as it was drawn, for the matrix it was coded with is stated."""
    orange = np.full((48, 64, 3), (230, 130, 30), dtype=np.uint8)
    path = write_mp4(tmp_path / "policy.mp4", [orange] * 3, fps=25)
    with av.open(str(path)) as video:
        frame = next(video.decode(video=0))
        assert frame.colorspace == av.video.reformatter.Colorspace.ITU709
    assert frame.to_ndarray(format="rgb24", src_colorspace="ITU709").mean(axis=(0, 1)) == pytest.approx(
        [230, 130, 30], abs=8
    )


def test_a_crash_leaves_no_file(tmp_path: Path) -> None:
    """If the frames stop in an error, the old video stays and nothing half-made lies beside it."""
    path = write_mp4(tmp_path / "policy.mp4", plain(3), fps=25)
    before = path.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield from plain(5)
        raise RuntimeError("the renderer died")

    with pytest.raises(RuntimeError, match="the renderer died"):
        write_mp4(path, broken(), fps=25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "frames is empty"),
        (plain(1, width=63), "63x48 pixels: H.264 needs an even"),
        ([*plain(1), *plain(1, width=32)], "all frames must be of one size"),
        ([np.zeros((48, 64), dtype=np.uint8)], "give .height, width, 3."),
    ],
)
def test_bad_frames_are_refused(frames: list[np.ndarray], message: str, tmp_path: Path) -> None:
    """The message says what is wrong, and no file appears."""
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "policy.mp4", frames, fps=25)
    assert list(tmp_path.iterdir()) == []


def test_a_strip_shows_evenly_spaced_frames(tmp_path: Path) -> None:
    """Eight stills, four in a row, from the first frame to the last."""
    frames = [np.full((48, 64, 3), index, dtype=np.uint8) for index in range(71)]
    sheet = np.asarray(Image.open(write_filmstrip(frames, tmp_path / "strip.png")))
    assert sheet.shape == (2 * 48 + 4, 4 * 64 + 3 * 4, 3)
    assert [sheet[10, 68 * column + 10, 0] for column in range(4)] == [0, 10, 20, 30]
    assert [sheet[60, 68 * column + 10, 0] for column in range(4)] == [40, 50, 60, 70]


def test_a_strip_of_a_short_film_repeats_nothing(tmp_path: Path) -> None:
    """Three frames make one row of three."""
    sheet = Image.open(write_filmstrip(plain(3), tmp_path / "strip.png"))
    assert sheet.size == (3 * 64 + 2 * 4, 48)


def test_captions_are_written_in_the_lower_left() -> None:
    """Text changes pixels there and nowhere above the middle; other text, other pixels."""
    frame = np.full((180, 320, 3), 90, dtype=np.uint8)
    bare, one, two = (caption(frame, text, time_s=0.0, progress=0.0) for text in ("", "walk 1 m/s", "stand"))
    changed = (one != bare).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 200
    assert rows.min() > 90
    assert columns.max() < 160
    assert one.max() > 200
    assert (one != two).any()


def test_progress_is_a_bar_along_the_bottom() -> None:
    """Half way through, the left half of the last row is bright."""
    frame = np.zeros((180, 320, 3), dtype=np.uint8)
    last = caption(frame, "", time_s=1.0, progress=0.5)[-1, :, 0]
    assert (last[:155] > 150).all()
    assert (last[165:] == 0).all()


def test_a_video_of_recorded_positions(tmp_path: Path) -> None:
    """Video and strip lie side by side; the report says what was made, and captions are in the picture."""
    model = mujoco.MjModel.from_xml_string(MODEL)
    qpos = np.array([[0.1 * step, 0, 0.2, 1, 0, 0, 0] for step in range(10)])
    path = tmp_path / "videos" / "policy.mp4"
    draw = lambda: open_renderer(model, width=96, height=64, backend="raycast")  # noqa: E731
    info = draw_video(draw(), qpos, path, fps=5, captions=["go"] * 10)
    captioned = read(path)
    assert (info.num_frames, info.duration_s, info.backend) == (10, 2.0, "raycast")
    assert sorted(path.parent.iterdir()) == [info.strip, info.path]
    assert len(captioned) == 10
    assert captioned[0].shape == (64, 96, 3)
    assert Image.open(info.strip).size == (4 * 96 + 3 * 4, 2 * 64 + 4)
    draw_video(draw(), qpos, path, fps=5)
    assert np.abs(read(path)[0].astype(int) - captioned[0])[40:, :40].max() > 40


def test_captions_must_be_one_per_frame(tmp_path: Path) -> None:
    """Too few texts are refused before anything is drawn."""
    with pytest.raises(ValueError, match="captions has 1 texts for 2 frames"):
        draw_video(PassthroughRenderer(), plain(2), tmp_path / "policy.mp4", fps=5, captions=["go"])


def test_a_video_of_pictures_the_environment_drew_itself(tmp_path: Path) -> None:
    """Frames come in order and whole, but for the last row or column of an odd size."""
    info = draw_video(PassthroughRenderer(), plain(8, width=65, height=49), tmp_path / "policy.mp4", fps=5)
    frames = read(info.path)
    assert (info.backend, len(frames), frames[0].shape) == ("rgb_array", 8, (48, 64, 3))
    assert [int(frame[:20].mean()) for frame in frames] == pytest.approx(
        [20 * index for index in range(8)], abs=6
    )
