"""Layout → the volume in order, as whole clusters that are planned before they are read."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from builder.clusters import Cluster, ZeroRun
from builder.iso9660 import records
from builder.iso9660.directories import Directory
from builder.iso9660.layout import DESCRIPTORS, PATH_TABLE_L, PATH_TABLE_M, Layout
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.parts import Marks, Part, Planned
from builder.tree import Digests, Kind, Node


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


def clusters(layout: Layout) -> Iterator[Cluster]:
    """Yield the volume: clusters with data, and runs of those without."""
    for item in planned(layout, Marks(Digests(b""), b"")):
        if isinstance(item, ZeroRun):
            yield item
        else:
            yield item.read() or ZeroRun(1)


def planned(layout: Layout, marks: Marks) -> Iterator[Planned | ZeroRun]:
    """Yield the volume as clusters that are not read yet, and runs of those without data."""
    size = layout.parameters.cluster_bytes
    parts: list[Part] = []
    here = 0  # the cluster that is being planned
    for start, source, piece in _extents(layout):
        done, total = 0, len(source) if isinstance(source, bytes) else source.size
        while done < total:
            number, at = divmod(start + done, size)
            if number != here:
                if parts:
                    yield Planned(parts, size, marks)
                    parts = []
                    here += 1
                if number > here:
                    yield ZeroRun(number - here)
                here = number
            length = min(total - done, size - at)
            parts.append(Part(at, source, done, length, piece))
            done += length
    if parts:
        yield Planned(parts, size, marks)
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
