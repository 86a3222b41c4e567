"""The `runtime` config group: threads, evaluation, video, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from factory.envs.rendering import BACKENDS
from factory.validation import MOST_THREADS, require

# An hour of frames still fits the disk of a laptop.
_LONGEST_VIDEO_S = 3600.0
_VIDEO_SIDE_PX = range(64, 3841)
"""H.264 halves the colour planes, so sides are even; 3840 is the widest that every browser plays."""


@dataclass(kw_only=True)
class RuntimeConfig:
    """Settings around training: threads, evaluation, video, checkpoints."""

    torch_threads: int = 0
    """Threads of torch's operations; 0 takes every CPU this process may use."""
    cuda_graphs: bool = True
    """On a GPU, launch a rollout and an update as one CUDA graph each; false: operation by operation."""
    require_cuda_graphs: bool = False
    """Stop with an error where CUDA graphs are not possible; false: go on operation by operation."""
    eval_episodes: int | None = None
    """Episodes of the final deterministic evaluation; by default the task's number."""
    video_s: float = 12.0
    """Length of the video of the trained policy [s]; 0 makes none."""
    video_fps: int = 25
    """Frames per second of the video [Hz]."""
    video_width: int = 640
    """Width of the video [px], even; environments that draw their own pictures keep their size."""
    video_height: int = 360
    """Height of the video [px], even."""
    renderer: str = "auto"
    """auto (OpenGL where it works, else ray casting), opengl or raycast."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep."""
    register_model: bool = True
    """Log the exported policy as an MLflow model and register it under the task's name."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        threads = self.torch_threads
        remedy = f"must be in [0, {MOST_THREADS}]; 0 is automatic"
        require(0 <= threads <= MOST_THREADS, "runtime.torch_threads", threads, remedy)
        episodes = self.eval_episodes
        is_some = episodes is None or episodes >= 1
        require(is_some, "runtime.eval_episodes", episodes, "must be at least 1")
        # This is False for NaN.
        in_range = 0 <= self.video_s <= _LONGEST_VIDEO_S
        require(in_range, "runtime.video_s", self.video_s, f"must be in [0, {_LONGEST_VIDEO_S:g}]")
        require(1 <= self.video_fps <= 100, "runtime.video_fps", self.video_fps, "must be in [1, 100]")
        for side in ("video_width", "video_height"):
            pixels = getattr(self, side)
            usable = pixels in _VIDEO_SIDE_PX and pixels % 2 == 0
            first = _VIDEO_SIDE_PX[0]
            last = _VIDEO_SIDE_PX[-1]
            require(usable, f"runtime.{side}", pixels, f"must be an even number in [{first}, {last}]")
        # Without a checkpoint a finished run could be neither evaluated nor exported.
        keep = self.keep_checkpoints
        require(keep >= 1, "runtime.keep_checkpoints", keep, "must be at least 1")
        renderers = ", ".join(BACKENDS)
        require(self.renderer in BACKENDS, "runtime.renderer", self.renderer, f"choose one of {renderers}")
