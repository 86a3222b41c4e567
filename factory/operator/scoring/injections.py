"""Injections: for each case what is done to a floor that really runs, before its start and in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factory.floor import budget_commands
from factory.floor.budget import Target
from factory.floor.store import Store
from factory.operator.scoring import floor_process
from factory.operator.scoring.cases import QUIET
from factory.operator.scoring.scene import Scene

_DISK_BYTES = 128 << 20
_FREE_SHARE = 0.035
_CLOCK_STEP_S = 120.0
_SERVER_S = 90.0
_AWAY_S = 3.0
"""Time for which nobody runs a floor that was killed."""


@dataclass(frozen=True, slots=True)
class Injection:
    """Harm that is done to a scene."""

    harm: Callable[[Scene], None]
    prepare: Callable[[Scene], tuple[str, ...]] = lambda scene: ()
    """Does what has to be there before the floor starts, and returns settings of the lines."""


def _kill(scene: Scene) -> None:
    os.kill(scene.training(scene.target)[0], signal.SIGKILL)


def _stop(scene: Scene) -> None:
    for pid in scene.training(scene.target):
        os.kill(pid, signal.SIGSTOP)


def _burn(number: int) -> Callable[[Scene], None]:
    def harm(scene: Scene) -> None:
        cpus = sorted(os.sched_getaffinity(scene.training(scene.target)[0]))
        scene.burn(number, cpus=cpus[:1])

    return harm


def _no_cpu_left(scene: Scene) -> tuple[str, ...]:
    """Use up all CPUs except as many as there are lines."""
    scene.burn(max(0, (os.cpu_count() or 1) - scene.case.num_lines))
    return ()


def _one_line_too_many(scene: Scene) -> None:
    scene.submit(seed=scene.seed + scene.case.num_lines)


def _sickness(name: str) -> Callable[[Scene], None]:
    def harm(scene: Scene) -> None:
        (scene.home(scene.target) / "sickness").write_text(name)

    return harm


def _nothing(scene: Scene) -> None:
    """Wait: the settings of the line are the fault, or there is none."""


def _small_disk(scene: Scene) -> tuple[str, ...]:
    if not scene.mount(_DISK_BYTES):
        raise PermissionError("disk: mounting a small disk needs root; leave this class out with classes=...")
    return ()


def _fill_disk(scene: Scene) -> None:
    """Fill it up to a few per cent, with a file of somebody else's."""
    free = shutil.disk_usage(scene.root).free
    with (scene.root / "ballast").open("wb") as file:
        file.truncate(0)
        file.write(bytes(max(0, free - int(_FREE_SHARE * _DISK_BYTES))))


def _tracking_server(scene: Scene) -> tuple[str, ...]:
    """Start an MLflow server, and wait until it answers."""
    with socket.socket() as probe:
        # Port 0: the system picks a free one.
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{scene.folder / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    with (scene.folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", store, "--workers", "1"], stdout=log, stderr=log
        )
    scene.helpers.append(server)
    limit_s = time.monotonic() + _SERVER_S
    while time.monotonic() < limit_s:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2.0):
                return (f"tracking.uri={uri}",)
        except (OSError, urllib.error.URLError):
            time.sleep(1.0)
    raise RuntimeError(f"{scene.folder}: the tracking server does not answer; see server.log there")


def _stop_server(scene: Scene) -> None:
    scene.end_helpers()


def _cut_checkpoint(scene: Scene) -> None:
    """Take the last bytes off a file of the newest checkpoint."""
    folder = scene.wait_for_checkpoint(scene.target)
    file = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)


def _drop_budget(scene: Scene) -> None:
    """Set a target below what the only line needs, which may not be shed."""
    power_w = scene.ticks()[-1]["power_w"]
    _set_target(scene, 0.5 * power_w)


def _repeat_target(scene: Scene) -> None:
    _set_target(scene, 1000.0, times=2)


def _set_target(scene: Scene, watts: float, *, times: int = 1) -> None:
    now = time.time()
    target = Target(watts=watts, start=now, end=None, issued=now)
    with Store(scene.root) as store, store.transaction():
        for _ in range(times):
            budget_commands.add_targets(store, [target], now=now)


def _counters(scene: Scene) -> tuple[str, ...]:
    """Make a tree of energy counters with one package."""
    zone = scene.folder / floor_process.COUNTERS / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000")):
        (zone / name).write_text(text)
    return ()


def _take_counter_away(scene: Scene) -> None:
    _counter(scene).unlink()


def _counter(scene: Scene) -> Path:
    return scene.folder / floor_process.COUNTERS / "intel-rapl:0" / "energy_uj"


def _step_clock(scene: Scene) -> None:
    (scene.folder / floor_process.CLOCK).write_text(str(_CLOCK_STEP_S))


def _kill_floor(scene: Scene) -> None:
    """Kill the floor; somebody starts it again."""
    scene.kill_floor()
    time.sleep(_AWAY_S)
    scene.start_floor()


INJECTIONS: dict[str, Injection] = {
    "crash": Injection(_kill),
    "hang": Injection(_stop),
    # Four others on the CPU that the line is bound to leave it a fifth, one leaves it a half.
    "crawl": Injection(_burn(4)),
    "fail_slow": Injection(_burn(1)),
    "contention": Injection(_one_line_too_many, prepare=_no_cpu_left),
    "memory": Injection(_sickness("leak")),
    "divergence_nan": Injection(_sickness("poison")),
    "divergence_rate": Injection(_nothing),
    "crash_loop": Injection(_sickness("exit")),
    "disk": Injection(_fill_disk, prepare=_small_disk),
    "ledger": Injection(_stop_server, prepare=_tracking_server),
    "bad_checkpoint": Injection(_cut_checkpoint),
    "over_budget": Injection(_drop_budget),
    "meter": Injection(_take_counter_away, prepare=_counters),
    "clock": Injection(_step_clock),
    "duplicate": Injection(_repeat_target),
    "floor_died": Injection(_kill_floor),
    QUIET.name: Injection(_nothing),
}
