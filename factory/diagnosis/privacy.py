"""Permissions of the run folders: which other users of the machine can read or change the runs."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from factory.diagnosis.finding import Finding, Status


def examine(output_root: Path) -> list[Finding]:
    """Examine who may enter the folder of runs; no finding where the folder is not there yet."""
    try:
        mode = output_root.stat().st_mode
    except OSError:
        return []
    folder = shlex.quote(str(output_root))
    if mode & stat.S_IWOTH:
        text = f"every user of this machine can change the runs in {output_root}"
        return [_finding(Status.LIMITED, text, f"chmod o-rwx {folder}")]
    if mode & (stat.S_IROTH | stat.S_IXOTH):
        text = f"every user of this machine can read {output_root}"
        return [_finding(Status.LIMITED, text, f"chmod o-rx {folder}, unless you share the runs")]
    return [_finding(Status.OK, f"other users cannot look into {output_root}")]


def _finding(status: Status, text: str, remedy: str = "") -> Finding:
    return Finding(section="tracking", name="privacy", status=status, text=text, remedy=remedy)
