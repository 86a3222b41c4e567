"""Updates in the outbox: their kinds, and the check that every line of the file has to pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from factory.runtime.plain_types import is_number

Update = dict[str, Any]
"""One update for the tracking server: `{"kind": ..., "time_ms": ...}` and the content of its kind."""

MLFLOW_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
"""Status of a run here -> MLflow's."""
_LAST_TIME_MS = 253_402_300_799_000
"""End of the year 9999."""
_MAX_PATH = 1000
_MAX_STEP = 2**63 - 1
"""Databases keep steps as 64-bit integers."""


def _is_text(value: Any) -> bool:
    """Say whether a value is a text that databases take: no zeros, and no halves of characters."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value)) and all(map(is_number, value.values()))


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_STEP


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LAST_TIME_MS


def _is_inner_path(value: Any) -> bool:
    """Say whether a value is a relative path that does not climb out of its folder."""
    if not _is_text(value) or len(value) > _MAX_PATH:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _is_optional_inner_path(value: Any) -> bool:
    return value is None or _is_inner_path(value)


def _is_status(value: Any) -> bool:
    return value in MLFLOW_STATUS.values()


_FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "start": {"run_name": _is_text, "params": _is_texts, "tags": _is_texts},
    "metrics": {"step": _is_step, "metrics": _is_numbers},
    "tags": {"tags": _is_texts},
    "artifacts": {"path": _is_inner_path, "artifact_path": _is_optional_inner_path},
    "policy": {
        "path": _is_inner_path,
        "name": _is_text,
        "alias": _is_text,
        "metrics": _is_numbers,
        "step": _is_step,
    },
    "end": {"status": _is_status},
}
"""Kind of an update -> its fields and their checks."""


def parse(line: bytes) -> Update:
    """Return the update on one line of the outbox.

    Raises:
        ValueError: the line holds no complete update; the message says which part is wrong.
    """
    try:
        # The outbox lies in a run folder, which may come from a stranger.
        update = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not isinstance(update, dict) or update.get("kind") not in _FIELDS:
        raise ValueError("no update of a known kind")
    for name, is_valid in {"time_ms": _is_time, **_FIELDS[update["kind"]]}.items():
        if not is_valid(update.get(name)):
            raise ValueError(f"{update['kind']} update with a wrong {name!r}")
    return update
