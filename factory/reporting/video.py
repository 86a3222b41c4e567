"""Videos of recorded motion: drawn, captioned, written as H.264 for any browser, with a strip of stills."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from factory.runtime.atomic_write import atomic_write

if TYPE_CHECKING:
    from factory.envs.rendering.camera import Camera, Recording
    from factory.envs.rendering.renderer import Renderer

_STRIP_FRAMES = 8
_STRIP_COLUMNS = 4
_STRIP_GAP_PX = 4
_BITS_709 = 1
_LIMITED_RANGE = 1


@dataclass(kw_only=True, frozen=True)
class VideoInfo:
    """Files and facts of a video."""

    path: Path
    """The video."""
    strip: Path
    """The strip of stills beside it."""
    num_frames: int
    """Frames in the video."""
    duration_s: float
    """Playing time [s]."""
    backend: str
    """Renderer that drew it, `opengl:egl`, `raycast`, `rgb_array`, ..."""


def draw_video(
    renderer: Renderer,
    recording: Recording,
    path: str | Path,
    *,
    fps: int,
    captions: Sequence[str] | None = None,
    camera: Camera | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> VideoInfo:
    """Draw a recording to a video at `path`, and `filmstrip.png` beside it; close the renderer.

    Args:
        renderer: draws snapshots of what moves.
        recording: one snapshot per frame.
        path: the video, `*.mp4`.
        fps: frames per second.
        captions: one text per frame, burnt into the lower left; lines are split at newlines.
        camera: by default one that follows the first body that moves.
        on_progress: takes the share of the frames that are drawn.

    Raises:
        ValueError: the captions are not one per frame, or as `write_mp4`.
    """
    from factory.envs.rendering.camera import Camera

    path = Path(path)
    num_frames = len(recording)
    if captions is not None and len(captions) != num_frames:
        raise ValueError(f"captions has {len(captions)} texts for {num_frames} frames: give one per frame")
    # The strip is made of frames already drawn, so none is drawn twice.
    stills: list[np.ndarray] = []
    wanted = set(_evenly(num_frames, _STRIP_FRAMES))

    def finished_frames() -> Iterator[np.ndarray]:
        pictures = renderer.frames(recording, camera=camera or Camera())
        for index, picture in enumerate(pictures):
            text = ""
            if captions is not None:
                text = captions[index]
            share = (index + 1) / num_frames
            frame = caption(picture, text, time_s=index / fps, progress=share)
            on_progress(share)
            if index in wanted:
                stills.append(frame)
            yield frame

    with closing(renderer):
        write_mp4(path, finished_frames(), fps=fps)
    strip = write_filmstrip(stills, path.with_name("filmstrip.png"))
    return VideoInfo(
        path=path,
        strip=strip,
        num_frames=num_frames,
        duration_s=num_frames / fps,
        backend=renderer.name,
    )


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], *, fps: int) -> Path:
    """Write frames `(height, width, 3)` uint8 as H.264 in yuv420p, the one encoding that every browser plays.

    Raises:
        ValueError: there is no frame, a side is odd, a frame is of another size, or fps is not positive.
    """
    import av
    from av.video.reformatter import Colorspace

    if fps < 1:
        raise ValueError(f"fps={fps}: must be at least 1")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = None
    shape = (0, 0, 3)
    with (
        atomic_write(path) as unfinished,
        av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as video,
    ):
        for frame in frames:
            if stream is None:
                shape = _checked(frame.shape)
                stream = video.add_stream(
                    "libx264", rate=Fraction(fps), options={"crf": "20", "preset": "veryfast"}
                )
                stream.height, stream.width, _ = shape
                stream.pix_fmt = "yuv420p"
                # Players without the colour matrix guess it from the size, and show other colours.
                context = stream.codec_context
                context.colorspace = _BITS_709
                context.color_primaries = _BITS_709
                context.color_trc = _BITS_709
                context.color_range = _LIMITED_RANGE
            # The encoder would scale it without a word.
            if frame.shape != shape:
                raise ValueError(
                    f"frame of shape {frame.shape} in a video of {shape}: all frames must be of one size"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            video.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("frames is empty: a video needs at least one frame")
        video.mux(stream.encode())
    return path


def write_filmstrip(frames: Sequence[np.ndarray], path: str | Path) -> Path:
    """Write one PNG of at most eight evenly spaced frames, four in a row, read like text.

    Raises:
        ValueError: there is no frame.
    """
    if len(frames) == 0:
        raise ValueError("frames is empty: a strip of stills needs at least one frame")
    chosen = [frames[index] for index in _evenly(len(frames), _STRIP_FRAMES)]
    # A short video has a short strip.
    columns = min(_STRIP_COLUMNS, len(chosen))
    # Rounded up, for an unfinished last row.
    rows = -(-len(chosen) // columns)
    height, width, _ = chosen[0].shape
    size = (
        columns * (width + _STRIP_GAP_PX) - _STRIP_GAP_PX,
        rows * (height + _STRIP_GAP_PX) - _STRIP_GAP_PX,
    )
    sheet = Image.new("RGB", size, "white")
    for index, frame in enumerate(chosen):
        row, column = divmod(index, columns)
        sheet.paste(
            Image.fromarray(frame), (column * (width + _STRIP_GAP_PX), row * (height + _STRIP_GAP_PX))
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(path)) as unfinished:
        sheet.save(unfinished, format="png")
    return Path(path)


def caption(frame: np.ndarray, text: str, *, time_s: float, progress: float) -> np.ndarray:
    """Return the frame with `text` lower left, the time lower right and a thin bar of `progress` (0-1)."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image, "RGBA")
    # All lengths grow with the picture; 180 rows are the smallest with readable text.
    unit = max(1, frame.shape[0] // 180)
    font = ImageFont.load_default(size=7.5 * unit)
    # The bar of progress takes the last unit; labels stay clear of it.
    bottom = image.height - 5 * unit
    if text:
        _label(draw, (4 * unit, bottom), text, font, unit, anchor="ld")
    _label(draw, (image.width - 4 * unit, bottom), f"{time_s:.1f} s", font, unit, anchor="rd")
    draw.rectangle((0, image.height - unit, progress * image.width, image.height), fill=(255, 255, 255, 200))
    return np.asarray(image)


def _label(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    unit: int,
    *,
    anchor: str,
) -> None:
    """Write white text on a translucent box whose lower left ("ld") or lower right ("rd") is `corner`."""
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=2 * unit)
    pad = 3 * unit
    width = right - left + 2 * pad
    height = bottom - top + 2 * pad
    # Text sits inside the box, so its own bearings (left, top) are taken off where it is written.
    x = corner[0]
    y = corner[1] - height
    if anchor == "rd":
        x -= width
    draw.rounded_rectangle((x, y, x + width, y + height), radius=2 * unit, fill=(15, 20, 28, 150))
    draw.multiline_text((x + pad - left, y + pad - top), text, font=font, spacing=2 * unit, fill="white")


def _evenly(length: int, count: int) -> list[int]:
    """Return at most `count` distinct indices spread evenly over `length`, first and last among them."""
    return sorted({int(index) for index in np.linspace(0, length - 1, min(count, length)).round()})


def _checked(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of a frame.

    Raises:
        ValueError: it is no RGB picture, or H.264 cannot code its size.
    """
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frame of shape {shape}: give (height, width, 3) uint8")
    if shape[0] % 2 or shape[1] % 2:
        raise ValueError(f"frame of {shape[1]}x{shape[0]} pixels: H.264 needs an even width and height")
    return shape[0], shape[1], shape[2]
