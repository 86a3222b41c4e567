"""ProcessTree: CPU seconds of a process and its descendants, as the kernel counts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from factory.energy.process_tree import ProcessTable, ProcessTimes, ProcessTree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BURN = """
import os, signal, subprocess, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def child(seconds, then="pass"):
    script = f"__file__ = {__file__!r}; exec(open(__file__).read()); burn({seconds}); {then}"
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", script], stdin=quiet, stdout=quiet)

def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(tmp_path: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script; it burns CPU time with `burn` and `child`, calls `ready`, and then may end."""
    (tmp_path / "burn.py").write_text(BURN)
    prelude = f"__file__ = {str(tmp_path / 'burn.py')!r}\nexec(open(__file__).read())\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(script)]
    started = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate(timeout=60)


def watch(tree: ProcessTree, started: subprocess.Popen[str]) -> float:
    """Count the tree every 50 ms until the script is ready, and then a last time."""
    assert started.stdout is not None
    os.set_blocking(started.stdout.fileno(), False)
    deadline_s = time.monotonic() + 60.0
    while not started.stdout.read(1):
        tree.cpu_s()
        time.sleep(0.05)
        assert time.monotonic() < deadline_s
    return tree.cpu_s()


def wait(started: subprocess.Popen[str]) -> float:
    """Let the script end and return the kernel's count [s]."""
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()
    _, status, usage = os.wait4(started.pid, 0)
    started.returncode = status
    return usage.ru_utime + usage.ru_stime


@pytest.mark.slow
def test_counts_what_the_kernel_counts(tmp_path: Path) -> None:
    """Short-lived and long-lived children, ended and not ended, cost what the kernel says, within 1 %."""
    script = """
        old = child(0.5, "time.sleep(60)")
        for _ in range(5):
            child(0.05).wait()
        burn(0.7)
        both = [child(0.1), child(0.1)]
        for one in both:
            one.wait()
        time.sleep(0.7)
        ready()
        old.kill()
        old.wait()
        os._exit(0)
    """
    with process(tmp_path, script) as started:
        counted_s = watch(ProcessTree(started.pid), started)
        kernel_s = wait(started)
    assert kernel_s > 1.6
    assert counted_s == pytest.approx(kernel_s, rel=0.01, abs=0.02)


ITSELF = """
import resource, time
from factory.energy.process_tree import ProcessTree

def kernel_s():
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited.ru_utime + waited.ru_stime

tree = ProcessTree()
longest_s = -kernel_s()
counted_s = -tree.cpu_s()
shortest_s = -kernel_s()
child(0.3).wait()
sum(range(3_000_000))
shortest_s += kernel_s()
counted_s += tree.cpu_s()
longest_s += kernel_s()
print(0.3 < shortest_s <= counted_s <= longest_s, shortest_s, counted_s, longest_s)
"""


def test_own_process_counts_itself(tmp_path: Path) -> None:
    """Its own threads and children a process counts without a tick's error: between what the kernel said
    just after and just before, and just before and just after.
    """
    with process(tmp_path, ITSELF) as started:
        told, _ = started.communicate(timeout=120)
    assert told.startswith("True "), told


ORPHAN = """
    child(0.0, 'child(0.5, "open(\\'burnt\\', \\'w\\'); time.sleep(60)"); time.sleep(1.5)').wait()
    while not os.path.exists("burnt"):
        time.sleep(0.05)
    ready()
"""
FORGOTTEN = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    child(0.5, "time.sleep(1)").wait()
    ready()
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [ORPHAN, FORGOTTEN])
def test_children_that_nobody_waits_for_count(tmp_path: Path, script: str) -> None:
    """A descendant stays in the count when its parent ended first, and when its time went to no parent."""
    with process(tmp_path, script) as started:
        tree = ProcessTree(started.pid)
        counted_s = watch(tree, started)
        root = ProcessTable().read(started.pid)
        assert root is not None
        # The kernel's count for the root lacks the descendant's time; the tree has it.
        assert 0.5 < counted_s - root.total_s < 1.0
    assert tree.cpu_s() >= counted_s


def test_count_stays_when_the_tree_has_ended(tmp_path: Path) -> None:
    """The last count remains, although the process is gone or its number is used again."""
    with process(tmp_path, "burn(0.2)\nready()") as started:
        tree = ProcessTree(started.pid)
        counted_s = watch(tree, started)
        wait(started)
    assert tree.cpu_s() == pytest.approx(counted_s, abs=0.05)
    assert tree.cpu_s() > 0.2


def test_no_process_no_tree() -> None:
    """A number without a process is refused."""
    with pytest.raises(ProcessLookupError, match="no process"):
        ProcessTree(2**22 + 1)


# Numbers that no real process can have: only the folder knows them.
ROOT, CHILD, GRANDCHILD, OLDER = range(2**22 + 10, 2**22 + 14)


