"""A floor whose disk fills up while lines run, and one whose disk is read-only: nothing finished is lost.

python experiments/009-floor/disk.py

Needs the right to mount a tmpfs. One JSON object is printed; the exit status is 1 if a line did not finish,
or if a command ended otherwise than in one line that names the disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from workshop import FloorUnderTest

from factory.runtime import hardware, provenance

SHORT = ("runtime.video_s=0", "tracking=jsonl")
COMMANDS = (("status",), ("why", "1"), ("cancel", "1"), ("run",), ("submit", "experiment=smoke", "seed=9"))


def main() -> None:
    """Fill the disk of a running floor, take the filler away, go on; then make the disk read-only."""
    disk = Path(tempfile.mkdtemp(prefix="disk-"))
    mount("-t", "tmpfs", "-o", "size=40m", "tmpfs", disk)
    try:
        floor = FloorUnderTest(disk / "floor")
        floor.log = Path(tempfile.mkstemp(prefix="disk-", suffix=".log")[1])  # not on the disk that is full
        full = on_a_full_disk(floor)
        state = floor.status()
        lines = {line["id"]: f"{line['state']} in attempt {line['attempts']}" for line in state["lines"]}
        audit = floor.call("audit", "verify").strip()
        mount("-o", "remount,ro", disk)
        read_only = {" ".join(command): last_words(floor, command) for command in COMMANDS}
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()
    found = {"full": full, "lines": lines, "audit": audit, "read-only": read_only}
    print(json.dumps({**provenance.git_tags(), "machine": hardware.describe(), **found}, indent=1))
    is_named = all("read-only" in text for text in read_only.values())
    sys.exit(not is_named or any(not text.startswith("finished") for text in lines.values()))


def on_a_full_disk(floor: FloorUnderTest) -> list[str]:
    """Fill the disk while two lines run and one waits; return what the floor said, and end all lines."""
    floor.submit("task=cartpole_swingup", "total_steps=400000", "seed=0,1", *SHORT)
    floor.submit("experiment=smoke", *SHORT)
    floor.start()
    floor.wait_for(1, "running")
    filler = floor.root.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    status = floor.wait(120)
    said = floor.log.read_text().splitlines()[-1]
    # The trainings meet the full disk by themselves, at their next checkpoint.
    time.sleep(10)
    filler.unlink()
    floor.start()
    return [said, f"exit status {status}", f"started again: exit status {floor.wait(600)}"]


def last_words(floor: FloorUnderTest, command: Sequence[str]) -> str:
    """Return the last line that a command prints, and its exit status."""
    words = [sys.executable, "-m", "factory.floor", *command, "--root", str(floor.root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    return f"{(done.stdout + done.stderr).strip().splitlines()[-1]} (exit status {done.returncode})"


def mount(*arguments: str | Path) -> None:
    """Mount, or mount again with other options."""
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()
