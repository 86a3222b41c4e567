"""Change a checkpoint as somebody would who knows the format: the checksums are made to fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory.training.checkpoint_files import CHECKSUMS, checksums


def reseal(folder: Path) -> None:
    """Write checksums that fit the files of a checkpoint as they are now."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != CHECKSUMS}
    (folder / CHECKSUMS).write_bytes(checksums(contents))


def edit_json(run_dir: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `state.json` or `config.json` of a run's newest checkpoint in place."""
    folder = (run_dir / "checkpoints" / "last").resolve()
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    reseal(folder)
