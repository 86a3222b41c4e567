"""Plug-ins: components from installed packages and from files of the user's own.

An installed package names its components as entry points, such as

    [project.entry-points."robot_factory.tasks"]
    park = "parks.task:ParkConfig"

and a file is named on the command line, `plugins=[park.py]`; it registers its components itself. A folder `conf/` in
the package, or beside the file, joins Hydra's search path. `docs/plugins.md` walks through both.
"""

from __future__ import annotations

import importlib.util
import logging
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
"""Entry-point group, without its prefix -> what registers an entry point's name and object."""

_log = logging.getLogger(__name__)
_conf_dirs: list[Path] = []
_seen_entry_points: set[EntryPoint] = set()


def load(files: Sequence[str | Path] = ()) -> None:
    """Load the entry points of installed packages, then `files`; those that are loaded already are left alone.

    A package that fails is reported as a warning, so that a broken one does not stop jobs that do without it.

    Raises:
        ValueError: a file does not exist or fails; the message is one line.
    """
    for group in _REGISTER:
        for entry_point in entry_points(group=PREFIX + group):
            if entry_point not in _seen_entry_points:
                _seen_entry_points.add(entry_point)
                _load_entry_point(entry_point, group)
    for file in files:
        _load_file(Path(file).expanduser().absolute())


def resolve_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return command-line overrides with the paths in `plugins=[...]` made absolute, and these paths.

    The overrides are stored with the run. Absolute paths let it be resumed and evaluated from any folder.

    Raises:
        ValueError: the value is no list of files.
    """
    resolved: list[str] = []
    files: list[str] = []
    for argument in overrides:
        if not argument.startswith("plugins="):
            resolved.append(argument)
            continue
        files = [str(Path(file).expanduser().absolute()) for file in _listed_files(argument)]
        quoted = ",".join(f"'{file}'" for file in files)
        resolved.append(f"plugins=[{quoted}]")
    return resolved, files


def _listed_files(argument: str) -> list[str]:
    """Return the files of `plugins=[a.py,b.py]`; a single one needs no brackets."""
    try:
        override = OverridesParser.create().parse_override(argument)
        value: Any = None if override.is_sweep_override() else override.value()
    except HydraException:
        value = None
    files: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(file, str) and file for file in files):
        raise ValueError(f"{argument}: give a list of Python files, such as plugins=[park.py,gait.py]")
    return files


def conf_dirs() -> tuple[Path, ...]:
    """Return the config folders of the plug-ins that are loaded."""
    return tuple(_conf_dirs)


def _load_entry_point(entry_point: EntryPoint, group: str) -> None:
    try:
        _REGISTER[group](entry_point.name, entry_point.load())
        _add_conf_dir(_conf_of_package(entry_point.module))
    except Exception as error:  # whatever a stranger's package raises
        source = entry_point.dist.name if entry_point.dist else "a package"
        name = f"{entry_point.group}: {entry_point.name} = {entry_point.value}"
        _log.warning(
            "%s: its plug-in (%s) is left out: %s; update or uninstall %s",
            source,
            name,
            _brief(error),
            source,
        )


def _load_file(path: Path) -> None:
    """Import a file as the module of its name, as if it were started from its own folder."""
    if not path.is_file():
        raise ValueError(f"plugins={path}: no such file; give the path of a Python file")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path.resolve():
        return
    # Configs and environments are found again by module name, in this process and in those it starts.
    if loaded is not None or (importlib.util.find_spec(name) is not None and not _is_found_as(name, path)):
        raise ValueError(f"plugins={path}: there is a module {name!r} already; rename the file")
    # First, as Python does it for a script: the file imports its own neighbours, whatever their names.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"plugins={path}: not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        del sys.modules[name]
        raise ValueError(f"plugins={path}: {_place(error, path)}{_brief(error)}") from error
    _add_conf_dir(path.parent / "conf")


def _is_found_as(name: str, path: Path) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path.resolve()


def _conf_of_package(module: str) -> Path | None:
    """Return the folder `conf/` of the innermost package around `module` that has one."""
    parts = module.split(".")
    for depth in range(len(parts), 0, -1):
        spec = importlib.util.find_spec(".".join(parts[:depth]))
        # A module that is no package has no folder of its own: one beside it belongs to somebody else.
        for folder in (spec.submodule_search_locations if spec else None) or ():
            if (Path(folder) / "conf").is_dir():
                return Path(folder) / "conf"
    return None


def _add_conf_dir(folder: Path | None) -> None:
    if folder is None or not folder.is_dir() or folder in _conf_dirs:
        return
    _conf_dirs.append(folder)
    Plugins.instance().register(PluginConfigs)


class PluginConfigs(SearchPathPlugin):
    """Puts the config folders of plug-ins behind this project's own on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders, in the order in which the plug-ins were loaded."""
        for folder in _conf_dirs:
            search_path.append("plugin", f"file://{folder}")


def _brief(error: BaseException) -> str:
    """Return type and message on one line."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) else f"{type(error).__name__}: {message}"


def _place(error: BaseException, path: Path) -> str:
    """Return where in the file an error arose, as a prefix of the message."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"line {lines[-1]}: " if lines else ""
