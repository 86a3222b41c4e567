"""Commands that must refuse their arguments in one line, and write nothing."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra


def refused(main: Callable[[], Any], arguments: Sequence[str]) -> str:
    """Run a command in an empty folder, check that it refuses its arguments, and return the line."""
    out = io.StringIO()
    err = io.StringIO()
    GlobalHydra.instance().clear()
    with TemporaryDirectory() as cwd, pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["factory", *arguments])
        shown = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with shown[0], shown[1], pytest.raises(SystemExit) as stopped:
            main()
        assert os.listdir(cwd) == []
    line = err.getvalue()
    assert stopped.value.code == 2, line
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert out.getvalue() == ""
    return line
