"""Layout → a squashfs 4.0 image: blocks, fragments, then the tables, the superblock last.

    superblock · blocks of files · fragments · inodes · listings · fragments' places · owners

Threads read and compress (builder/packing.py), the caller's thread writes. Each table is followed
by what the kernel wants behind it (fs/squashfs/super.c): for fragments and owners a list of where
their blocks are.
"""

import struct
from array import array
from collections.abc import Callable, Iterator
from itertools import repeat, tee
from typing import BinaryIO, NamedTuple

from builder.clusters import Recall, Stored, nothing_known
from builder.packing import Buffer, Packed, Work, pack
from builder.parts import Marks, Part, Planned
from builder.squashfs import records
from builder.squashfs.codecs import CODECS
from builder.squashfs.layout import Fragment, Layout
from builder.squashfs.records import Content
from builder.squashfs.tables import tables


class Method(NamedTuple):
    """How blocks are compressed."""

    codec: str
    level: int
    threads: int
    recall: Recall = nothing_known


class Written(NamedTuple):
    """What was written: how many blocks, how many of them an earlier build had made.

    `kept` tells later ones where they lie.
    """

    kept: tuple[Stored, ...]
    blocks: int
    recalled: int


def write(
    layout: Layout,
    marks: Marks,
    out: BinaryIO,
    method: Method,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write an image to `out`, which is empty and can be sought.

    `on_progress` is told how many bytes of files are done.
    """
    image = _Image(layout, marks, out, method, on_progress)
    image.write_blocks()
    image.write_fragments()
    image.write_tables()
    out.flush()
    return Written(tuple(image.kept), image.blocks, image.recalled)


class _Image:
    """The image as far as it is written."""

    def __init__(
        self,
        layout: Layout,
        marks: Marks,
        out: BinaryIO,
        method: Method,
        on_progress: Callable[[int], None],
    ) -> None:
        self._layout, self._marks, self._out, self._method = layout, marks, out, method
        self._on_progress = on_progress
        self._codec = CODECS[method.codec]
        self._owners = sorted({number for node in layout.tree for number in (node.uid, node.gid)})
        self._contents: dict[int, Content] = {}  # of nodes that own blocks
        self._rows = bytearray(len(records.fragment(0, 0)) * layout.fragment_count)
        self._end = records.SUPERBLOCK_BYTES
        self._done_bytes = 0
        self.kept: list[Stored] = []
        self.blocks = self.recalled = 0
        out.seek(self._end)

    def write_blocks(self) -> None:
        """Write the files that have blocks of their own."""
        nodes, block_bytes = self._layout.tree.nodes, self._layout.block_bytes
        stored = self._stored(_blocks(self._layout, self._marks), store_all=False)
        for number in self._layout.large:
            start, hole_bytes, lengths = self._end, 0, array("I")
            for size in _sizes(nodes[number].size, block_bytes):
                length = self._add(next(stored), size)
                lengths.append(length)
                hole_bytes += 0 if length else size
            self._contents[number] = Content(start, _u32s(lengths), hole_bytes)

    def write_fragments(self) -> None:
        """Write what holds the small files."""
        fragments = self._layout.fragments
        planned, again = tee(_fragment(self._layout, self._marks, one) for one in fragments)
        stored = self._stored(planned, store_all=True)
        for one, part, packed in zip(fragments, again, stored, strict=True):
            row = records.fragment(self._end, self._add(packed, part.size))
            at = one.number * len(row)
            self._rows[at : at + len(row)] = row

    def _stored(self, planned: Iterator[Planned], *, store_all: bool) -> Iterator[Packed]:
        """Read and compress; yield in order."""
        codec, method, block_bytes = self._codec, self._method, self._layout.block_bytes
        work = Work(
            transforms=lambda: codec.packer(method.level, block_bytes),
            stored=_shorter,
            zeros=bytes(block_bytes),
            recall=method.recall,
            store_all=store_all,
        )
        for job in pack(work, planned, 0, method.threads):
            yield from (one for one in job if isinstance(one, Packed))

    def _add(self, packed: Packed, size: int) -> int:
        """Write a block; return its length as the tables tell it, 0 for a hole."""
        data, length = packed.stored, len(packed.stored)
        if packed.key:
            row = Stored(packed.key, self._end, length, packed.stream_bytes, packed.digest)
            self.kept.append(row)
        self._out.write(data)
        self._end += length
        self.blocks += 1
        self.recalled += packed.is_recalled
        self._done_bytes += size
        self._on_progress(self._done_bytes)
        return length | records.UNCOMPRESSED_BLOCK if length == size else length

    def write_tables(self) -> None:
        """Write all that tells of the blocks, and the superblock that tells of it."""
        layout = self._layout
        inodes, listings = tables(layout, self._contents, self._owners)
        inodes_at = self._put(inodes)
        listings_at = self._put(listings)
        fragments_at = self._put_listed(self._rows) if self._rows else records.NO_TABLE
        owners_at = self._put_listed(_u32s(array("I", self._owners)))
        superblock = records.Superblock(
            inodes=records.number_of(len(inodes) - 1),
            made_s=max(node.mtime_s for node in layout.tree),
            block_bytes=layout.block_bytes,
            fragments=layout.fragment_count,
            compressor=self._codec.number,
            stored=self._codec.stored,
            owners=len(self._owners),
            root=layout.positions[0],
            used_bytes=self._end,
            owners_at=owners_at,
            inodes_at=inodes_at,
            listings_at=listings_at,
            fragments_at=fragments_at,
        )
        self._out.seek(0)
        self._out.write(superblock.packed())

    def _put(self, table: bytes | bytearray) -> int:
        """Write a table; return where it begins."""
        at = self._end
        for block in records.metadata(table):
            self._out.write(block)
            self._end += len(block)
        return at

    def _put_listed(self, table: bytes | bytearray) -> int:
        """Write a table and the list of its blocks; return where the list begins."""
        starts = range(self._put(table), self._end, records.STORED_METADATA_BYTES)
        self._out.write(struct.pack(f"<{len(starts)}Q", *starts))
        at = self._end
        self._end += 8 * len(starts)
        return at


def _blocks(layout: Layout, marks: Marks) -> Iterator[Planned]:
    """Yield the blocks of the files that have some."""
    nodes = layout.tree.nodes
    for number in layout.large:
        node, offset = nodes[number], 0
        for size in _sizes(node.size, layout.block_bytes):
            yield Planned((Part(0, node, offset, size, number),), size, marks)
            offset += size


def _sizes(size_bytes: int, block_bytes: int) -> Iterator[int]:
    """Yield the bytes of each block of a file."""
    whole, rest = divmod(size_bytes, block_bytes)
    yield from repeat(block_bytes, whole)
    if rest:
        yield rest


def _fragment(layout: Layout, marks: Marks, one: Fragment) -> Planned:
    nodes, offsets = layout.tree.nodes, layout.offsets
    parts = [
        Part(offsets[member], nodes[member], 0, nodes[member].size, member)
        for member in one.members
    ]
    return Planned(parts, parts[-1].at + parts[-1].length, marks)


def _shorter(stream: bytes, data: Buffer) -> bytes:
    """Return what is stored of a block."""
    return stream if len(stream) < len(data) else bytes(data)


def _u32s(numbers: "array[int]") -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)
