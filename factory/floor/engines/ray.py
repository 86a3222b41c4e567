"""The Ray engine: attempts on the nodes of a Ray cluster, placed by cores, memory and GPUs.

All nodes share the disk with the floor's folder. One detached actor an attempt starts the wrapper, as the
local engine does, and holds the resources until it has ended; nothing else of Ray is used. A line depends on
neither actor nor cluster: its process leads a session of its own and writes its outcome to the disk.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from factory.floor.engines.base import Engine
from factory.floor.engines.local import LocalEngine
from factory.floor.engines.ray_client import RayClient
from factory.floor.host_meter import HostReading, Running
from factory.floor.lines import Handle, Needs
from factory.floor.node_meter import NodeReading

_CONNECT_S = 5.0
_START_S = 180.0
_LOST_S = 120.0
"""Time after which an attempt is lost if nothing is known about its host."""


class RayEngine(Engine):
    """Runs attempts on a Ray cluster."""

    name = "ray"

    def __init__(self, *, root: Path, cores: float | None = None, address: str | None = None) -> None:
        """Attach to a cluster.

        Args:
            root: folder of the floor.
            cores: CPUs of the cluster that is started if none is named; those of this process if None.
            address: `HOST:PORT` of a cluster that has a node on this host; None starts one of this host.

        Raises:
            ValueError: Ray is not installed, or no cluster answers.
        """
        if find_spec("ray") is None:
            raise ValueError("--engine=ray: Ray is not installed; run pip install -e '.[ray]'")
        if address:
            _check(address)
            if cores:
                raise ValueError(f"--cores={cores:g}: the nodes of {address} have their own; leave it out")
        self.is_local = address is None
        self._host = socket.gethostname()
        self._local = LocalEngine(cores=cores)
        own = self._local.capacity()
        options = [str(root.absolute()), address, max(1, int(own.cores)), own.memory_bytes]
        self._ray = RayClient(options, root / "ray" / "driver.log")
        self._nodes: list[Needs] = []
        self._silent_since: dict[Handle, float] = {}
        self._undelivered: dict[Handle, list[tuple[str, tuple[int, ...]]]] = {}
        try:
            self._ray.wait_until_ready(_START_S)
        except ConnectionError as error:
            self._ray.close()
            raise ValueError(f"--engine=ray: {error}") from error

    def capacity(self) -> Needs:
        """Return the resources of all nodes that are alive; the last known ones while Ray is away."""
        found = self._ask("nodes")
        if found is not None:
            self._nodes = [Needs(**node) for node in found]
        return Needs(
            cores=sum(node.cores for node in self._nodes),
            memory_bytes=sum(node.memory_bytes for node in self._nodes),
            gpus=sum(node.gpus for node in self._nodes),
        )

    def nodes(self) -> tuple[Needs, ...]:
        """Return the resources of each node, as `capacity` last saw them."""
        return tuple(self._nodes)

    def fits(self, needs: Needs, occupied: list[Needs]) -> bool:
        """Return whether one node has the resources left; Ray knows which of them are taken."""
        return any(
            needs.cores <= node["cores"] + 1e-4
            and needs.memory_bytes <= node["memory_bytes"]
            and needs.gpus <= node["gpus"]
            for node in self._ask("free") or []
        )

    def start(self, folder: Path, needs: Needs) -> None:
        """Have the wrapper started on the node that Ray chooses; `find` knows it as soon as it runs."""
        self._ray.ask("start", str(folder), needs.cores, needs.memory_bytes, needs.gpus)

    def is_alive(self, handle: Handle) -> bool:
        """Return whether the attempt has processes; for a while also if its host does not answer."""
        answer = self._act("is_alive", handle)
        if answer is None:
            since_s = self._silent_since.setdefault(handle, time.monotonic())
            return time.monotonic() - since_s < _LOST_S
        self._silent_since.pop(handle, None)
        # The host answers again: deliver what was asked of it meanwhile, in order.
        for verb, arguments in self._undelivered.pop(handle, []):
            self._send(verb, handle, *arguments)
        return answer

    def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the whole session, when its host answers."""
        self._send("signal", handle, number)

    def terminate(self, handle: Handle) -> None:
        """Ask the attempt to write a checkpoint and end, also if it is paused."""
        self._send("terminate", handle)

    def kill(self, handle: Handle) -> None:
        """Kill the whole session."""
        self._send("kill", handle)

    def read_meter(
        self, host: str, since: NodeReading | None, running: Mapping[int, Running]
    ) -> HostReading | None:
        """Have the agent of another host read its meter."""
        plain_since = None
        if since is not None:
            plain_since = asdict(since)
        attempts: dict[str, Any] = {}
        for line, found in running.items():
            handle = asdict(found.handle) if found.handle is not None else None
            attempts[str(line)] = (found.attempt, handle)
        answer = self._ask("meter", host, plain_since, attempts)
        if answer is None:
            return None
        return HostReading.from_plain(answer)

    def close(self) -> None:
        """Leave the cluster; one that this engine started ends, its lines do not."""
        self._ray.close()

    def _send(self, verb: str, handle: Handle, *arguments: int) -> None:
        """Do something to an attempt, now or as soon as its host answers."""
        if self._act(verb, handle, *arguments) is None:
            waiting = self._undelivered.setdefault(handle, [])
            # The supervisor repeats its signals at every tick; one of each in a row is enough.
            if waiting[-1:] != [(verb, arguments)]:
                waiting.append((verb, arguments))

    def _act(self, verb: str, handle: Handle, *arguments: int) -> bool | None:
        """Have the local engine of the attempt's host do something; return None if the host is silent."""
        if handle.host == self._host:
            return bool(getattr(self._local, verb)(handle, *arguments))
        answer: bool | None = self._ask("act", verb, asdict(handle), arguments)
        return answer

    def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            return self._ray.ask(verb, *arguments)
        except ConnectionError as error:
            logging.getLogger(__name__).debug("%s", error)
            return None


def _check(address: str) -> None:
    """Raise ValueError if nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--address={address}: give HOST:PORT, as `ray start --head` prints it")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"--address={address}: no cluster answers; start it, or name another") from error
