"""Arguments as people write them: flags, scientific notation, bare lists, names from elsewhere."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.registry import TASKS

_SHORT_NAMES = {
    "lr": "learner.learning_rate",
    "learning_rate": "learner.learning_rate",
    "steps": "total_steps",
    "envs": "num_envs",
    "batch_size": "num_envs",
}
"""Names that other frameworks use -> keys here."""
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_LONG_NUMBER = re.compile(r"[0-9]{1001}")
_BARE_LIST = re.compile(r"[+-]?\d+(,[+-]?\d+)+,?")


def check_numbers(arguments: Sequence[str]) -> None:
    """Raise ValueError for a number that is too long to be read; Python's own message names no key."""
    for argument in arguments:
        if _LONG_NUMBER.search(argument):
            key, _, value = argument.partition("=")
            raise ValueError(f"{key[:40]}={value[:40]}...: a number has at most 1000 digits")


def join_flags(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return arguments with `--seed 1`, `--seed=1` and `--num-envs 64` as `seed=1` and `num_envs=64`.

    Args:
        arguments: arguments of a command.
        keys: keys it knows; other flags are left alone.
    """
    check_numbers(arguments)
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.lstrip("-").partition("=")
        key = name.replace("-", "_")
        if not argument.startswith("--") or key not in keys:
            joined.append(argument)
        elif equals:
            joined.append(f"{key}={value}")
        elif rest and not rest[0].startswith("--") and "=" not in rest[0]:
            joined.append(f"{key}={rest.pop(0)}")
        else:
            raise ValueError(f"{argument}: give a value, {key}=<value>")
    return joined


def fit_values(arguments: Sequence[str], types: Mapping[str, type]) -> list[str]:
    """Return `key=value` arguments with `1e6` as an integer and `64,64` as a list, where that is the type."""
    fitted: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and types.get(key) is int:
            value = ",".join(_as_integer(part) for part in value.split(","))
        if equals and types.get(key) is list and _BARE_LIST.fullmatch(value):
            value = f"[{value.rstrip(',')}]"
        fitted.append(f"{key}{equals}{value}")
    return fitted


def _as_integer(text: str) -> str:
    """Return `1e6` as `1000000`; everything else, `1e-3` too, as it is."""
    if not _SCIENTIFIC.fullmatch(text.strip()):
        return text
    number = float(text)
    if number.is_integer():
        return str(int(number))
    return text


def task_name(value: str, choices: Sequence[str]) -> str:
    """Return the option of the group `task` for the name of a task from elsewhere, such as `HalfCheetah-v5`.

    An option, or a name that nothing resembles, is returned as it is.
    """
    if value in choices:
        return value
    plain = _letters(value)
    for name, schema in TASKS.items():
        env_name = schema.id.partition("/")[2]
        aliases = {name, name.rpartition("/")[2], schema.id, env_name, env_name.partition("-")[0]}
        if plain in {_letters(alias) for alias in aliases if alias}:
            return name
    return value


def robot_name(value: str, known: Sequence[str]) -> str:
    """Return `menagerie:unitree_go1` for `unitree_go1`, unless that is the name of a registered robot."""
    is_bare = value != "default" and value not in known and re.fullmatch(r"\w+", value)
    if is_bare:
        return f"menagerie:{value}"
    return value


def near_names(name: str, choices: Sequence[str]) -> list[str]:
    """Return the choices that resemble `name`, the nearest first."""
    by_last_part = {choice.rpartition("/")[2]: choice for choice in choices}
    wanted = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(wanted, [*by_last_part], cutoff=0.75)
    containing = [part for part in sorted(by_last_part, key=len) if len(wanted) > 2 and wanted in part]
    return [by_last_part[part] for part in dict.fromkeys([*close, *containing])]


def near_keys(key: str, keys: Sequence[str]) -> list[str]:
    """Return the keys that `key` may have meant, the nearest first."""
    if _SHORT_NAMES.get(key) in keys:
        return [_SHORT_NAMES[key]]
    # `gamma` may mean `learner.gamma`, however far apart the two are spelled.
    same_end = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    spelled = difflib.get_close_matches(key, keys)
    last_parts = {known.rpartition(".")[2]: known for known in keys}
    similar_end = [
        last_parts[end] for end in difflib.get_close_matches(key.rpartition(".")[2], [*last_parts])
    ]
    return list(dict.fromkeys([*same_end, *spelled, *similar_end]))[:3]


def quoted(path: Path | str) -> str:
    """Return a path or text as a value that Hydra reads as it is, whatever characters are in it."""
    # Within quotes, Hydra's grammar takes a quote after a backslash as the quote itself, and doubles
    # backslashes that stand before one. An interpolation is escaped for OmegaConf.
    text = str(path).replace("${", "\\${")
    text = re.sub(r"(\\*)'", lambda match: match.group(1) * 2 + "\\'", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"'{text}{chr(92) * trailing}'"


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
