"""Time in which the process was stopped is told from time in which it was busy or late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys, time
from factory.energy.meter import Meter

def work(seconds):
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass

meter = Meter()
meter.start()
with meter.phase("learn"):
    print("learning", flush=True)
    {work}
    meter.read()
with meter.phase("io"):
    pass
meter.close()
reading = meter.read()
print(json.dumps([reading.phase_s["idle"], reading.phase_s["learn"], reading.wall_s]))
"""


def seconds(work: str, *, stop_s: float) -> tuple[float, float, float, float]:
    """Return the seconds of `idle`, of `learn`, and of all, in a process that is stopped while it learns; and
    for how long it was, which on a busy machine is more than `stop_s`.
    """
    program = SCRIPT.replace("{work}", work)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stopped_s = 0.0
    try:
        assert process.stdout.readline() == "learning\n"
        time.sleep(0.3)
        if stop_s:
            begin_s = time.perf_counter()
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(stop_s)
            os.kill(process.pid, signal.SIGCONT)
            stopped_s = time.perf_counter() - begin_s
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    idle_s, learn_s, wall_s = json.loads(out)
    return idle_s, learn_s, wall_s, stopped_s


@pytest.mark.parametrize("work", ["work(0.8)", "time.sleep(4.0)"])
def test_stopped_time_is_idle(work: str) -> None:
    """Whether the process worked or waited when it was stopped; the rest keeps its phase."""
    idle_s, learn_s, wall_s, stopped_s = seconds(work, stop_s=3.0)
    assert idle_s == pytest.approx(stopped_s, abs=0.3)
    assert idle_s + learn_s == pytest.approx(wall_s, abs=0.05)


def test_code_that_keeps_other_threads_from_running_is_no_stop() -> None:
    """A search that holds Python's lock for seconds uses CPU time, and so keeps its phase."""
    # `re` never gives up the lock: exponential backtracking.
    idle_s, learn_s, _, _ = seconds("import re; re.match('(a+)+b', 'a' * 27)", stop_s=0.0)
    assert idle_s == 0.0
    assert learn_s > 1.5
