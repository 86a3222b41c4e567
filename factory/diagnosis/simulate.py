"""Physics engines that run here, and renderers for videos."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from importlib.util import find_spec

import torch

from factory.diagnosis.finding import Finding, Status
from factory.diagnosis.machine import HostEnvironment, nvidia_gap

_GPU_PACKAGES = {"warp": "warp-lang", "mujoco_warp": "mujoco-warp"}
_TRIAL_WORLDS = 16
_TRIAL_STEPS = 50


def examine(host: HostEnvironment) -> list[Finding]:
    """Return the physics engines, each tried with real steps."""
    return [_cpu_engine(), _gpu_engine(host)]


def examine_drawing(host: HostEnvironment) -> list[Finding]:
    """Return the renderer of videos; OpenGL is tried in a process of its own."""
    from factory.envs.rendering.opengl import working_platform

    platform = working_platform()
    if platform:
        text = f"OpenGL works through {platform}: videos are drawn by MuJoCo's own renderer"
        return [
            Finding(
                section="draw", name="renderer", status=Status.OK, text=text, facts={"platform": platform}
            )
        ]
    # Ray casting always works, so a missing OpenGL is a limit and no failure.
    setting = os.environ.get("MUJOCO_GL", "")
    # Drivers in a container only offer OpenGL if its capabilities include graphics.
    package = "sudo apt-get install libegl1, or libosmesa6 where there is no GPU"
    if host.nvidia_driver and host.container:
        package += "; start the container with -e NVIDIA_DRIVER_CAPABILITIES=all"
    if sys.platform == "darwin":
        package = "run where macOS lets a process open a window server connection"
    remedy = package
    if setting:
        remedy = f"unset MUJOCO_GL={setting}, which may switch OpenGL off; {package}"
    return [
        Finding(
            section="draw",
            name="renderer",
            status=Status.LIMITED,
            text="OpenGL does not work here: videos are drawn by ray casting, slower and plainer",
            remedy=remedy,
            facts={"platform": None},
        )
    ]


def _cpu_engine() -> Finding:
    versions = {name: _version(name) for name in ("mujoco", "mjbatch", "torch")}
    shown = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    try:
        trial = _try_steps("mujoco", "cpu")
    except Exception as error:  # a library that does not load, a processor without the instructions
        text = f"physics=mujoco does not run: {type(error).__name__}: {error} ({shown})"
        remedy = "reinstall the project with its dependencies: pip install --force-reinstall mujoco mjbatch"
        return _engine("physics=mujoco, CPU", Status.MISSING, text, remedy, versions)
    return _engine("physics=mujoco, CPU", Status.OK, f"{trial} ({shown})", "", versions)


def _gpu_engine(host: HostEnvironment) -> Finding:
    name = "physics=warp, GPU"
    versions = {package: _version(package) for package in _GPU_PACKAGES.values()}
    shown = ", ".join(f"{package} {version or 'not installed'}" for package, version in versions.items())
    # Packages first, then the GPU: installing them is the step that every machine with a GPU needs.
    absent = [package for module, package in _GPU_PACKAGES.items() if find_spec(module) is None]
    if absent:
        remedy = "pip install 'robot-factory[gpu]' (in a checkout: pip install -e '.[gpu]')"
        return _engine(name, Status.MISSING, f"{' and '.join(absent)} not installed", remedy, versions)
    if not torch.cuda.is_available():
        why, remedy = nvidia_gap(host)
        why = why or f"torch {torch.__version__} sees no CUDA device"
        return _engine(name, Status.MISSING, f"{why}; {shown}", remedy or "see machine: GPU", versions)
    try:
        trial = _try_steps("warp", "cuda")
    except Exception as error:  # as above: a driver that is too old, a kernel that does not compile
        text = f"it does not run: {type(error).__name__}: {error} ({shown})"
        return _engine(
            name, Status.MISSING, text, "update the NVIDIA driver and the packages of extra gpu", versions
        )
    return _engine(name, Status.OK, f"{trial} ({shown}, CUDA {torch.version.cuda})", "", versions)


def _engine(name: str, status: Status, text: str, remedy: str, versions: dict[str, str | None]) -> Finding:
    return Finding(
        section="simulate", name=name, status=status, text=text, remedy=remedy, facts=dict(versions)
    )


def _try_steps(physics: str, device: str) -> str:
    """Step a task for a moment and return a description of the trial.

    Raises:
        ValueError: an observation is not finite.
    """
    # The smallest task: it shows that the engine loads, compiles and steps, in a second or two.
    from factory.envs.tasks.cartpole import CartpoleSwingup

    env = CartpoleSwingup(num_envs=_TRIAL_WORLDS, physics=physics, device=device, seed=0)
    env.reset(seed=0)
    action = torch.ones(_TRIAL_WORLDS, 1, device=device)
    for _ in range(_TRIAL_STEPS):
        observation, *_ = env.step(action)
    env.close()
    # A broken engine may step without an error and return NaN.
    if not isinstance(observation, torch.Tensor) or not observation.isfinite().all():
        raise ValueError("the observations of a simulated cart-pole are not finite")
    return f"tried: {_TRIAL_WORLDS} worlds x {_TRIAL_STEPS} control steps of the cart-pole, all finite"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
