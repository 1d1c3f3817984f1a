"""Tree → Layout: where inodes, listings and fragments lie, before a byte is written. Pure.

Blocks of files follow one another; all else finds its place without history, by the hash of its
name (docs/formats/squashfs.md). So an entry more moves neither the inodes of other directories nor
their listings, and the tables of one image are nearly those of the next.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import NamedTuple

from builder.children import Children, children_of
from builder.placing import Unit, cut, cut_order, name_hash, place, quantised
from builder.squashfs.records import (
    GROUP_ENTRIES,
    HEADER_BYTES,
    METADATA_BYTES,
    entry_bytes,
    inode_bytes,
    is_long,
    long_directory_bytes,
    runs,
)
from builder.tree import Digests, Kind, Node, Tree

CELL_BYTES = 256
"""The unit of places in the tables of inodes and of listings."""

UNIT_BYTES = 2048
"""The most of inodes, or of listings, that are placed together: some fifty inodes."""

LOAD_PERCENT = 60
STEPS = 8
"""A table grows in steps of an eighth to a sixteenth of its size."""


class Fragment(NamedTuple):
    """Small files that are compressed as one block: their nodes, and its place in the table."""

    number: int
    members: Sequence[int]


class Listing(NamedTuple):
    """The entries of a directory, in groups of at most GROUP_ENTRIES that begin with a header."""

    children: Children
    breaks: Sequence[int]  # where a group begins, but for the first
    is_long: bool  # by its names: so is its directory's inode
    size_bytes: int


class Layout(NamedTuple):
    """Where everything lies.

    Per node: `inodes` is the node whose inode it has (hard links share one), `positions` the byte
    of the inode table, `data` the node whose content it shares, `offsets` where a small file
    begins in its fragment. `listed` is the byte of the directory table of each listing.
    """

    tree: Tree
    block_bytes: int
    inodes: "array[int]"
    positions: "array[int]"
    data: "array[int]"
    offsets: "array[int]"
    fragment_of: "array[int]"
    large: "array[int]"  # who own blocks, in order
    fragments: Sequence[Fragment]
    fragment_count: int
    listings: Sequence[Listing]
    listed: "array[int]"
    inode_table_bytes: int
    directory_table_bytes: int


def plan_layout(tree: Tree, digests: Digests, block_bytes: int) -> Layout:
    """Decide where everything lies."""
    nodes = tree.nodes
    children = children_of(nodes)
    inodes = _inodes(nodes)
    data = _data(nodes, inodes, digests)
    groups = [_groups(nodes, one) for one in children]
    long = _long_directories(nodes, children, groups)
    positions, inode_table_bytes = _placed_inodes(nodes, children, long, inodes, block_bytes)
    listings = [
        Listing(one, breaks, one.node in long, _listing_bytes(nodes, one, breaks, positions))
        for one, breaks in zip(children, groups, strict=True)
    ]
    listed, directory_table_bytes = _zone(
        nodes, [one.node for one in children], [one.size_bytes for one in listings], b"D"
    )
    owners = [number for number in _in_order(children) if data[number] == number]
    large = array("Q", [one for one in owners if nodes[one].size >= block_bytes])
    small = [one for one in owners if nodes[one].size < block_bytes]
    fragments, fragment_count = _fragments(nodes, small, block_bytes)
    offsets, fragment_of = _within(nodes, fragments)
    return Layout(
        tree=tree,
        block_bytes=block_bytes,
        inodes=inodes,
        positions=positions,
        data=data,
        offsets=offsets,
        fragment_of=fragment_of,
        large=large,
        fragments=fragments,
        fragment_count=fragment_count,
        listings=listings,
        listed=listed,
        inode_table_bytes=inode_table_bytes,
        directory_table_bytes=directory_table_bytes,
    )


def content_bytes(layout: Layout) -> int:
    """Return the bytes of files that are stored, each content once."""
    nodes = layout.tree.nodes
    numbers = chain(layout.large, *(one.members for one in layout.fragments))
    return sum(nodes[number].size for number in numbers)


def _in_order(children: Sequence[Children]) -> Iterator[int]:
    """Yield the entries of one directory after those of another."""
    for directory in children:
        yield from directory.held


def _inodes(nodes: Sequence[Node]) -> "array[int]":
    """Return whose inode each node has: of the names of a hard-linked file, the first's."""
    firsts: dict[int, int] = {}
    return array(
        "Q",
        [
            number if node.group is None else firsts.setdefault(node.group, number)
            for number, node in enumerate(nodes)
        ],
    )


def _data(nodes: Sequence[Node], inodes: "array[int]", digests: Digests) -> "array[int]":
    """Return whose content each node shares: that of equal files is there once.

    What has none shares that of the root, which has none.
    """
    firsts: dict[bytes, int] = {}
    data, is_file = array("Q", bytes(8 * len(nodes))), Kind.FILE
    for number, node in enumerate(nodes):
        if node.kind is is_file and node.size:
            own = inodes[number] == number
            data[number] = (
                firsts.setdefault(digests[number], number) if own else data[inodes[number]]
            )
    return data


