"""Real runs to break: folders, commands, and what a fault left of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
LIMIT_S = 240.0
"""Time after which a command counts as hung [s]."""
JOB = (
    "task=cartpole_swingup",
    "task.max_episode_steps=40",
    "num_envs=16",
    "learner.num_steps=8",
    "learner.num_minibatches=2",
    # A linear schedule would depend on `total_steps`, which a resume may change.
    "learner.schedule=adaptive",
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "runtime.eval_episodes=4",
    "runtime.video_s=0",
    "runtime.register_model=false",
    "checkpoint_every=2",
)
ITERATION = 16 * 8
"""Environment steps of an iteration of `JOB`."""
FILES_ONLY = "tracking=jsonl"
TENSORS = ("policy", "learner", "env", "collector", "generators")
"""Files of tensors in a checkpoint, without suffix."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How a command ended under a fault."""

    status: int
    """Exit status; negative: ended by that signal."""
    out: str
    err: str
    lost: str = ""
    """Finished work that is gone; empty if none is."""
    hung: bool = False

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err

    @property
    def error_lines(self) -> list[str]:
        """Lines of standard error that say what is wrong."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


class Workshop:
    """Folders of one pass over the faults, and the undisturbed runs they start from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._originals: dict[str, Path] = {}

    def run(
        self,
        module: str,
        *arguments: str,
        folder: Path,
        environment: dict[str, str] | None = None,
        meanwhile: Callable[[subprocess.Popen[str]], None] | None = None,
        prepare: Callable[[], None] | None = None,
        stdout: int | None = None,
        limit_s: float = LIMIT_S,
    ) -> Seen:
        """Run `python -m factory.<module>` in `folder`.

        Args:
            module: of this package.
            arguments: of the command.
            folder: working folder.
            environment: variables beside those of this process.
            meanwhile: called once the process has begun; it may send signals or break files.
            prepare: called in the new process before Python begins.
            stdout: a file descriptor in the place of a pipe.
            limit_s: time after which the process is killed and counts as hung [s].
        """
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(CHECKOUT), str(HERE))),
            "PYTHONUNBUFFERED": "1",
            # Two runs share this machine.
            "OMP_NUM_THREADS": "1",
        }
        out_path = folder / f".{module}.out"
        err_path = folder / f".{module}.err"
        with out_path.open("w") as out, err_path.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", f"factory.{module}", *arguments],
                cwd=folder,
                env=variables | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                text=True,
                preexec_fn=prepare,
                start_new_session=True,
            )
            try:
                if meanwhile is not None:
                    meanwhile(process)
                status = process.wait(timeout=limit_s)
                hung = False
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
                hung = True
            finally:
                process.kill()
        texts = [path.read_text(errors="replace") for path in (out_path, err_path)]
        for path in (out_path, err_path):
            path.unlink()
        return Seen(status=status, out=texts[0], err=texts[1], hung=hung)

    def original(self, name: str = "short", *arguments: str, job: Sequence[str] = JOB) -> Path:
        """Return the run folder of an undisturbed run, made once for all faults; copy it, do not break it."""
        with self._lock:
            if name not in self._originals:
                folder = self.root / f"original-{name}"
                folder.mkdir(parents=True)
                chosen = arguments or (FILES_ONLY, f"total_steps={8 * ITERATION}")
                seen = self.run("train", *job, *chosen, folder=folder)
                if seen.status:
                    raise RuntimeError(f"the undisturbed run failed: {seen.text[-2000:]}")
                self._originals[name] = newest_run(folder)
            return self._originals[name]

    def copy(self, folder: Path, name: str = "short") -> Path:
        """Return a copy of an undisturbed run, inside `folder`."""
        source = self.original(name)
        target = folder / "outputs" / source.parent.name / source.name
        shutil.copytree(source, target, symlinks=True)
        return target


def newest_run(folder: Path) -> Path:
    """Return the newest run folder with a checkpoint below `folder`.

    Raises:
        ValueError: there is none.
    """
    runs = (path.parents[2] for path in folder.glob("outputs/**/checkpoints/*/state.json"))
    return max((run for run in runs if "mlartifacts" not in run.parts), key=lambda run: run.name)


def difference(run_dir: Path, other: Path) -> str:
    """Return in which tensors of their last checkpoints two runs differ; empty if in none."""
    from safetensors.numpy import load_file

    folders = [(path / "checkpoints" / "last").resolve() for path in (run_dir, other)]
    if folders[0].name != folders[1].name:
        return f"checkpoints are at {folders[0].name} and {folders[1].name} steps"
    for name in TENSORS:
        ours, theirs = (load_file(folder / f"{name}.safetensors") for folder in folders)
        if ours.keys() != theirs.keys():
            return f"{name}: other tensors"
        for key, value in ours.items():
            if value.tobytes() != theirs[key].tobytes():
                return f"{name}/{key} differs"
    return ""


def rows(run_dir: Path) -> list[int]:
    """Return the steps of the rows in `metrics.jsonl`."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def lost_checkpoint(run_dir: Path) -> str:
    """Say whether the newest checkpoint of a run is missing or broken; empty if it is whole."""
    from safetensors.numpy import load_file

    last = run_dir / "checkpoints" / "last"
    try:
        json.loads((last / "state.json").read_text())
        for name in TENSORS:
            load_file(last / f"{name}.safetensors")
    except Exception as error:
        return f"no whole checkpoint: {' '.join(str(error).split())[:120]}"
    return ""


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return paths and times of everything in `folder`, to see whether anything was written."""
    found = []
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts or path.name.startswith((".train.", ".evaluate.", ".compare.")):
            continue
        found.append((str(path.relative_to(folder)), path.lstat().st_mtime_ns if path.is_file() else 0))
    return found


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[str], *, limit_s: float = 120
) -> None:
    """Wait until something holds, the process ends, or time is up."""
    end_s = time.monotonic() + limit_s
    while not condition() and process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.002)


def has_text(path: Path, *words: str) -> bool:
    """Say whether a file has any of these words."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return any(re.search(word, text) for word in words)


def wrote(folder: Path, pattern: str) -> Callable[[], bool]:
    """Return a condition: a file that matches `pattern` and is not empty lies below `folder`."""

    def holds() -> bool:
        # What is renamed meanwhile may be gone between finding and looking.
        for path in folder.glob(pattern):
            try:
                if path.stat().st_size:
                    return True
            except OSError:
                continue
        return False

    return holds
