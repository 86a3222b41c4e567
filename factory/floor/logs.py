"""`floor logs`: the output of a line as it is, or as text where a terminal would obey it."""

from __future__ import annotations

import argparse
import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from factory.floor.lines import Attempt
from factory.floor.store import Store
from factory.reporting.stream import unescaped_stdout
from factory.runtime import stored_files
from factory.runtime.stored_files import visible


def logs(given: argparse.Namespace) -> int:
    """Print the output of a line's newest attempt.

    A pipe or a file gets the bytes as they are. On a terminal, control characters are spelled out, since a
    training may print the words of anybody, and a carriage return begins a new line; `--raw` sends all of it.
    """
    with Store(given.root) as store:
        line = store.line(given.line)
        attempt = store.last_attempt(line.id)
    if attempt is None:
        raise ValueError(f"line {line.id}: not started yet, so there is no output")
    stdout = unescaped_stdout()
    is_escaped = stdout.isatty() and not given.raw
    for path in _files(given.root, attempt):
        pieces = stored_files.read_pieces(path)
        if is_escaped:
            for text in _texts(pieces):
                stdout.write(text)
        else:
            for piece in pieces:
                stdout.write_bytes(piece)
    stdout.flush()
    return 0


def _files(root: Path, attempt: Attempt) -> Iterator[Path]:
    """Yield the files with output below this floor, which may be a stranger's, or moved since."""
    folder = root / "lines" / str(attempt.line) / str(attempt.number)
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"root={root}: {folder} is a link out of the floor; put a copy there")
    for name in ("stdout", "stderr"):
        path = folder / name
        # The wrapper makes the files when the training starts, so one may be missing still.
        if os.path.lexists(path):
            yield path


def _texts(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield text without control characters other than tabulators and ends of lines."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    for piece in pieces:
        yield _shown(decoder.decode(piece))
    yield _shown(decoder.decode(b"", final=True))


def _shown(text: str) -> str:
    return "\t".join(visible(part) for part in text.split("\t"))
