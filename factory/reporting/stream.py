"""Standard output that never ends a run: closed pipes, full disks and narrow encodings are tolerated.

Commands that show names and messages of others print them as text, with control characters spelled out.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO, cast

from factory.runtime.stored_files import visible


class SteadyStream(io.TextIOBase):
    """Writes to another stream, escapes what it cannot encode, and falls silent once it fails.

    A reader that has gone (`| head`, `| tee log` and Ctrl-C) or a full disk must not cost a checkpoint.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._is_open = True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream behind."""
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream behind is an open terminal."""
        # Libraries that keep standard output, such as colorama, ask at exit, when it may be closed.
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream behind."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write what can be written; return the length of `text`."""
        if self._is_open:
            try:
                self._write_escaped(text)
            except (OSError, ValueError):
                self._fall_silent()
        return len(text)

    def write_bytes(self, content: bytes) -> None:
        """Write bytes as they are, past the encoding, if the stream behind takes bytes at all."""
        buffer = getattr(self._stream, "buffer", None)
        if buffer is None:
            self.write(content.decode(errors="replace"))
        elif self._is_open:
            try:
                # Text that was written before comes first.
                self._stream.flush()
                buffer.write(content)
            except (OSError, ValueError):
                self._fall_silent()

    def flush(self) -> None:
        """Flush the stream behind, if it still takes anything."""
        if self._is_open:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._fall_silent()

    def _write_escaped(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            # A terminal with a narrow encoding shows `\u00b5` instead of ending the run.
            encoded = text.encode(self.encoding, errors="backslashreplace")
            self._stream.write(encoded.decode(self.encoding))

    def _fall_silent(self) -> None:
        """Send buffered and later output to nowhere, since Python flushes once more at its end."""
        # Silence from now on: the next write must not fail again.
        self._is_open = False
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class EscapedStream(io.TextIOBase):
    """Writes to another stream, with control characters spelled out.

    A name or a message from a stranger could otherwise move the cursor, or change a terminal's title.
    """

    def __init__(self, stream: SteadyStream) -> None:
        """Write to `stream`."""
        self.behind = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream behind."""
        return self.behind.encoding

    def isatty(self) -> bool:
        """Return whether the stream behind is an open terminal."""
        return self.behind.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream behind."""
        return self.behind.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        self.behind.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self.behind.flush()


def unescaped_stdout() -> SteadyStream:
    """Return standard output for those who draw on the terminal, and escape what they have from elsewhere."""
    if isinstance(sys.stdout, EscapedStream):
        return sys.stdout.behind
    return SteadyStream(sys.stdout)


@contextlib.contextmanager
def escaped_stdout() -> Iterator[None]:
    """Replace `sys.stdout` by one on which control characters are spelled out, inside the block."""
    before = sys.stdout
    steady = before if isinstance(before, SteadyStream) else SteadyStream(before)
    sys.stdout = cast(TextIO, EscapedStream(steady))
    try:
        yield
    finally:
        sys.stdout = before


@contextlib.contextmanager
def steady_stdout() -> Iterator[None]:
    """Replace `sys.stdout` by a steady one inside the block."""
    # Tests and notebooks may have replaced it already.
    before = sys.stdout
    if before is None:
        # Python started with a closed standard output (`>&-`). Nowhere takes its place and its number, so
        # that no file of the run gets what a library prints.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  lives as long as the process
        yield
        return
    sys.stdout = cast(TextIO, SteadyStream(before))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = before
