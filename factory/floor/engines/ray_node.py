"""Part of the Ray engine that runs on the nodes: it starts an attempt where Ray placed it.

Ray changes the environment of its workers: one OpenMP thread, another memory allocator, a debugger, and
devices. The training gets the environment of the node instead, as it was when `ray start` was called there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from factory.floor.engines.local import LocalEngine, start_wrapper
from factory.floor.host_meter import HostMeter, Running
from factory.floor.lines import Handle
from factory.floor.node_meter import NodeReading

_POLL_S = 0.5


class Agent(LocalEngine):
    """Actor of a node that speaks for its host: acts on attempts there, and reads the host's meter."""

    _meter: HostMeter | None = None

    def meter(self, since: dict[str, Any] | None, running: dict[str, Any]) -> dict[str, Any]:
        """Read the host's meter.

        Args:
            since: fields of the `NodeReading` to continue from; they count at the first call.
            running: number and handle of each line's attempt on this host.

        Returns:
            The reading, as plain values.
        """
        if self._meter is None:
            self._meter = HostMeter(NodeReading(**since) if since else None)
        attempts = {
            int(line): Running(attempt=number, handle=Handle(**handle) if handle else None)
            for line, (number, handle) in running.items()
        }
        return self._meter.read(attempts).to_plain()


class Holder:
    """Actor that starts an attempt, and holds its cores, memory and GPUs until its processes have ended."""

    def __init__(self, folder: str, gpus: int) -> None:
        """Start the wrapper.

        Args:
            folder: folder of the attempt, on a disk that all nodes share.
            gpus: GPUs that Ray assigned to this actor.
        """
        raylet = psutil.Process(os.getppid())
        # Ray starts its workers at a low priority. Only a privileged user can undo that here.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, raylet.nice())
        process = start_wrapper(Path(folder), node_environment(raylet, gpus))
        threading.Thread(target=_leave_after, args=(process, Path(folder)), daemon=True).start()


def node_environment(raylet: psutil.Process, gpus: int) -> dict[str, str]:
    """Return the environment of the node, with the devices that Ray assigned, if any."""
    found = raylet.environ()
    environment = {key: value for key, value in found.items() if not key.startswith("RAY_")}
    # Ray loads an allocator into its own processes, unless the node has one already.
    if "RAY_LD_PRELOAD_ON_WORKERS" in found:
        environment.pop("LD_PRELOAD", None)
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return environment


def _leave_after(wrapper: subprocess.Popen[bytes], folder: Path) -> None:
    """End this actor when the attempt has ended, and with it the reservation."""
    wrapper.wait()
    engine = LocalEngine()
    handle = engine.find(folder)
    # A training whose wrapper was killed still writes its checkpoint.
    while handle is not None and engine.is_alive(handle):
        time.sleep(_POLL_S)
    os._exit(0)
