"""The head of a uzip image: 128 bytes of text, cluster size, count, and the TOC; big-endian."""

import struct
import sys
from array import array
from collections.abc import Sequence

MAGIC_BYTES = 128
COUNTS = struct.Struct(">II")
COUNTS_END = MAGIC_BYTES + COUNTS.size
OFFSET_BYTES = 8
SECTOR_BYTES = 512


def head_bytes(count: int) -> int:
    """Return where the TOC of so many clusters ends."""
    return COUNTS_END + OFFSET_BYTES * (count + 1)


def pack_head(magic: bytes, cluster_bytes: int, toc: Sequence[int]) -> bytes:
    """Return the head of an image; the TOC has one offset more than there are clusters."""
    offsets = array("Q", toc)
    if sys.byteorder == "little":
        offsets.byteswap()
    counts = COUNTS.pack(cluster_bytes, len(toc) - 1)
    return magic.ljust(MAGIC_BYTES, b"\0") + counts + offsets.tobytes()


def unpack_toc(data: bytes) -> "array[int]":
    """Return the offsets of a TOC."""
    offsets = array("Q", data)
    if sys.byteorder == "little":
        offsets.byteswap()
    return offsets
