"""From arguments of `factory.train` to lines: checked as training checks them, hashed, and queued once."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory import cli, config
from factory.config import TrainConfig
from factory.floor.lines import Line, Needs
from factory.floor.store import Store
from factory.runtime import provenance
from factory.runtime.cpus import usable_cpus
from factory.validation import require

FLEX = range(4)
# Measured for small tasks: torch, MuJoCo and MLflow take this much before the first world.
_BASE_MEMORY_BYTES = 700 << 20
_WORLD_MEMORY_BYTES = 100 << 10
_REFUSED = ("resume", "hydra.run.dir", "hydra.sweep.dir", "output_root")
_NOT_PART_OF_THE_WORK = ("output_root", "tracking", "energy", "resume")
"""Settings that change neither weights nor results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Options of a submission, the same for all of its lines."""

    priority: int = 0
    flex: int = 1
    deadline: float | None = None
    owner: str = ""
    name: str = ""
    cores: float = 1.0
    """CPUs the line may use; fewer make it slower and change nothing that it learns."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.flex in FLEX, "--flex", self.flex, "choose 0 (none), 1 (little), 2 (much) or 3 (any)")
        require(abs(self.priority) <= 1000, "--priority", self.priority, "must be in [-1000, 1000]")
        require(0.0 < self.cores <= 4096, "--cores", self.cores, "must be above 0, and at most 4096")
        for key, text in (("--name", self.name), ("--owner", self.owner)):
            is_short = len(text) <= 80 and text.isprintable()
            require(is_short, key, text, "use at most 80 characters that can be printed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A line of an order."""

    line: Line
    is_new: bool
    """False if an equal line was on the floor already."""


def prepare(overrides: Sequence[str], order: Order, *, root: Path, cwd: Path) -> list[Line]:
    """Return a line for each job that the overrides ask for; nothing is written.

    Args:
        overrides: arguments of `factory.train`; a sweep such as `seed=0,1,2` asks for several jobs.
        order: priority and the like.
        root: folder of the floor.
        cwd: folder from which relative paths in the overrides count.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in _REFUSED or key.startswith("hydra"):
            raise ValueError(f"{override}: the floor chooses folders and resumes lines itself; leave it out")
    commit = provenance.git_tags()["git.commit"]
    return [
        _line(cfg, job, order, commit=commit, root=root, cwd=cwd) for job, cfg in cli.several_jobs(overrides)
    ]


def queue(store: Store, lines: Sequence[Line], *, is_again: bool = False) -> list[Submitted]:
    """Queue lines, all or none of them.

    Args:
        store: the floor's store.
        lines: what `prepare` returned.
        is_again: whether to queue a line although an equal one is there.
    """
    submitted: list[Submitted] = []
    with store.transaction():
        for line in lines:
            # Looked up inside the transaction: two commands at once queue a line once.
            equal = store.find_equal(line.spec_hash)
            if equal and not is_again:
                submitted.append(Submitted(line=equal, is_new=False))
            else:
                submitted.append(Submitted(line=store.add_line(line), is_new=True))
    return submitted


def _line(
    cfg: TrainConfig, overrides: Sequence[str], order: Order, *, commit: str, root: Path, cwd: Path
) -> Line:
    # Fixed here, so that every attempt rounds alike wherever it runs.
    threads = cfg.runtime.torch_threads or len(usable_cpus())
    # The folder's name is for people; `{id}` makes it unique once the store has given the line its number.
    name = order.name or f"{config.label(cfg)} seed={cfg.seed}"
    folder = re.sub(r"[^\w.=-]+", "_", f"{config.label(cfg)}_{cfg.seed}")
    return Line(
        id=0,
        name=name,
        task=config.label(cfg),
        # The number of threads changes rounding, so it is the same wherever and whenever the line runs.
        overrides=(*overrides, f"runtime.torch_threads={threads}"),
        spec_hash=spec_hash(cfg, threads=threads, commit=commit),
        total_steps=cfg.last_step,
        needs=Needs(
            cores=order.cores,
            memory_bytes=_BASE_MEMORY_BYTES + cfg.num_envs * _WORLD_MEMORY_BYTES,
            gpus=int(cfg.device == "cuda"),
        ),
        priority=order.priority,
        flex=order.flex,
        deadline=order.deadline,
        owner=order.owner or getpass.getuser(),
        cwd=str(cwd.absolute()),
        run_dir=str(root.absolute() / "lines" / "{id}" / folder),
        reason="waits for the floor",
    )


def spec_hash(cfg: TrainConfig, *, threads: int, commit: str) -> str:
    """Return the hash of everything that affects the result of a line."""
    plain: dict[str, Any] = config.to_plain(cfg)
    for key in _NOT_PART_OF_THE_WORK:
        plain.pop(key, None)
    plain["runtime"] |= {"torch_threads": threads}
    content = json.dumps([plain, commit], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()
