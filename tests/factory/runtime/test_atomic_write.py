"""Files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.runtime.atomic_write import atomic_write


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Nothing is at the path while it is written, and nothing is left beside it."""
    path = tmp_path / "figures.json"
    with atomic_write(path) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("figures.json", "whole")]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """After an error the old content stands, and what was half written is gone."""
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as unfinished:
        unfinished.write_text("ha")
        raise RuntimeError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("figures.json", "old")]


def test_a_folder_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    """Its writer learns that it is gone."""
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "gone" / "figures.json") as unfinished:
        unfinished.write_text("whole")
    assert not list(tmp_path.iterdir())
