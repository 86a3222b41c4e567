"""Interface of engines. An engine is mechanism; which line runs, and why, is the floor's decision.

An engine starts `python -m factory.floor.wrapper <attempt folder>` in a session of its own. It never judges
the outcome: the wrapper writes that into `exit.json`. Lines live on when the floor or the engine dies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from factory.floor import attempt_files
from factory.floor.host_meter import HostReading, Running
from factory.floor.lines import Handle, Needs
from factory.floor.node_meter import NodeReading


class Engine(ABC):
    """Runs attempts somewhere."""

    name: str
    is_local: bool = False
    """True if all attempts run on this host, so that the floor can bind them to its CPUs."""

    gpus: tuple[str, ...] = ()
    """UUIDs of GPUs that the floor hands out by itself; empty if the engine does."""

    @abstractmethod
    def capacity(self) -> Needs:
        """Return all that lines may occupy together, over all nodes."""

    def nodes(self) -> tuple[Needs, ...]:
        """Return the resources of each node; nothing for an engine of one machine."""
        return ()

    @abstractmethod
    def fits(self, needs: Needs, occupied: list[Needs]) -> bool:
        """Return whether a line can be placed beside others; a line occupies one node."""

    @abstractmethod
    def start(self, folder: Path, needs: Needs) -> None:
        """Start the wrapper of an attempt, which `find` knows as soon as it runs.

        Args:
            folder: folder of the attempt, with `spec.json`.
            needs: resources to reserve.

        Raises:
            OSError: the process could not be started.
        """

    def find(self, folder: Path) -> Handle | None:
        """Return the process that the wrapper wrote into `started.json`; None without this file."""
        return attempt_files.read_handle(folder, engine=self.name)

    @abstractmethod
    def is_alive(self, handle: Handle) -> bool:
        """Return whether any process of the attempt's session is alive."""

    @abstractmethod
    def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to all processes of the attempt; one that ended is no error."""

    @abstractmethod
    def terminate(self, handle: Handle) -> None:
        """Ask the attempt to write a checkpoint and end, also if it is paused."""

    @abstractmethod
    def kill(self, handle: Handle) -> None:
        """End all processes of the attempt at once."""

    def read_meter(
        self, host: str, since: NodeReading | None, running: Mapping[int, Running]
    ) -> HostReading | None:
        """Read the meter of another host (`HostMeter.read`), which is opened at the first call.

        Args:
            host: name of the host.
            since: totals that a meter continues from when it is opened.
            running: attempts on that host, by line.

        Returns:
            None if the host does not answer.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Close the engine; attempts keep running."""
