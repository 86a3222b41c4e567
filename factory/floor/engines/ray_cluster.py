"""The Ray cluster that a floor starts for itself: one node, closed to the outside, without Ray's favours."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil

OBJECT_STORE_BYTES = 78_643_200
"""Least size that Ray accepts; no data of a training goes through it."""
_START_S = 120.0
_END_S = 5.0
"""Longest time that the end of a cluster waits for its processes."""
_LOOK_S = 0.05
_PR_SET_PDEATHSIG = 1


def settings(token: Path) -> dict[str, str]:
    """Return the settings of `ray start` that keep a node quiet, and its lines alive.

    Args:
        token: file with the token that every process of the cluster must show.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Without it, Ray replaces a loopback address by the one that faces the network.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # A line goes on when the actor that started it is gone.
        "RAY_kill_child_processes_on_worker_exit": "0",
        # Otherwise Ray kills workers when memory is short.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",
    }


class OwnCluster:
    """A head node on the loopback device; it ends with the process that started it."""

    def __init__(self, root: Path, *, cores: int, memory_bytes: int) -> None:
        """Start the node and wait until it answers.

        Args:
            root: folder of the floor; the cluster's token and log are kept in its folder `ray`.
            cores: CPUs that lines may occupy together.
            memory_bytes: memory that they may occupy [byte].

        Raises:
            OSError: the cluster did not start.
        """
        folder = root / "ray"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "cluster.log"
        self.environment = settings(_new_token(folder / "token"))
        self.folder = _private_folder(root)
        with self._log.open("wb") as log:
            # A session of its own, by which all processes of the cluster are found when it ends.
            self._process = subprocess.Popen(
                self._command(cores, memory_bytes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self.address = self._wait_for_address()

    def _command(self, cores: int, memory_bytes: int) -> list[str]:
        return [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            "--node-ip-address=127.0.0.1",
            "--port=0",
            # Ray starts a server for remote clients where it can, and at a fixed port if none is given.
            *client_port(),
            "--include-dashboard=false",
            "--include-log-monitor=false",
            "--no-monitor",
            "--disable-usage-stats",
            f"--num-cpus={cores}",
            f"--memory={memory_bytes}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            # Ray opens this folder for everybody, but not the one around it.
            f"--temp-dir={self.folder / 'r'}",
        ]

    def _wait_for_address(self) -> str:
        """Return the address that Ray wrote down."""
        file = self.folder / "r" / "ray_current_cluster"
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if address := file.read_text().strip():
                    return address
            time.sleep(0.1)
        self.stop()
        raise OSError(f"the Ray cluster did not start; {self._log} says why")

    @property
    def pid(self) -> int:
        """Process id of `ray start`, which leads the session of the node."""
        return self._process.pid

    def stop(self) -> None:
        """End all processes of the cluster and remove its temporary files."""
        # There is nothing that Ray could save; its processes end with the one that started them.
        self._process.kill()
        self._process.wait()
        # One may be started by another that is killed a moment later.
        due_s = time.monotonic() + _END_S
        while (members := _session(self.pid)) and time.monotonic() < due_s:
            for process in members:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(_LOOK_S)
        shutil.rmtree(self.folder, ignore_errors=True)


def client_port() -> list[str]:
    """Return the option that moves Ray's server for clients to a free port; empty where there is none."""
    try:
        import grpc  # noqa: F401
    except ImportError:
        return []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return [f"--ray-client-server-port={probe.getsockname()[1]}"]


def _new_token(path: Path) -> Path:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path.absolute()


def _private_folder(root: Path) -> Path:
    """Return an empty folder for Ray's sockets, whose paths must be short, that nobody else can enter."""
    digest = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:8]
    folder = Path("/tmp") / f"floor-ray-{os.getuid()}-{digest}"
    with contextlib.suppress(FileNotFoundError):
        found = folder.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{folder}: belongs to somebody else; remove it")
        # A floor that was killed left it behind.
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends; for `preexec_fn`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
