"""The Ray engine on a cluster of two nodes, both on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from engine_checks import NEEDS, EngineChecks, attempt, begin, running, wait_for
from ray_nodes import TwoNodes, session

from factory.floor.engines import ray_client
from factory.floor.engines.ray import RayEngine
from factory.floor.engines.ray_node import node_environment
from factory.floor.host_meter import Running
from factory.floor.lines import Handle

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.slow

STRANGER = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None))
"""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """Return the cluster; when the module ends, none of its processes is left."""
    with pytest.MonkeyPatch.context() as patch:
        # A dead node is noticed in a few seconds instead of half a minute.
        patch.setenv("RAY_health_check_initial_delay_ms", "1000")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "4")
        cluster = TwoNodes(tmp_path_factory.mktemp("cluster"))
        for name, value in cluster.head.environment.items():
            patch.setenv(name, value)
        try:
            yield cluster
        finally:
            cluster.stop()
    wait_for(lambda: not left_over(str(cluster.root.parent)))
    wait_for(lambda: not session(cluster.head.pid))
    wait_for(lambda: not session(cluster.second.pid))


def left_over(folder: str) -> list[str]:
    """Return the commands of floor, wrappers and trainings that still use a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if process.cwd().startswith(folder) or ("factory.floor." in command and folder in command):
                found.append(command)
    return found


@pytest.fixture(scope="module")
def engine(two_nodes: TwoNodes) -> Iterator[RayEngine]:
    """Return an engine that takes the long way to every line: through Ray, as if to another host."""
    yield from attached(two_nodes)


@pytest.fixture(scope="module")
def another(two_nodes: TwoNodes) -> Iterator[RayEngine]:
    """Return a second engine."""
    yield from attached(two_nodes)


def attached(two_nodes: TwoNodes) -> Iterator[RayEngine]:
    """Yield an engine on the cluster, when both nodes are there."""
    engine = RayEngine(root=two_nodes.root, address=two_nodes.address)
    engine._host = "another host"
    try:
        wait_for(lambda: engine.capacity().cores == 2.0)
        yield engine
    finally:
        engine.close()


def holder(handle: Handle) -> psutil.Process:
    """Return the process of the actor that started an attempt."""
    parent = psutil.Process(handle.pid).parent()
    assert parent is not None
    return parent


def sockets_of(process: psutil.Process) -> list[Any]:
    """Return the sockets of a process; none if it has ended, as an idle worker may at any time."""
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []


def processes_of(processes: list[psutil.Process], program: str) -> list[psutil.Process]:
    """Return the processes that run a program."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(part.endswith(program) for part in process.cmdline()):
                found.append(process)
    return found


class TestRay(EngineChecks):
    """The list of all engines."""


def test_a_line_gets_the_environment_of_its_node(engine: RayEngine, tmp_path: Path) -> None:
    """Threads, allocator, debugger, devices, niceness and CPUs are not those that Ray gives its workers."""
    with running(engine, attempt(tmp_path)) as handle:
        training = psutil.Process(handle.pid).children()[0]
        found = training.environ()
        raylet = holder(handle).parent()
        assert raylet is not None
        # Unless Ray still does it, this test shows nothing.
        assert "libjemalloc" in raylet.environ()["LD_PRELOAD"]
        assert training.nice() == psutil.Process().nice()
        assert training.cpu_affinity() == psutil.Process().cpu_affinity()
    names = ("OMP_NUM_THREADS", "LD_PRELOAD", "PYTHONBREAKPOINT", "CUDA_VISIBLE_DEVICES", "PATH", "HOME")
    assert {name: found.get(name) for name in names} == {name: os.environ.get(name) for name in names}
    assert [name for name in found if name.startswith("RAY_")] == []


def test_the_meter_of_a_host_is_read_through_an_agent_on_it(engine: RayEngine, tmp_path: Path) -> None:
    """Energy and CPU time never fall; a host that is not in the cluster does not answer."""
    host = socket.gethostname()
    with running(engine, attempt(tmp_path)) as handle:
        attempts = {3: Running(attempt=1, handle=handle)}
        before = engine.read_meter(host, None, attempts)
        assert before is not None
        now = engine.read_meter(host, before.node, attempts)
        assert now is not None
    assert now.node.joules_total > before.node.joules_total >= 0.0
    assert now.cpu_s[3] >= before.cpu_s[3] >= 0.0
    assert engine.read_meter("nowhere", None, attempts) is None


