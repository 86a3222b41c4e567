"""The user's robot file in the run folder, so that the run goes on wherever the folder is moved.

The copy is data, as everything in a run folder: `robot_file.check` reads it before MuJoCo does, and it may
name files inside the folder only.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from factory.envs.robots import robot_file
from factory.training import stored_config

_FOLDER = "robot"
_MODEL = "model"
"""Folder of the file itself; folders of meshes beside the user's folder are copied to places beside it."""
_MAX_BYTES = 256 << 20


def keep(robot: str, run_dir: Path) -> str:
    """Copy a robot's file, and the files it names, into the run folder; return a line if that was not done.

    Args:
        robot: setting `robot`; only `file:<path>` has a file of the user's.
        run_dir: the run folder.
    """
    if not robot.startswith("file:"):
        return ""
    path = Path(robot.removeprefix("file:")).expanduser().absolute()
    if path.is_relative_to(run_dir.absolute()):
        return ""
    files = robot_file.check(path)
    size = sum(file.stat().st_size for file in files)
    # Links may make a place that looks near lie elsewhere.
    places = {file: os.path.normpath(Path(_MODEL) / os.path.relpath(file, path.parent)) for file in files}
    if size > _MAX_BYTES or any(place.startswith("..") for place in places.values()):
        return f"{path} stays where it is ({size >> 20} MiB); name it by robot= where the run is moved to"

    # A kill in between must not leave half a robot.
    unfinished = run_dir / f".{_FOLDER}.{os.getpid()}.tmp"
    for file, place in places.items():
        (unfinished / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, unfinished / place)
    shutil.rmtree(run_dir / _FOLDER, ignore_errors=True)
    unfinished.rename(run_dir / _FOLDER)
    return ""


def use(plain: dict[str, Any], run_dir: Path) -> None:
    """Let a stored configuration name the copy in its run folder, in place; nothing changes without one."""
    robot = plain.get("robot")
    if not isinstance(robot, str) or not robot.startswith("file:"):
        return
    copy = run_dir.absolute() / _FOLDER / _MODEL / Path(robot.removeprefix("file:")).name
    # A name that no system takes is no file either; `Path.is_file` would raise.
    if os.path.isfile(copy):
        stored_config.put(plain, "robot", f"file:{copy}")
