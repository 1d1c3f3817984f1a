"""Layout → bytes of descriptors, path tables and directories (ECMA-119). No decision is made here.

Numbers are written in both byte orders. Dates of the volume are "not specified", so that the same
tree is the same image.
"""

import struct
from collections.abc import Iterator
from typing import Literal

from builder.iso9660 import rockridge
from builder.iso9660.directories import MAX_RECORD_BYTES, OWN_RECORDS, Directory, record_base
from builder.iso9660.layout import Layout
from builder.iso9660.rockridge import BLOCK_BYTES, both32
from builder.placing import name_hash
from builder.tree import Kind, Node

FLAG_DIRECTORY = 2
OWN, PARENT = b"\0", b"\1"
NO_TIME = bytes(7)
SERIALS_PER_BLOCK = 64
NO_DATE = b"0" * 16 + b"\0"
APPLICATION = b"FLIPSLOT"


def both16(value: int) -> bytes:
    """Return a number in both byte orders (ECMA-119, 7.2.3)."""
    return struct.pack("<H", value) + struct.pack(">H", value)


def descriptors(layout: Layout) -> bytes:
    """Return the primary volume descriptor and the terminator."""
    return _primary(layout) + (b"\xffCD001\x01").ljust(BLOCK_BYTES, b"\0")


def _primary(layout: Layout) -> bytes:
    """Build the descriptor of ECMA-119, 8.4, field after field."""
    table = layout.path_table
    root = layout.directories[0]
    fields = (
        b"\x01CD001\x01\0",
        b" " * 32,  # system
        layout.parameters.label.encode().ljust(32),
        bytes(8),
        both32(layout.volume_blocks),
        bytes(32),
        both16(1) + both16(1) + both16(BLOCK_BYTES),  # volumes in the set, number, block
        both32(table.size_bytes),
        struct.pack("<II", table.l_block, 0) + struct.pack(">II", table.m_block, 0),
        _record(
            b"\0",
            layout.first_blocks[root.node],
            root.table_blocks * BLOCK_BYTES,
            layout.tree.nodes[root.node],
            b"",
        ),
        b" " * 128 * 3,  # set, publisher, preparer
        APPLICATION.ljust(128),
        b" " * 37 * 3,  # files with copyright, abstract, bibliography
        NO_DATE * 4,
        b"\x01\0",
    )
    return b"".join(fields).ljust(BLOCK_BYTES, b"\0")


def path_table(layout: Layout, order: Literal["<", ">"]) -> bytes:
    """Return the path table in one byte order (ECMA-119, 9.4)."""
    rows = layout.path_table.rows
    place = {number: at for at, (number, _) in enumerate(rows, start=1)}
    records = []
    for number, identifier in rows:
        directory = layout.directories[number]
        block, parent = layout.first_blocks[directory.node], place[directory.parent]
        head = struct.pack(f"{order}BBIH", len(identifier), 0, block, parent)
        records.append(head + identifier + b"\0" * (len(identifier) % 2))
    return b"".join(records)


def directory_table(layout: Layout, directory: Directory) -> bytes:
    """Return the blocks of a directory: its records, then their continuation areas."""
    table, overflow = bytearray(), bytearray()
    overflow_block = layout.first_blocks[directory.node] + directory.table_blocks
    rows = enumerate(_rows(layout, directory), start=-OWN_RECORDS)
    for place, (identifier, block, size, node, entries) in rows:
        inline = b"".join(entries)
        room = MAX_RECORD_BYTES - record_base(identifier)
        if len(inline) > room:  # few: nearly all entries are of one part
            inline = _overflow(rockridge.split(entries, room), overflow, overflow_block)
        record = _record(identifier, block, size, node, inline)
        if place in directory.breaks or len(table) % BLOCK_BYTES + len(record) > BLOCK_BYTES:
            table.extend(bytes(-len(table) % BLOCK_BYTES))  # no record crosses a block
        table += record
    return _whole(table, directory.table_blocks) + _whole(overflow, directory.overflow_blocks)


_CHILD = struct.Struct("<QIIIIqQII")


def table_inputs(layout: Layout, directory: Directory) -> bytes:
    """Return all that `directory_table` makes a table of: cheaper than the table, and as telling.

    The same inputs, the same table, as long as nothing of this file or of what it uses changes.
    """
    nodes, blocks = layout.tree.nodes, layout.first_blocks
    own, parent = nodes[directory.node], layout.directories[directory.parent]
    name_at = len(own.path) + 1
    heads, names, targets = [], [], []
    for child in directory.children:
        node = nodes[child]
        kind, size = node.kind, node.size
        if kind is Kind.DIRECTORY:
            size = _table_bytes(layout, child)
        elif kind is Kind.SYMLINK:
            targets.append(node.target)
        mode = node.mode | rockridge.kind_bits(kind)
        heads.append(
            _CHILD.pack(
                blocks[child], mode, node.links, node.uid, node.gid, node.mtime_s, size,
                node.major, node.minor,
            )
        )  # fmt: skip
        names.append(node.path[name_at:])
    whole = (
        (own.mode, own.links, own.uid, own.gid, own.mtime_s, blocks[directory.node]),
        (directory.node == 0, directory.table_blocks, directory.overflow_blocks),
        (parent.node == 0, parent.table_blocks, blocks[parent.node], sorted(directory.breaks)),
    )
    texts = (b"\0".join(names), directory.identifiers_text, *targets)
    return b"".join((repr(whole).encode(), *heads, *map(_counted, texts)))


