"""Faults of the kind: disks, settings of the machine, and an experiment tracker in trouble."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from promises import ACCEPTED_OR_REFUSED, FINISHED, REFUSED, STOPPED, Fault, finished_with
from workshop import (
    FILES_ONLY,
    ITERATION,
    JOB,
    Seen,
    Workshop,
    lost_checkpoint,
    newest_run,
    wait_until,
    wrote,
)

SHORT = (*JOB, f"total_steps={8 * ITERATION}")
ODD_VARIABLES = {
    "OMP_NUM_THREADS=banana": {"OMP_NUM_THREADS": "banana"},
    "MPLBACKEND=nonsense": {"MPLBACKEND": "nonsense"},
    "NUMBA_DISABLE_JIT=1": {"NUMBA_DISABLE_JIT": "1"},
    "NUMBA_NUM_THREADS=0": {"NUMBA_NUM_THREADS": "0"},
    "RANK=1 alone": {"RANK": "1"},
    "RANK=x WORLD_SIZE=y": {"RANK": "x", "WORLD_SIZE": "y"},
    "MUJOCO_GL=osmesa": {"MUJOCO_GL": "osmesa"},
    "MUJOCO_GL=nonsense": {"MUJOCO_GL": "nonsense"},
    "CUDA_VISIBLE_DEVICES=7": {"CUDA_VISIBLE_DEVICES": "7"},
    "HOME=/proc/nowhere": {"HOME": "/proc/nowhere"},
    "TMPDIR=/proc/nowhere": {"TMPDIR": "/proc/nowhere"},
    "FACTORY_KERNELS=perhaps": {"FACTORY_KERNELS": "perhaps"},
    "MENAGERIE_ROOT=/proc/nowhere": {"MENAGERIE_ROOT": "/proc/nowhere"},
}


def _run_with(variables: dict[str, str], shop: Workshop, folder: Path) -> Seen:
    return shop.run("train", *SHORT, FILES_ONLY, folder=folder, environment=variables, limit_s=90.0)


def _variables() -> Iterator[Fault]:
    for name, variables in ODD_VARIABLES.items():
        inject = partial(_run_with, variables)
        yield Fault(kind="machine", name=name, promise=ACCEPTED_OR_REFUSED, inject=inject)

    def alone(shop: Workshop, folder: Path) -> Seen:
        variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}

        def give_up(process: subprocess.Popen[str]) -> None:
            wait_until(wrote(folder, ".train.err"), process, limit_s=60.0)
            process.terminate()

        seen = shop.run("train", *SHORT, FILES_ONLY, folder=folder, environment=variables, meanwhile=give_up)
        said = "WORLD_SIZE" in seen.err
        return dataclasses.replace(seen, status=0 if said else seen.status)

    yield Fault(
        kind="machine",
        name="WORLD_SIZE=2 left over",
        promise=finished_with("WORLD_SIZE"),
        inject=alone,
    )


def _disks() -> Iterator[Fault]:
    def small_files(shop: Workshop, folder: Path) -> Seen:
        return shop.run(
            "train",
            *SHORT,
            FILES_ONLY,
            "policy.actor_hidden=[256,256]",
            folder=folder,
            prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
        )

    def few_handles(shop: Workshop, folder: Path) -> Seen:
        return shop.run(
            "train",
            *SHORT,
            FILES_ONLY,
            folder=folder,
            prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)),
        )

    def little_memory(shop: Workshop, folder: Path) -> Seen:
        return shop.run("train", *JOB, "num_envs=100000000", "total_steps=1e9", FILES_ONLY, folder=folder)

    def deleted(shop: Workshop, folder: Path) -> Seen:
        def delete(process: subprocess.Popen[str]) -> None:
            wait_until(wrote(folder, "outputs/*/*/checkpoints/last/state.json"), process)
            shutil.rmtree(folder / "outputs", ignore_errors=True)

        return shop.run(
            "train", *JOB, FILES_ONLY, f"total_steps={4000 * ITERATION}", folder=folder, meanwhile=delete
        )

    yield Fault(kind="disk", name="files of at most 64 KiB", promise=STOPPED, inject=small_files)
    yield Fault(kind="disk", name="48 open files", promise=ACCEPTED_OR_REFUSED, inject=few_handles)
    yield Fault(kind="disk", name="10^8 environments", promise=REFUSED, inject=little_memory)
    yield Fault(kind="disk", name="output root deleted in training", promise=STOPPED, inject=deleted)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _trackers() -> Iterator[Fault]:
    def whole(seen: Seen, folder: Path) -> Seen:
        if seen.status:
            return seen
        run_dir = newest_run(folder)
        return dataclasses.replace(seen, lost=lost_checkpoint(run_dir))

    def nobody(shop: Workshop, folder: Path) -> Seen:
        uri = f"http://127.0.0.1:{_free_port()}"
        return whole(shop.run("train", *SHORT, f"tracking.uri={uri}", folder=folder), folder)

    def secret(shop: Workshop, folder: Path) -> Seen:
        uri = f"http://user:s3cr3tpass@127.0.0.1:{_free_port()}"
        seen = shop.run("train", *SHORT, f"tracking.uri={uri}", folder=folder)
        places = [path for path in folder.rglob("*") if path.is_file() and b"s3cr3tpass" in path.read_bytes()]
        leak = "s3cr3tpass" in seen.text or places
        return dataclasses.replace(seen, lost="the password is in the output" if leak else "")

    def store(make: Callable[[Path], None], shop: Workshop, folder: Path) -> Seen:
        (folder / "outputs").mkdir()
        make(folder / "outputs" / "mlflow.db")
        return shop.run("train", *SHORT, "tracking=mlflow", folder=folder)

    def garbage(path: Path) -> None:
        path.write_bytes(b"this is no database" * 100)

    def newer(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("create table alembic_version (version_num varchar(32))")
            connection.execute("insert into alembic_version values ('ffffffffffff')")

    def folder_instead(path: Path) -> None:
        path.mkdir()

    def locked(shop: Workshop, folder: Path) -> Seen:
        seen = shop.run("train", *SHORT, "tracking=mlflow", folder=folder)
        if seen.status:
            return seen
        holder = sqlite3.connect(folder / "outputs" / "mlflow.db", isolation_level=None)
        holder.execute("begin exclusive")
        try:
            return shop.run("train", *SHORT, "tracking=mlflow", folder=folder)
        finally:
            holder.close()

    def from_environment(shop: Workshop, folder: Path) -> Seen:
        variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{_free_port()}"}
        return whole(
            shop.run("train", *SHORT, "tracking=mlflow", folder=folder, environment=variables), folder
        )

    yield Fault(kind="tracker", name="no server answers", promise=ACCEPTED_OR_REFUSED, inject=nobody)
    yield Fault(kind="tracker", name="password in the address", promise=ACCEPTED_OR_REFUSED, inject=secret)
    for name, make in {
        "mlflow.db is garbage": garbage,
        "mlflow.db of a newer version": newer,
        "mlflow.db is a folder": folder_instead,
    }.items():
        yield Fault(kind="tracker", name=name, promise=REFUSED, inject=partial(store, make))
    yield Fault(kind="tracker", name="mlflow.db locked by another", promise=FINISHED, inject=locked)
    yield Fault(
        kind="tracker",
        name="MLFLOW_TRACKING_URI set",
        promise=finished_with("MLFLOW_TRACKING_URI"),
        inject=from_environment,
    )


def _ownership() -> Iterator[Fault]:
    def twice(shop: Workshop, folder: Path) -> Seen:
        seen: list[Seen] = []

        def resume(process: subprocess.Popen[str]) -> None:
            wait_until(wrote(folder, "outputs/*/*/checkpoints/last/state.json"), process)
            other = folder / "beside"
            other.mkdir()
            seen.append(shop.run("train", f"resume={newest_run(folder)}", folder=other))
            process.terminate()

        shop.run("train", *JOB, FILES_ONLY, f"total_steps={10**9}", folder=folder, meanwhile=resume)
        said = str(os.uname().nodename) in seen[0].err
        return seen[0] if said else dataclasses.replace(seen[0], lost="the owner is not named")

    yield Fault(kind="folder", name="resume of a run that is running", promise=REFUSED, inject=twice)


def faults() -> Iterator[Fault]:
    """Yield odd machines, disks and trackers."""
    yield from _variables()
    yield from _disks()
    yield from _trackers()
    yield from _ownership()
