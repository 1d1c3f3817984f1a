"""Layout → the volume in order, as whole clusters; the only file here that opens anything.

A cluster is planned first: which bytes of which files lie where in it. Whoever stores it reads it
when its turn comes, in a thread of its own, or knows it from an earlier build by its key.

A source is held against what the scan saw of it whenever it is read. A file that changed
meanwhile stops the build by name, for its image would be neither old nor new.
"""

import errno
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from builder.clusters import KEY_BYTES, Cluster, ZeroRun
from builder.contents import differs
from builder.iso9660 import records
from builder.iso9660.directories import Directory
from builder.iso9660.layout import DESCRIPTORS, PATH_TABLE_L, PATH_TABLE_M, Layout
from builder.iso9660.limits import show_path
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.tree import Digests, Kind, Node
from slots.errors import BuildError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ZEROS = memoryview(bytes(1 << 20))
_PART = struct.Struct("<cIQI32s")


class Made(NamedTuple):
    """What tells clusters from one another: digests of the files, and of our program."""

    digests: Digests
    program: bytes


class _Table(NamedTuple):
    """A directory's table that is not made yet: most are as they were, and need not be."""

    layout: Layout
    directory: Directory

    @property
    def size(self) -> int:
        """The bytes of the table."""
        return (self.directory.table_blocks + self.directory.overflow_blocks) * BLOCK_BYTES

    def make(self) -> bytes:
        """Return the table."""
        return records.directory_table(self.layout, self.directory)

    def digest(self, program: bytes) -> bytes:
        """Return a digest of what it is made of, and by what."""
        inputs = records.table_inputs(self.layout, self.directory)
        return hashlib.sha256(program + inputs).digest()


class _Part(NamedTuple):
    """A run of bytes in a cluster: from where in it, of what, from where in that, how many.

    `number` is the place of a file in the tree.
    """

    at: int
    source: Node | _Table | bytes
    offset: int
    length: int
    number: int


class Planned(NamedTuple):
    """A cluster that is not read yet."""

    parts: Sequence[_Part]
    cluster_bytes: int
    made: Made

    def key(self) -> bytes:
        """Return a digest of what the cluster is made of."""
        rows: list[bytes] = []
        for at, source, offset, length, number in self.parts:
            if isinstance(source, Node):
                mark, digest = b"F", self.made.digests[number]
            elif isinstance(source, _Table):
                mark, digest = b"T", source.digest(self.made.program)
            else:
                data = source[offset : offset + length]
                mark, digest = b"L", hashlib.sha256(data).digest()
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
        buffer = bytearray(self.cluster_bytes)
        return bytes(buffer) if self.fill(memoryview(buffer)) else b""


def _zeros(count: int) -> bytes | memoryview:
    """Return zeros without making them, up to the largest cluster."""
    return _ZEROS[:count] if count <= len(_ZEROS) else bytes(count)


def clusters(layout: Layout) -> Iterator[Cluster]:
    """Yield the volume: clusters with data, and runs of those without."""
    for item in planned(layout, Made(Digests(b""), b"")):
        if isinstance(item, ZeroRun):
            yield item
        else:
            yield item.read() or ZeroRun(1)


def planned(layout: Layout, made: Made) -> Iterator[Planned | ZeroRun]:
    """Yield the volume as clusters that are not read yet, and runs of those without data."""
    size = layout.parameters.cluster_bytes
    parts: list[_Part] = []
    here = 0  # the cluster that is being planned
    for start, source, piece in _extents(layout):
        done, total = 0, len(source) if isinstance(source, bytes) else source.size
        while done < total:
            number, at = divmod(start + done, size)
            if number != here:
                if parts:
                    yield Planned(parts, size, made)
                    parts = []
                    here += 1
                if number > here:
                    yield ZeroRun(number - here)
                here = number
            length = min(total - done, size - at)
            parts.append(_Part(at, source, done, length, piece))
            done += length
    if parts:
        yield Planned(parts, size, made)
        here += 1
    if rest := layout.cluster_count - here:
        yield ZeroRun(rest)


def _extents(layout: Layout) -> Iterator[tuple[int, Node | _Table | bytes, int]]:
    """Yield what the volume holds in order: where it begins, what it is, its piece."""
    nodes, blocks, directory = layout.tree.nodes, layout.first_blocks, Kind.DIRECTORY
    for piece in layout.pieces:
        if piece >= 0 and nodes[piece].kind is not directory:
            yield blocks[piece] * BLOCK_BYTES, nodes[piece], piece
        else:
            yield layout.first_block(piece) * BLOCK_BYTES, _metadata(layout, piece), piece


def _metadata(layout: Layout, piece: int) -> _Table | bytes:
    match piece:
        case _ if piece == DESCRIPTORS:
            return records.descriptors(layout)
        case _ if piece == PATH_TABLE_L:
            return records.path_table(layout, "<")
        case _ if piece == PATH_TABLE_M:
            return records.path_table(layout, ">")
        case _:
            table = _Table(layout, layout.directories[layout.numbers[piece]])
            # A long one would be made again for each of its clusters, and be known by none alone.
            return table if table.size <= layout.parameters.cluster_bytes else table.make()


def _put(part: memoryview, source: Node | _Table | bytes, offset: int) -> bool:
    """Fill a part with bytes of a file or of metadata; False: they are a hole of the file."""
    if isinstance(source, _Table):
        source = source.make()
    if isinstance(source, bytes):
        part[:] = source[offset : offset + len(part)]
        return True
    path, data = source.file, source.content
    if path is not None:
        try:
            return _read(source, path, part, offset)
        except OSError as error:
            raise BuildError(
                f"{show_path(source.path)} cannot be read from {show_path(path)}: {error.strerror}",
                hint="make the source readable, or exclude the file",
            ) from error
    if isinstance(data, bytes):
        _expect(source, len(data) == source.size)
        part[:] = data[offset : offset + len(part)]
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
            f"{show_path(node.path)} changed while it was read",
            hint="stop what writes to the source, then build again",
        )
