"""Which records a directory holds, in which order and blocks, before anything has a place. Pure.

ECMA-119, 6.8 (directories), 6.9 and 9.4 (path tables), 9.1 (records).
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from builder.children import Children
from builder.iso9660 import rockridge
from builder.iso9660.names import identifiers, sort_keys
from builder.iso9660.parameters import Parameters, PathTables, Placement
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.placing import cut, cut_order
from builder.tree import Kind, Node

MAX_BLOCKS = 2**32 - 1
MAX_PATH_TABLE_DIRECTORIES = 2**16 - 1
"""A path table numbers parents in 16 bits: beyond, only the root is listed."""

OWN_RECORDS = 2
"""The records of a directory itself and of its parent, before those of its entries."""

RECORD_BYTES = 33
MAX_RECORD_BYTES = 254
NAME_BYTES = 5
"""Of the entry that holds a name, before it."""


_Size = tuple[int, Sequence[int]]
"""The bytes of a record, and those of each of its continuation areas."""


class Directory(NamedTuple):
    """A directory's table: its records in order, and how many blocks they need.

    `node` and `children` index the tree's nodes, `parent` the layout's directories. `breaks` are
    the places in `children` whose record begins a block though it would fit into the one before.
    Blocks of continuation areas follow those of the table. Identifiers are kept as one text:
    `identifiers_text`, with a zero byte between any two.
    """

    node: int
    parent: int
    children: "array[int]"
    identifiers_text: bytes
    breaks: frozenset[int]
    table_blocks: int
    overflow_blocks: int

    @property
    def identifiers(self) -> list[bytes]:
        """The identifiers of the children."""
        return self.identifiers_text.split(b"\0") if self.children else []


def blocks_of(size_bytes: int) -> int:
    """Return how many blocks hold so many bytes."""
    return -(-size_bytes // BLOCK_BYTES)


def directories_of(
    nodes: Sequence[Node], children: Sequence[Children], parameters: Parameters
) -> tuple[Directory, ...]:
    """List the directories in tree order, each with its records."""
    hashed = parameters.placement is Placement.HASHED
    most = parameters.table_bytes if hashed else MAX_BLOCKS * BLOCK_BYTES
    return tuple([_directory(nodes, one, most) for one in children])


def _directory(nodes: Sequence[Node], one: Children, most_bytes: int) -> Directory:
    """Put the records of a directory in order; those of a long table in groups of whole blocks."""
    directory, name_at = Kind.DIRECTORY, len(nodes[one.node].path) + 1
    held = [nodes[child] for child in one.held]
    names = [node.path[name_at:] for node in held]
    keys = identifiers(names, [node.kind is directory for node in held])
    rows = sorted(zip(sort_keys(keys), keys, one.held, names, strict=True))
    sizes = list(_record_sizes(nodes, one.node, rows))
    breaks = _breaks(rows, sizes, most_bytes)
    offset, overflow = _ends(sizes, breaks)
    return Directory(
        one.node,
        one.parent,
        array("Q", [child for _, _, child, _ in rows]),
        b"\0".join([key for _, key, _, _ in rows]),
        breaks,
        blocks_of(offset),
        blocks_of(overflow),
    )


def _ends(sizes: Sequence[_Size], breaks: frozenset[int]) -> tuple[int, int]:
    """Return where the records of a table end, and the continuation areas behind it."""
    offset = overflow = 0
    for at, (size, areas) in enumerate(sizes, start=-OWN_RECORDS):
        if offset % BLOCK_BYTES + size > BLOCK_BYTES or (breaks and at in breaks):
            offset = rockridge.next_block(offset)
        offset += size
        for area in areas:
            overflow = rockridge.fit(overflow, area) + area
    return offset, overflow


_Row = tuple[bytes, bytes, int, bytes]
"""A child of a directory: the key by which it is sorted, its identifier, its node, its name."""


def _breaks(
    rows: Sequence[_Row],
    sizes: Sequence[_Size],
    most_bytes: int,
) -> frozenset[int]:
    """Return where groups of records begin, so that one record more does not move all behind it."""
    own = [size for size, _ in sizes[OWN_RECORDS:]]
    if sum(own) <= most_bytes:
        return frozenset()
    order = [cut_order(name) for *_, name in rows]
    return frozenset(low for low, _ in cut(own, order, most_bytes) if low)


def _record_sizes(nodes: Sequence[Node], index: int, rows: Sequence[_Row]) -> Iterator[_Size]:
    """Yield the bytes of each record of a directory, and of its continuation areas."""
    dot = RECORD_BYTES + 1 + rockridge.ATTRIBUTES_BYTES
    own = len(rockridge.SP) + rockridge.CE_BYTES if index == 0 else 0
    yield even(dot + own), (len(rockridge.ER),) if index == 0 else ()
    yield even(RECORD_BYTES + 1 + rockridge.PARENT_BYTES), ()
    for _, identifier, child, name in rows:
        yield record_size(nodes[child], identifier, name)


def record_size(node: Node, identifier: bytes, name: bytes) -> _Size:
    """Return the bytes of a node's record, and of its continuation areas."""
    base = record_base(identifier)
    kind = node.kind
    if kind is Kind.FILE or kind is Kind.DIRECTORY:  # nearly all: count, do not build
        size = base + rockridge.ATTRIBUTES_BYTES + NAME_BYTES + len(name)
        if size <= MAX_RECORD_BYTES:
            return size + size % 2, ()
    parts = rockridge.split(rockridge.entries(node, name), MAX_RECORD_BYTES - base)
    first, *areas = rockridge.part_sizes(parts)
    return even(base + first), areas


def record_base(identifier: bytes) -> int:
    """Return the bytes of a record before its system use entries."""
    size = RECORD_BYTES + len(identifier)
    return size + size % 2


def even(size: int) -> int:
    """Return the size with the byte that pads it to an even one."""
    return size + size % 2


def path_table_rows(
    directories: Sequence[Directory], numbers: Mapping[int, int], parameters: Parameters
) -> tuple[tuple[int, bytes], ...]:
    """Return the directories as a path table lists them: by level, parent, identifier."""
    rows = [(0, b"\0")]
    full = parameters.path_tables is PathTables.FULL
    if full and len(directories) <= MAX_PATH_TABLE_DIRECTORIES:
        for number, _ in rows:  # grows while it is walked: breadth first
            one = directories[number]
            rows.extend(
                (numbers[child], identifier)
                for child, identifier in zip(one.children, one.identifiers, strict=True)
                if child in numbers
            )
    return tuple(rows)
