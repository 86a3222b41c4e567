"""Engines: placing, signalling and ending the processes of attempts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from factory.floor.engines.base import Engine


def _local(*, root: Path, cores: float | None, address: str | None) -> Engine:
    from factory.floor.engines.local import LocalEngine

    if address:
        raise ValueError(f"--address={address}: the local engine has no cluster; add --engine ray")
    return LocalEngine(cores=cores)


def _ray(*, root: Path, cores: float | None, address: str | None) -> Engine:
    from factory.floor.engines.ray import RayEngine

    return RayEngine(root=root, cores=cores, address=address)


ENGINES: dict[str, Callable[..., Engine]] = {"local": _local, "ray": _ray}
"""Makers of engines by name.

Each takes `root`, the folder of the floor; `cores`, the CPUs that lines may occupy together, or None; and
`address`, `HOST:PORT` of a cluster, or None.
"""