class FakeProc:
    """A folder like /proc with processes of known times, in ticks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(1, parent=0, started=1)
        (root / "self").symlink_to(root / "1")

    def write(
        self, pid: int, *, parent: int, started: int, own: int = 0, reaped: int = 0, name: str = "a) (b"
    ) -> None:
        """Write a process."""
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        rest = f"S {parent} {'0 ' * 9}{own} 0 {reaped} 0 20 0 1 0 {started} 0"
        (folder / "stat").write_text(f"{pid} ({name}) {rest}\n")

    def remove(self, pid: int) -> None:
        """End a process."""
        (self.root / str(pid) / "stat").unlink()
        (self.root / str(pid)).rmdir()


def seen(tree: ProcessTree) -> float:
    """Return the count after a search [ticks]."""
    tree._table._scanned_s = float("-inf")
    return tree.cpu_s() * os.sysconf("SC_CLK_TCK")


def test_waited_for_child_moves_to_its_parent(tmp_path: Path) -> None:
    """The child's time is counted once, before and after; new time of both is added."""
    proc = FakeProc(tmp_path)
    proc.write(ROOT, parent=1, started=5, own=100)
    proc.write(CHILD, parent=ROOT, started=6, own=50)
    tree = ProcessTree(ROOT, table=ProcessTable(tmp_path))
    assert seen(tree) == pytest.approx(150.0)
    proc.remove(CHILD)
    proc.write(ROOT, parent=1, started=5, own=110, reaped=70)
    assert seen(tree) == pytest.approx(180.0)


def test_two_generations_that_go_at_once_are_checked_against_the_living(tmp_path: Path) -> None:
    """A grandchild that was orphaned and ended between two looks keeps its last count."""
    proc = FakeProc(tmp_path)
    proc.write(ROOT, parent=1, started=5, own=100)
    proc.write(CHILD, parent=ROOT, started=6, own=50)
    proc.write(GRANDCHILD, parent=CHILD, started=7, own=30)
    tree = ProcessTree(ROOT, table=ProcessTable(tmp_path))
    assert seen(tree) == pytest.approx(180.0)
    proc.remove(CHILD)
    proc.remove(GRANDCHILD)
    proc.write(ROOT, parent=1, started=5, own=100, reaped=50)
    assert seen(tree) == pytest.approx(180.0)


def test_reused_numbers_are_strangers(tmp_path: Path) -> None:
    """A process with a member's old number, or older than its apparent parent, is not in the tree."""
    proc = FakeProc(tmp_path)
    proc.write(ROOT, parent=1, started=5, own=100)
    proc.write(CHILD, parent=ROOT, started=6, own=50)
    proc.write(OLDER, parent=ROOT, started=4, own=1000)
    tree = ProcessTree(ROOT, table=ProcessTable(tmp_path))
    assert seen(tree) == pytest.approx(150.0)
    proc.write(CHILD, parent=1, started=900, own=7000)
    proc.write(ROOT, parent=1, started=5, own=100, reaped=50)
    assert seen(tree) == pytest.approx(150.0)


def test_process_waited_for_while_the_tree_is_read_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ends between its own reading and its parent's would count twice: it is read again."""
    proc = FakeProc(tmp_path)
    proc.write(ROOT, parent=1, started=5, own=100)
    proc.write(CHILD, parent=ROOT, started=6, own=50)
    table = ProcessTable(tmp_path)
    tree = ProcessTree(ROOT, table=table)
    assert seen(tree) == pytest.approx(150.0)
    real_read = table.read

    def read(pid: int) -> ProcessTimes | None:
        times = real_read(pid)
        if pid == CHILD and times is not None:
            proc.remove(CHILD)
            proc.write(ROOT, parent=1, started=5, own=100, reaped=50)
        return times

    monkeypatch.setattr(table, "read", read)
    tree._members = dict(reversed(tree._members.items()))
    assert seen(tree) == pytest.approx(150.0)
    assert seen(tree) == pytest.approx(150.0)


def test_ten_trees_cost_little(tmp_path: Path) -> None:
    """A tick over ten lines with a worker each costs less than 5 ms of CPU time."""
    script = "one = child(0.0, 'time.sleep(60)')\ntime.sleep(0.3)\nready()\none.kill()"
    with process(tmp_path, script) as started:
        watch(ProcessTree(started.pid), started)
        table = ProcessTable()
        trees = [ProcessTree(started.pid, table=table) for _ in range(10)]
        costs_s = []
        for _ in range(20):
            table._scanned_s = float("-inf")
            begin_s = time.process_time()
            for tree in trees:
                tree.cpu_s()
            costs_s.append(time.process_time() - begin_s)
        wait(started)
    assert min(costs_s) < 0.005
