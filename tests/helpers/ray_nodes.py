"""A Ray cluster of two nodes with one core each, both on this machine and on the loopback device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from factory.floor.engines.ray_cluster import OBJECT_STORE_BYTES, OwnCluster

MEMORY_BYTES = 4_000_000_000

SECOND_NODE = f"""
import sys, time
from ray._private.node import Node
from ray._private.parameter import RayParams
parameters = RayParams(
    gcs_address=sys.argv[1],
    redis_address=sys.argv[1],
    node_ip_address="127.0.0.1",
    num_cpus=1,
    memory={MEMORY_BYTES},
    object_store_memory={OBJECT_STORE_BYTES},
    include_log_monitor=False,
)
node = Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=True)
time.sleep(3600.0)
"""


class TwoNodes:
    """A cluster made by `ray start`, of two nodes with one core each."""

    def __init__(self, root: Path) -> None:
        """Start both nodes; processes that are to take part need `environment`."""
        self.root = root
        self.head = OwnCluster(root, cores=1, memory_bytes=MEMORY_BYTES)
        self.address = self.head.address
        self.environment = {**os.environ, **self.head.environment}
        self.add_node()

    def add_node(self) -> None:
        """Start a second node, as `ray start` does; that command itself refuses a second one on loopback."""
        with (self.root / "second.log").open("wb") as log:
            self.second = subprocess.Popen(
                [sys.executable, "-c", SECOND_NODE, self.address],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """Return the processes of both nodes; not those of the lines, which lead sessions of their own."""
        return [*session(self.head.pid), *session(self.second.pid)]

    def kill_second(self) -> None:
        """Kill a node as a power loss does: its processes and those of its lines, at once."""
        members = session(self.second.pid)
        lines = [child for member in members for child in member.children(recursive=True)]
        for process in [*members, *lines]:
            # A line dies with its wrapper.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.second.wait()

    def stop(self) -> None:
        """End both nodes."""
        for process in session(self.second.pid):
            process.kill()
        self.second.wait()
        self.head.stop()


def session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
