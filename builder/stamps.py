"""Stamps: what lstat(2) said of a file. Other numbers mean another content. Pure.

A tree may have millions of files, so they are kept packed. Sorted, they are in the order of device
and inode.
"""

import os
import struct
from typing import NamedTuple

STAMP_BYTES = 48
_STAMP = struct.Struct(">QQQqIqI")
"""Times in seconds and nanoseconds apart: file systems know years that 64 bits of the latter do
not."""

_SIZE_AND_MTIME = struct.Struct(">16xQq16x")
_PLACE = struct.Struct(">qq32x")
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What tells a file's content from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def packed(self) -> bytes:
        """Return it in STAMP_BYTES bytes."""
        times = (*divmod(self.mtime_ns, _SECOND_NS), *divmod(self.ctime_ns, _SECOND_NS))
        return _STAMP.pack(self.device, self.inode, self.size, *times)

    @classmethod
    def of(cls, packed: bytes) -> "Stamp":
        """Read a packed one."""
        device, inode, size, mtime_s, mtime_rest, ctime_s, ctime_rest = _STAMP.unpack(packed)
        mtime_ns, ctime_ns = mtime_s * _SECOND_NS + mtime_rest, ctime_s * _SECOND_NS + ctime_rest
        return cls(device, inode, size, mtime_ns, ctime_ns)


def stamp_of(status: os.stat_result) -> bytes:
    """Return the packed stamp of a file."""
    _, inode, device, _, _, _, size, _, mtime_s, ctime_s = status
    mtime_rest, ctime_rest = status.st_mtime_ns % _SECOND_NS, status.st_ctime_ns % _SECOND_NS
    return _STAMP.pack(device, inode, size, mtime_s, mtime_rest, ctime_s, ctime_rest)


def size_and_mtime_s(stamp: bytes) -> tuple[int, int]:
    """Return the size and the whole seconds of the last change of a packed stamp."""
    size, mtime_s = _SIZE_AND_MTIME.unpack(stamp)
    return size, mtime_s


def place_of(stamp: bytes) -> tuple[int, int]:
    """Return the device and the inode of a packed stamp as a database's integers, with a sign."""
    device, inode = _PLACE.unpack(stamp)
    return device, inode