def test_a_gpu_line_keeps_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with GPUs sees those that Ray assigned; one without sees what the node sees."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    node = SimpleNamespace(environ=lambda: {"PATH": "/bin", "RAY_AUTH_MODE": "token"})
    assert node_environment(node, 1) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1"}
    assert node_environment(node, 0) == {"PATH": "/bin"}


def test_the_cluster_is_closed_and_quiet(two_nodes: TwoNodes, engine: RayEngine, tmp_path: Path) -> None:
    """Nothing listens, or is connected, outside the loopback device; telemetry and memory monitor are off."""
    with running(engine, attempt(tmp_path)):
        processes = two_nodes.processes()
        sockets = [socket for process in processes for socket in sockets_of(process)]
    ends = [end for socket in sockets for end in (socket.laddr, socket.raddr) if end]
    assert len(ends) > 10
    assert [end for end in ends if not end.ip.removeprefix("::ffff:").startswith("127.")] == []
    for process in processes_of(processes, "dashboard.py"):
        assert [one for one in sockets_of(process) if one.status == psutil.CONN_LISTEN] == []
    raylets = processes_of(processes, "raylet/raylet")
    assert len(raylets) == 2
    for raylet in raylets:
        found = raylet.environ()
        assert found["RAY_USAGE_STATS_ENABLED"] == "0"
        assert found["RAY_memory_monitor_refresh_ms"] == "0"


def test_a_stranger_is_refused(two_nodes: TwoNodes, tmp_path: Path) -> None:
    """Token and sockets are the owner's only, and nobody gets in without the token."""
    assert stat.S_IMODE(two_nodes.head.folder.stat().st_mode) == 0o700
    token = Path(two_nodes.head.environment["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    tried = subprocess.run(
        [sys.executable, "-c", STRANGER, two_nodes.address],
        env={**os.environ, "RAY_AUTH_TOKEN_PATH": str(wrong)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tried.returncode != 0
    assert "AuthenticationError" in tried.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_line_outlives_its_actor(engine: RayEngine, tmp_path: Path, number: signal.Signals) -> None:
    """Whether Ray ends the actor or the kernel does, the line goes on and can be ended."""
    folder = attempt(tmp_path)
    handle = begin(engine, folder)
    actor = holder(handle)
    actor.send_signal(number)
    actor.wait(20.0)
    assert engine.is_alive(handle)
    engine.terminate(handle)
    wait_for(lambda: not engine.is_alive(handle))
    assert (folder / "checkpoint").exists()


def test_a_line_outlives_the_floor_and_its_driver(
    two_nodes: TwoNodes, engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Ray is away a line counts as alive; the engine attaches again by itself."""
    monkeypatch.setattr(ray_client, "_RETRY_S", 0.0)
    with running(engine, attempt(tmp_path)) as handle:
        engine._ray._driver.kill()
        engine._ray._driver.wait()
        assert engine.is_alive(handle)
        assert not engine.fits(NEEDS, [])
        wait_for(lambda: engine.fits(NEEDS, []))
        assert engine.is_alive(handle)


def test_a_node_that_dies_takes_only_its_lines(
    two_nodes: TwoNodes, engine: RayEngine, tmp_path: Path
) -> None:
    """Lines of the dead node are lost, so that they can go on elsewhere; the others do not notice."""
    with (
        running(engine, attempt(tmp_path)) as first,
        running(engine, attempt(tmp_path)) as second,
    ):
        is_lost = [os.getsid(holder(line).pid) == two_nodes.second.pid for line in (first, second)]
        assert sorted(is_lost) == [False, True]
        kept, lost = sorted((first, second), key=lambda line: is_lost[line is second])
        two_nodes.kill_second()
        wait_for(lambda: not engine.is_alive(lost))
        assert engine.is_alive(kept)
        wait_for(lambda: engine.capacity().cores == 1.0)
    with running(engine, attempt(tmp_path)) as again:
        assert engine.is_alive(again)
