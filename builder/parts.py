"""Clusters that are not read yet: which bytes of which files lie where in them.

Whoever stores a cluster reads it when its turn comes, in a thread of its own, or knows it from an
earlier build by its key. Only this file opens what goes into an image.

A source is held against what the scan saw of it whenever it is read. A file that changed
meanwhile stops the build by name, for its image would be neither old nor new.
"""

import errno
import hashlib
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from builder.clusters import KEY_BYTES
from builder.contents import differs
from builder.names import shown
from builder.tree import Digests, Node
from slots.errors import BuildError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ZEROS = memoryview(bytes(1 << 20))
_PART = struct.Struct("<cIQI32s")


class Marks(NamedTuple):
    """What tells clusters from one another: digests of the files, and of our program."""

    digests: Digests
    program: bytes


class Unmade(Protocol):
    """Metadata that is not made yet: most of it is as it was, and need not be."""

    def make(self) -> bytes:
        """Return its bytes."""

    def digest(self, program: bytes) -> bytes:
        """Return a digest of what it is made of, and by what: 32 bytes."""


class Part(NamedTuple):
    """A run of bytes in a cluster: from where in it, of what, from where in that, how many.

    `number` is the place of a file in the tree.
    """

    at: int
    source: Node | Unmade | bytes
    offset: int
    length: int
    number: int


class Planned(NamedTuple):
    """A cluster that is not read yet."""

    parts: Sequence[Part]
    size: int
    marks: Marks

    def key(self) -> bytes:
        """Return a digest of what the cluster is made of."""
        rows: list[bytes] = []
        for at, source, offset, length, number in self.parts:
            if isinstance(source, Node):
                mark, digest = b"F", self.marks.digests[number]
            elif isinstance(source, bytes):
                data = source[offset : offset + length]
                mark, digest = b"L", hashlib.sha256(data).digest()
            else:
                mark, digest = b"T", source.digest(self.marks.program)
            rows.append(_PART.pack(mark, at, offset, length, digest))
        return hashlib.sha256(b"".join(rows)).digest()[:KEY_BYTES]

    def fill(self, buffer: memoryview) -> int:
        """Put the bytes of the cluster into a buffer; return how many, 0 if all lies in holes."""
        end, holds = 0, False
        for at, source, offset, length, _ in self.parts:
            if at > end:
                buffer[end:at] = _zeros(at - end)
            end = at + length
            if _put(buffer[at:end], source, offset):
                holds = True
            else:
                buffer[at:end] = _zeros(length)
        return end if holds else 0

    def read(self) -> bytes:
        """Return the bytes of the cluster; none if all lies in holes."""
        buffer = bytearray(self.size)
        return bytes(buffer) if self.fill(memoryview(buffer)) else b""


def _zeros(count: int) -> bytes | memoryview:
    """Return zeros without making them, up to the largest cluster."""
    return _ZEROS[:count] if count <= len(_ZEROS) else bytes(count)


def _put(part: memoryview, source: Node | Unmade | bytes, offset: int) -> bool:
    """Fill a part with bytes of a file or of metadata; False: they are a hole of the file."""
    if not isinstance(source, Node):
        data = source if isinstance(source, bytes) else source.make()
        part[:] = data[offset : offset + len(part)]
        return True
    path, content = source.file, source.content
    if path is not None:
        try:
            return _read(source, path, part, offset)
        except OSError as error:
            raise BuildError(
                f"{shown(source.path)} cannot be read from {shown(path)}: {error.strerror}",
                hint="make the source readable, or exclude the file",
            ) from error
    if isinstance(content, bytes):
        _expect(source, len(content) == source.size)
        part[:] = content[offset : offset + len(part)]
        return True
    _expect(source, source.size == 0)
    return False


def _read(node: Node, path: bytes, part: memoryview, offset: int) -> bool:
    descriptor = os.open(path, _FLAGS)
    try:
        holds = len(part) == node.size or not _is_hole(descriptor, offset, len(part))
        if holds:
            _expect(node, _read_whole(descriptor, part, offset))
        _expect(node, _unchanged(node, os.fstat(descriptor)))
        return holds
    finally:
        os.close(descriptor)


def _is_hole(descriptor: int, offset: int, length: int) -> bool:
    """Tell whether a file has no data in a range: it need not be read then."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO  # no data up to the end; others do not know of holes


def _read_whole(descriptor: int, part: memoryview, offset: int) -> bool:
    """Fill a part; False if the file ends before."""
    done = os.preadv(descriptor, (part,), offset)
    while 0 < done < len(part):
        more = os.preadv(descriptor, (part[done:],), offset + done)
        if more == 0:
            return False
        done += more
    return done == len(part)


def _unchanged(node: Node, now: os.stat_result) -> bool:
    return now.st_size == node.size and not differs(node, now)


def _expect(node: Node, unchanged: bool) -> None:
    if not unchanged:
        raise BuildError(
            f"{shown(node.path)} changed while it was read",
            hint="stop what writes to the source, then build again",
        )
