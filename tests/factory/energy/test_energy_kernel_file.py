"""A kernel's file is opened once and tells what it holds at every reading."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from factory.energy.kernel_file import KernelFile


def test_every_reading_is_of_the_present(tmp_path: Path) -> None:
    """A shorter content after a longer one is read without the longer one's rest."""
    path = tmp_path / "usage"
    path.write_text("123456\n")
    file = KernelFile(path)
    assert [file.read(), file.read()] == ["123456\n", "123456\n"]
    path.write_text("7\n")
    assert file.read() == "7\n"


def test_real_files_of_the_kernel_move_on() -> None:
    """Read through one descriptor, the time since boot grows."""
    file = KernelFile(Path("/proc/uptime"))
    first = float(file.read().split()[0])
    while (now := float(file.read().split()[0])) == first:
        pass
    assert now > first


def test_descriptor_is_given_back() -> None:
    """An object nobody refers to leaves nothing open."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    file = KernelFile(Path("/proc/self/statm"))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Whoever looks for a counter finds out at once."""
    with pytest.raises(FileNotFoundError):
        KernelFile(tmp_path / "usage")
