"""Files and folders that a command will write: checked before it works for minutes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from factory.validation import require

_LONGEST_NAME = 200
"""Bytes of a file's name; file systems take 255, and an unfinished file has a longer name."""


def check_output(path: str, *, key: str, suffix: str) -> None:
    """Raise ValueError unless a file of this name can be written; an empty name asks for none.

    Its folder need not be there.
    """
    if not path:
        return
    name = Path(path).name
    require(path.endswith(suffix) and name != suffix, key, path, f"name a file that ends in {suffix}")
    require(len(os.fsencode(name)) <= _LONGEST_NAME, key, path, "give a shorter name")
    require(not os.path.isdir(path), key, path, "is a folder; name a file")
    check_writable(Path(path).absolute().parent, key=key)


def check_folder_name(folder: Path, *, key: str) -> None:
    """Raise ValueError if no folder can have this name, such as one that is too long or below a file."""
    try:
        os.stat(folder)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ValueError(f"{key}={str(folder)[:200]}: {reason}; give the name of a folder") from error


def check_writable(folder: Path, *, key: str) -> None:
    """Raise ValueError unless `folder` is a folder to write to, or one can be made there."""
    # Some file systems refuse what the mode bits allow, so a folder is made, and removed again.
    existing = folder
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise ValueError(f"{key}={folder}: {existing} is a file; give a folder")
        os.rmdir(tempfile.mkdtemp(prefix=".check-", dir=existing))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"{key}={folder}: {existing} is not writable ({reason}); give another folder"
        ) from error