def _counted(text: bytes) -> bytes:
    return b"%d %b" % (len(text), text)


def _rows(
    layout: Layout, directory: Directory
) -> Iterator[tuple[bytes, int, int, Node, list[bytes]]]:
    """Yield identifier, first block, size, node and entries of each record of a directory."""
    nodes, blocks = layout.tree.nodes, layout.first_blocks
    parent = layout.directories[directory.parent]
    own = [rockridge.attributes(nodes[directory.node], 0, blocks[directory.node])]
    if directory.node == 0:
        own = [rockridge.SP, *own, rockridge.ER]
    above = [rockridge.of_parent(blocks[parent.node], is_root=parent.node == 0)]
    for identifier, one, entries in ((OWN, directory, own), (PARENT, parent, above)):
        size = one.table_blocks * BLOCK_BYTES
        yield identifier, blocks[one.node], size, nodes[one.node], entries
    entries_of = rockridge.entries
    pairs = zip(directory.identifiers, directory.children, strict=True)
    serials = _serials(layout, directory)
    for identifier, child in pairs:
        node, block = nodes[child], blocks[child]
        entries = entries_of(node, node.name, block or serials[child])
        size = node.size if node.kind is Kind.FILE else _table_bytes(layout, child)
        yield identifier, block, size, node, entries


def _serials(layout: Layout, directory: Directory) -> dict[int, int]:
    """Return serial numbers of the entries that have no extent to be known by.

    No kernel reads them; programs that unpack an image know hard links by equal ones. Each follows
    from the entry's name, so that one entry more leaves the others theirs. A block holds fewer
    than 32 records, half of what is set aside; the top bit keeps these numbers apart from extents.
    """
    first = layout.first_blocks[directory.node] * SERIALS_PER_BLOCK
    places = 1 << (directory.table_blocks * SERIALS_PER_BLOCK).bit_length() - 1
    taken: dict[int, int] = {}
    blocks, nodes = layout.first_blocks, layout.tree.nodes
    for child in directory.children:
        if not blocks[child]:
            place = name_hash(nodes[child].name) % places
            while place in taken:
                place = (place + 1) % places
            taken[place] = child
    return {child: 1 << 31 | (first + place) % (1 << 31) for place, child in taken.items()}


def _table_bytes(layout: Layout, child: int) -> int:
    """Return the bytes of a directory's table; 0: it is no directory."""
    number = layout.numbers.get(child)
    return 0 if number is None else layout.directories[number].table_blocks * BLOCK_BYTES


def _overflow(parts: list[bytes], overflow: bytearray, overflow_block: int) -> bytes:
    """Put all parts but the first into the overflow; return the first, each led to the next."""
    sizes = rockridge.part_sizes(parts)
    offsets, end = [], len(overflow)
    for size in sizes[1:]:
        offsets.append(rockridge.fit(end, size))
        end = offsets[-1] + size
    linked = [
        part + rockridge.ce(overflow_block + offset // BLOCK_BYTES, offset % BLOCK_BYTES, size)
        for part, offset, size in zip(parts, offsets, sizes[1:], strict=False)
    ]
    linked.append(parts[-1])
    for part, offset in zip(linked[1:], offsets, strict=True):
        overflow.extend(bytes(offset - len(overflow)))
        overflow += part
    return linked[0]


def _whole(area: bytearray, blocks: int) -> bytes:
    """Return an area as the blocks that the layout set aside for it."""
    if -(-len(area) // BLOCK_BYTES) != blocks:
        raise ValueError(f"{len(area)} bytes do not fill the {blocks} blocks planned for them")
    return bytes(area.ljust(blocks * BLOCK_BYTES, b"\0"))


def _record(identifier: bytes, block: int, size: int, node: Node, entries: bytes) -> bytes:
    """Build the record of ECMA-119, 9.1."""
    flags = FLAG_DIRECTORY if node.kind is Kind.DIRECTORY else 0
    length = record_base(identifier) + len(entries)
    odd = length % 2
    # The time of a parent is not written in each of its directories: they would all change with it.
    time = NO_TIME if identifier == PARENT else rockridge.short_time(node.mtime_s)
    return b"%c\0%b%b%b%c\0\0\1\0\0\1%c%b%b%b%b" % (  # volume 1 in both byte orders
        length + odd,
        both32(block),
        both32(size),
        time,
        flags,
        len(identifier),
        identifier,
        b"" if len(identifier) % 2 else b"\0",
        entries,
        b"\0" if odd else b"",
    )
