"""Jobs that do not fit into memory are refused before anything is allocated or written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.training import memory


def refused(command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the line with which a job is refused; nothing may be written."""
    with pytest.raises(SystemExit, match="2"):
        command_line(*arguments)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert not list(Path.cwd().iterdir())
    return err


@pytest.mark.parametrize("task", ["task=cartpole_swingup", "task=quadruped_velocity"])
def test_more_environments_than_fit_are_refused_with_the_number_that_fits(
    command_line: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    """The named number passes the same check, and one more world does not."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**9)
    line = refused(command_line, capsys, task, "num_envs=100000000")
    found = re.search(r"at most (\d+) fit", line)
    assert found and "1 GB" in line
    more = int(found[1]) + 1
    assert f"at most {found[1]} fit" in refused(command_line, capsys, task, f"num_envs={more}")


def test_free_memory_is_known() -> None:
    """It is positive here, and no more than a machine has."""
    assert 10**8 < memory.free_bytes("cpu") < 10**14
