"""Plug-ins: components from installed packages and from files of the user's own.

An installed package names its components as entry points, such as

    [project.entry-points."robot_factory.tasks"]
    park = "parks.task:ParkConfig"

and a file is named on the command line, `plugins=[park.py]`; it registers its components itself. A folder
`conf/` in the package, or beside the file, joins Hydra's search path. `docs/plugins.md` walks through both.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin

from factory import registry

PREFIX = "robot_factory."
"""Start of the entry-point groups' names."""
_REGISTER: dict[str, Callable[[str, Any], Any]] = {
    "tasks": lambda _, config: registry.register_task(config),
    "policies": lambda _, config: registry.register_policy(config),
    "learners": lambda _, config: registry.register_learner(config),
    "robots": registry.register_robot,
    "energy_sources": lambda _, source: registry.register_energy_source(source),
}
"""Entry-point group without its prefix -> function that registers the name and object of an entry point."""

_log = logging.getLogger(__name__)

# What is loaded stays loaded: modules cannot be taken back either.
_conf_dirs: list[Path] = []
_seen_entry_points: set[EntryPoint] = set()


def load(files: Sequence[str | Path] = ()) -> None:
    """Load the entry points of installed packages, then `files`; a second call loads what is new.

    A package that fails is reported as a warning, so that a broken one does not stop jobs that do without it.

    Raises:
        ValueError: a file does not exist or fails; the message is one line.
    """
    # Packages come first, so that a file may build on them.
    # One scan of the installed packages serves all groups.
    installed = entry_points()
    for group in _REGISTER:
        for entry_point in installed.select(group=PREFIX + group):
            if entry_point not in _seen_entry_points:
                _seen_entry_points.add(entry_point)
                _load_entry_point(entry_point, group)
    for file in files:
        _load_file(Path(file).expanduser().absolute())


def conf_dirs() -> tuple[Path, ...]:
    """Return the config folders of the plug-ins that are loaded."""
    return tuple(_conf_dirs)


def resolve_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return command-line overrides with the paths in `plugins=[...]` made absolute, and these paths.

    The overrides are stored with the run. Absolute paths let it be resumed and evaluated from any folder.

    Raises:
        ValueError: the value is no list of files.
    """
    # Later values replace earlier ones, as for every key.
    resolved: list[str] = []
    files: list[str] = []
    for argument in overrides:
        if not argument.startswith("plugins="):
            resolved.append(argument)
            continue
        files = [str(Path(file).expanduser().absolute()) for file in _listed_files(argument)]
        # In quotes, which Hydra needs for spaces and other special characters of a path.
        quoted = [f"'{file.replace(chr(39), chr(92) + chr(39))}'" for file in files]
        resolved.append(f"plugins=[{','.join(quoted)}]")
    return resolved, files


def _listed_files(argument: str) -> list[str]:
    """Return the files of `plugins=[a.py,b.py]`; a single one needs no brackets."""
    value: Any = None
    with contextlib.suppress(HydraException):
        override = OverridesParser.create().parse_override(argument)
        # Several values without brackets are a sweep, for which all jobs would need the same components.
        if not override.is_sweep_override():
            value = override.value()
    files: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(file, str) and file for file in files):
        raise ValueError(f"{argument}: give a list of Python files, such as plugins=[park.py,gait.py]")
    return files


def _load_entry_point(entry_point: EntryPoint, group: str) -> None:
    """Register what an entry point names; a failure is a warning."""
    try:
        _REGISTER[group](entry_point.name, entry_point.load())
        _add_conf_dir(_conf_of_package(entry_point.module))
    except Exception as error:  # whatever a stranger's package raises
        distribution = "a package"
        if entry_point.dist:
            distribution = entry_point.dist.name
        name = f"{entry_point.group}: {entry_point.name} = {entry_point.value}"
        remedy = f"update or uninstall {distribution}"
        _log.warning("%s: plug-in left out (%s): %s; %s", distribution, name, brief(error), remedy)


def _load_file(path: Path) -> None:
    """Import a file under its own name, as if it were started from its own folder."""
    if not path.is_file() or path.suffix != ".py":
        raise ValueError(f"plugins={path}: no such file; give the path of a Python file")

    # Configs and environments are found again by module name, so the file must be what its name stands for.
    name = path.stem
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
        if _is_same_file(origin, path):
            return
        raise _name_is_taken(path)
    spec = importlib.util.find_spec(name)
    if spec is not None and not _is_same_file(spec.origin, path):
        raise _name_is_taken(path)

    _add_to_path(path.parent)
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a user's file raises
        raise ValueError(f"plugins={path}: {brief(error, path)}") from error
    _add_conf_dir(path.parent / "conf")


def _is_same_file(origin: str | None, path: Path) -> bool:
    # Links and relative paths may lead to one file under two names.
    return origin is not None and Path(origin).resolve() == path.resolve()


def _name_is_taken(path: Path) -> ValueError:
    return ValueError(f"plugins={path}: there is a module {path.stem!r} already; rename the file")


def _add_to_path(folder: Path) -> None:
    """Let this process, and those it starts, import what is in a folder.

    The folder comes first, as Python puts that of a script: a file imports its own neighbours, whatever their
    names.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Workers of vector environments and torchrun's processes import the file by its name, too.
    if str(folder) not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), *inherited]))


def _conf_of_package(module: str) -> Path | None:
    """Return the folder `conf/` of the innermost package around `module` that has one."""
    # `a.b.c`, then `a.b`, then `a`: the package nearest to the component decides.
    parts = module.split(".")
    for depth in range(len(parts), 0, -1):
        spec = importlib.util.find_spec(".".join(parts[:depth]))
        # A module that is no package has no folder of its own: one beside it belongs to somebody else.
        if spec is None or spec.submodule_search_locations is None:
            continue
        for folder in spec.submodule_search_locations:
            if (Path(folder) / "conf").is_dir():
                return Path(folder) / "conf"
    return None


def _add_conf_dir(folder: Path | None) -> None:
    """Put a config folder on Hydra's search path, if there is one."""
    if folder is None or not folder.is_dir() or folder in _conf_dirs:
        return
    _conf_dirs.append(folder)
    # Hydra asks its plug-ins whenever it composes; registering one a second time changes nothing.
    Plugins.instance().register(PluginConfigs)


class PluginConfigs(SearchPathPlugin):
    """Puts the config folders of plug-ins behind this project's own on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders, in the order in which the plug-ins were loaded."""
        for folder in _conf_dirs:
            search_path.append("plugin", f"file://{folder}")


def brief(error: BaseException, path: Path | None = None) -> str:
    """Return an error of somebody else's code on one line.

    Args:
        error: the error.
        path: file in which the user will look for it; the line is named if the error came through it.
    """
    message = " ".join(str(error).split())
    # Registrations and settings are refused with a ValueError, whose message stands for itself.
    if not isinstance(error, ValueError):
        message = f"{type(error).__name__}: {message}"
    # The innermost frame may be in a library; the user looks for the line in the file.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    if lines:
        return f"line {lines[-1]}: {message}"
    return message
