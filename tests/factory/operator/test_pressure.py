"""Pressure on the memory is read as the kernel writes it, and is none where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.operator.pressure import Pressure, read_pressure

KERNEL = (
    "some avg10=12.50 avg60=3.01 avg300=0.00 total=326506951\n"
    "full avg10=4.25 avg60=0.01 avg300=0.00 total=86572225\n"
)


def test_shares_of_ten_seconds_are_read(tmp_path: Path) -> None:
    """Percent are shares; a kernel before 5.13 has no second line for some resources."""
    path = tmp_path / "proc" / "pressure" / "memory"
    path.parent.mkdir(parents=True)
    path.write_text(KERNEL)
    assert read_pressure(path) == Pressure(some=0.125, full=0.0425)
    path.write_text(KERNEL.splitlines()[0] + "\n")
    assert read_pressure(path) == Pressure(some=0.125)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"some avg10=. avg60=1 \n", b"off\n"])
def test_without_a_readable_file_there_is_no_pressure(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, empty or strange is no reason for an alarm."""
    path = tmp_path / "memory"
    if content is not None:
        path.write_bytes(content)
    assert read_pressure(path) == Pressure()
