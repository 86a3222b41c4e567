"""Engines: placing, signalling and ending the processes of attempts."""

from __future__ import annotations

from collections.abc import Callable

from factory.floor.engines.base import Engine


def _local(*, cores: float | None) -> Engine:
    from factory.floor.engines.local import LocalEngine

    return LocalEngine(cores=cores)


ENGINES: dict[str, Callable[..., Engine]] = {"local": _local}
"""Makers of engines by name; each takes `cores`, the CPUs that lines may occupy together."""
