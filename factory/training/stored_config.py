"""The configuration of a run folder is data: what would run code or leave the folder, the user has to name.

A run folder may come from anybody. Its configuration is therefore never composed or interpolated, and the
settings in `RULES` count only if they are harmless or if the command line names them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.energy.config import EnergyConfig
from factory.registry import REGISTRIES

_PLAIN_TEXT = re.compile(r"[\w +-]{0,100}")
"""Texts that can name neither file, module nor address."""
_BARE_VALUE = re.compile(r"[\w./:@+-]+")
"""Texts that need no quotes on a command line."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A setting that the user has to name, unless its value is harmless."""

    key: str
    meaning: str
    """Effect of other values, to complete `the run folder names ...`."""
    is_harmless: Callable[[Any, Path], bool]
    """Judges a value that a run folder holds."""


def _is_empty(value: Any, _: Path) -> bool:
    return value in ("", [], {}, None)


def _is_plain_id(value: Any, _: Path) -> bool:
    return isinstance(value, str) and ":" not in value


def _is_plain_data(value: Any, run_dir: Path) -> bool:
    """Tell whether values are numbers and words, which no constructor can take for a file or a module."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and key.isidentifier() for key in value) and all(
            _is_plain_data(item, run_dir) for item in value.values()
        )
    if isinstance(value, list):
        return all(_is_plain_data(item, run_dir) for item in value)
    if isinstance(value, str):
        return _PLAIN_TEXT.fullmatch(value) is not None
    return value is None or isinstance(value, bool | int | float)


def _is_own_robot(value: Any, run_dir: Path) -> bool:
    if not isinstance(value, str):
        return False
    kind, _, rest = value.partition(":")
    if kind == "menagerie":
        return re.fullmatch(r"[\w-]{1,64}", rest) is not None
    if kind == "file":
        path = Path(rest)
        # Resolved: a link in the run folder may lead out of it.
        return path.is_absolute() and path.resolve().is_relative_to(run_dir.resolve())
    return _PLAIN_TEXT.fullmatch(value) is not None


def _is_own_root(value: Any, run_dir: Path) -> bool:
    """Tell whether a folder of runs is around the run, or below the working folder."""
    if not isinstance(value, str) or not value:
        return False
    path = Path(value)
    if path.is_absolute():
        return run_dir.resolve().is_relative_to(path.resolve()) and path.resolve().name != ""
    return ".." not in path.parts and not value.startswith("~")


def _is_default_rapl(value: Any, _: Path) -> bool:
    return value == EnergyConfig.rapl_root


PLUGINS = Rule(key="plugins", meaning="files of code to run", is_harmless=_is_empty)
PLAYING = (
    PLUGINS,
    Rule(key="env_id", meaning="a module to import", is_harmless=_is_plain_id),
    Rule(key="task.env_id", meaning="a module to import", is_harmless=_is_plain_id),
    Rule(key="task.wrappers", meaning="modules to import", is_harmless=_is_empty),
    Rule(key="task.kwargs", meaning="files or modules, perhaps", is_harmless=_is_plain_data),
    Rule(key="robot", meaning="a file outside itself", is_harmless=_is_own_robot),
    Rule(key="task.robot", meaning="a file outside itself", is_harmless=_is_own_robot),
)
"""Rules for whoever plays the policy in its environment."""
TRAINING = (
    *PLAYING,
    Rule(key="output_root", meaning="a folder outside itself", is_harmless=_is_own_root),
    Rule(key="tracking.uri", meaning="a server or database", is_harmless=_is_empty),
    Rule(key="energy.replay_path", meaning="a file to read", is_harmless=_is_empty),
    Rule(key="energy.rapl_root", meaning="a folder to read", is_harmless=_is_default_rapl),
    Rule(key="energy.options", meaning="files or addresses, perhaps", is_harmless=_is_plain_data),
)
"""Rules for whoever goes on training."""
_NAMED_BY = {"task.env_id": "env_id", "task.robot": "robot"}
"""Keys that follow another one, by which the user names them."""


def require_named(
    plain: Mapping[str, Any], *, named: Collection[str], run_dir: Path, key: str, rules: Collection[Rule]
) -> None:
    """Check a configuration from a run folder, in which the values of the command line are in place.

    Args:
        plain: nested plain values.
        named: keys that the command line gives; a group stands for all its keys.
        run_dir: the run folder.
        key: key by which the user named the run folder, for the error message.
        rules: rules that apply.

    Raises:
        ValueError: a setting has to be named; the line says exactly what to add.
    """
    for rule in rules:
        found, value = _look_up(plain, rule.key)
        argument = _NAMED_BY.get(rule.key, rule.key)
        is_named = argument in named or argument.partition(".")[0] in named
        if not found or is_named or _is_harmless(rule, value, run_dir):
            continue
        addition = shlex.quote(f"{argument}={spelled(value)}")
        raise ValueError(
            f"{key}={run_dir}: the run folder names {rule.meaning}, {rule.key}={spelled(value)}, and a run"
            f" folder may come from anybody; if you trust that, add {addition}"
        )


def _is_harmless(rule: Rule, value: Any, run_dir: Path) -> bool:
    try:
        return rule.is_harmless(value, run_dir)
    except (OSError, RuntimeError, ValueError):
        # A text that no file system takes for a path: zeros, links in a circle, thousands of characters.
        return False


def require_groups(plain: Mapping[str, Any], *, run_dir: Path, key: str) -> None:
    """Check that a configuration has its components, each as a mapping.

    Raises:
        ValueError: one is missing, or something else.
    """
    for group in REGISTRIES:
        if not isinstance(plain.get(group), dict):
            raise ValueError(f"{key}={run_dir}: the configuration has no settings of the {group}")


def _look_up(plain: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Return whether nested values have a dotted key, and its value."""
    value: Any = plain
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def spelled(value: Any) -> str:
    """Return a plain value as the command line takes it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    if _BARE_VALUE.fullmatch(text):
        return text
    return "'" + text.replace("'", "\\'") + "'"


def put(plain: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key of a configuration, in place; missing levels are made.

    A task that takes robots and environments follows the choice of the whole job.
    """
    *groups, last = key.split(".")
    part = plain
    for group in groups:
        part = part.setdefault(group, {})
    part[last] = value
    for follower, named_by in _NAMED_BY.items():
        if named_by == key and _look_up(plain, follower)[0]:
            put(plain, follower, value)
