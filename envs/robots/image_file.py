"""Size of an image before anything unpacks it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_MAX_PIXEL_BYTES = 8
_BLOCK_BYTES = 1 << 16


def num_pixels(path: Path, *, limit: int) -> int:
    """Return the number of pixels of a PNG file, 0 for other files, whose size is that of their pixels.

    Raises:
        ValueError: there are more than `limit`, or the data unpacks to more than the head says.
    """
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return 0
        head = file.read(16)
        if len(head) < 16 or head[4:8] != b"IHDR":
            raise ValueError(f"{path.name} is no whole PNG file")
        width, height = struct.unpack(">II", head[8:])
        if width * height > limit:
            raise ValueError(f"{path.name} has {width} x {height} pixels; make it smaller")
        # Up to two bytes of filters a row and pass; interlacing makes more, shorter rows.
        room = (_MAX_PIXEL_BYTES * width + 16) * (height + 16)
        file.seek(8)
        if not _fits(file, room):
            raise ValueError(f"{path.name} unpacks to more than its {width} x {height} pixels")
    return int(width * height)


def _fits(file: BinaryIO, room: int) -> bool:
    """Return True if the chunks of pixels unpack to at most `room` bytes."""
    stream = zlib.decompressobj()
    while len(head := file.read(8)) == 8:
        left, kind = _HEAD.unpack(head)
        if kind != b"IDAT":
            file.seek(left + 4, 1)
            continue
        while left and (packed := file.read(min(left, _BLOCK_BYTES))):
            left -= len(packed)
            while packed:
                try:
                    room -= len(stream.decompress(packed, _BLOCK_BYTES * 16))
                except zlib.error:
                    # MuJoCo stops here, too.
                    return True
                packed = stream.unconsumed_tail
                if room < 0:
                    return False
        file.seek(4, 1)
    return True