def _groups(nodes: Sequence[Node], one: Children) -> Sequence[int]:
    """Return where the groups of a listing begin: a name more re-cuts its own neighbourhood."""
    if len(one.held) <= GROUP_ENTRIES:
        return ()
    order = [cut_order(nodes[child].name) for child in one.held]
    return array("Q", [low for low, _ in cut([1] * len(order), order, GROUP_ENTRIES)][1:])


def _placed_inodes(
    nodes: Sequence[Node],
    children: Sequence[Children],
    long: Mapping[int, int],
    inodes: "array[int]",
    block_bytes: int,
) -> "tuple[array[int], int]":
    """Return where the inode of each node lies, and how long the table is.

    Those of files with blocks have a zone of their own behind the others: they name the place of
    the first block, and that shifts with every change.
    """
    near, far, is_file = [0], array("Q"), Kind.FILE
    for number in _in_order(children):
        if inodes[number] == number:
            has_blocks = nodes[number].kind is is_file and nodes[number].size >= block_bytes
            (far if has_blocks else near).append(number)
    positions = array("Q", bytes(8 * len(nodes)))
    size_bytes = 0
    for mark, zone in ((b"I", near), (b"L", far)):
        sizes = [long.get(one) or inode_bytes(nodes[one], block_bytes) for one in zone]
        placed, zone_bytes = _zone(nodes, zone, sizes, mark)
        for number, at in zip(zone, placed, strict=True):
            positions[number] = size_bytes + at
        size_bytes += zone_bytes
    for number, own in enumerate(inodes):
        positions[number] = positions[own]
    return positions, size_bytes


def _long_directories(
    nodes: Sequence[Node], children: Sequence[Children], groups: Sequence[Sequence[int]]
) -> dict[int, int]:
    """Return the length of the inodes of long directories, by their nodes."""
    found: dict[int, int] = {}
    for one, breaks in zip(children, groups, strict=True):
        names = [nodes[child].name for child in one.held]
        if is_long(names):
            found[one.node] = long_directory_bytes(names[at] for at in breaks)
    return found


def _zone(
    nodes: Sequence[Node], order: Sequence[int], sizes: Sequence[int], mark: bytes
) -> "tuple[array[int], int]":
    """Place what belongs to some nodes; return where each begins, and how long the zone is."""
    units = _units(nodes, order, sizes, mark, most_bytes=UNIT_BYTES, cell_bytes=CELL_BYTES)
    cells, starts = place(units, LOAD_PERCENT, STEPS)
    placed = array("Q")
    for unit, start in zip(units, starts, strict=True):
        within = accumulate(sizes[unit.low : unit.high], initial=start * CELL_BYTES)
        placed.extend(islice(within, unit.high - unit.low))
    size_bytes = cells * CELL_BYTES
    return placed, size_bytes + -size_bytes % METADATA_BYTES


def _units(
    nodes: Sequence[Node],
    order: Sequence[int],
    sizes: Sequence[int],
    mark: bytes,
    *,
    most_bytes: int,
    cell_bytes: int,
) -> list[Unit]:
    """Return what is placed as one, in order; its key is the path of the first."""
    return [
        Unit(
            quantised(sum(sizes[low:high]), cell_bytes),
            name_hash(mark + nodes[order[low]].path),
            low,
            high,
        )
        for low, high in cut(sizes, _cuts(nodes, order), most_bytes)
    ]


def _cuts(nodes: Sequence[Node], order: Sequence[int]) -> Iterator[int]:
    """Yield in which order a sequence of nodes is cut.

    It follows from a name and the one before it: many files have the same name, and paths change
    when a directory far above is renamed.
    """
    before = b""
    for number in order:
        name = nodes[number].name
        yield cut_order(before + b"/" + name)
        before = name


def _listing_bytes(
    nodes: Sequence[Node],
    one: Children,
    breaks: Sequence[int],
    positions: "array[int]",
) -> int:
    """Return the length of a listing: a header for each block of inodes that it leads to."""
    headers = sum(1 for _ in runs([positions[child] for child in one.held], breaks))
    return headers * HEADER_BYTES + sum(entry_bytes(nodes[child].name) for child in one.held)


def _fragments(
    nodes: Sequence[Node], small: Sequence[int], block_bytes: int
) -> tuple[list[Fragment], int]:
    """Return the fragments in order, and how many places their table has."""
    sizes = [nodes[number].size for number in small]
    units = _units(nodes, small, sizes, b"F", most_bytes=block_bytes, cell_bytes=block_bytes)
    count, places = place(units, LOAD_PERCENT, STEPS)
    fragments = [
        Fragment(number, array("Q", small[unit.low : unit.high]))
        for number, unit in zip(places, units, strict=True)
    ]
    return fragments, count


def _within(
    nodes: Sequence[Node], fragments: Sequence[Fragment]
) -> "tuple[array[int], array[int]]":
    """Return, per node, where it begins in its fragment, and the number of that."""
    offsets, fragment_of = (array("L", bytes(array("L").itemsize * len(nodes))) for _ in range(2))
    for fragment in fragments:
        sizes = (nodes[member].size for member in fragment.members)
        for member, offset in zip(fragment.members, accumulate(sizes, initial=0), strict=False):
            offsets[member], fragment_of[member] = offset, fragment.number
    return offsets, fragment_of
