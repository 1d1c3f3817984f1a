"""Tree → Layout: where everything lies, before a byte is written. Pure.

Two placements. `sequential` puts one thing after the other. `hashed` treats the volume as a hash
table: the place of a thing follows from its own name, so that one change moves little else and
needs no memory of the image before; the holes cost nothing in a container that elides zeros.
The rules of the hashed placement are in docs/formats/layout.md.

A volume in order: system area (16 blocks), primary descriptor, terminator, then path tables,
directories, files. In a hashed volume the directories and tables lie in a zone of their own
before the files, so that the byte offsets that kernels use as inode numbers stay small.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from builder.iso9660 import rockridge
from builder.iso9660.limits import node_refusals
from builder.iso9660.names import identifiers, sort_key
from builder.iso9660.placing import Unit, cut, place, quantised
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError

BLOCK_BYTES = rockridge.BLOCK_BYTES
DESCRIPTOR_BLOCK = 16
FIRST_FREE_BLOCK = 18

MAX_BLOCKS = 2**32 - 1
MAX_PATH_TABLE_DIRECTORIES = 2**16 - 1
"""A path table numbers parents in 16 bits: beyond, only the root is listed."""

OWN_RECORDS = 2
"""The records of a directory itself and of its parent, before those of its entries."""

RECORD_BYTES = 33
MAX_RECORD_BYTES = 254
LABEL = re.compile(r"[A-Z0-9_]{1,32}")

# What lies in a volume besides nodes, in the order of pieces.
DESCRIPTORS = -1
PATH_TABLE_L = -2
PATH_TABLE_M = -3


class Placement(StrEnum):
    """How places are found."""

    HASHED = "hashed"
    SEQUENTIAL = "sequential"


class PathTables(StrEnum):
    """What the path tables list; no kernel reads them, the standard wants them full."""

    FULL = "full"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a layout depends on besides the tree."""

    label: str = "FLIPSLOT"
    placement: Placement = Placement.HASHED
    cluster_bytes: int = 131_072
    pack_bytes: int = 32_768  # small files of a directory that are placed together
    table_bytes: int = 16_384  # tables of neighbouring directories that are placed together
    load_percent: int = 35  # how full a zone may get before it doubles
    path_tables: PathTables = PathTables.FULL

    def as_record(self) -> dict[str, int | str]:
        """Return the parameters for the description of the image."""
        return {name: getattr(value, "value", value) for name, value in asdict(self).items()}


class Directory(NamedTuple):
    """A directory's table: its records in order, and how many blocks they need.

    `node` and `children` index the tree's nodes, `parent` the layout's directories. `breaks` are
    the places in `children` whose record begins a block though it would fit into the one before.
    Blocks of continuation areas follow those of the table.
    """

    node: int
    parent: int
    children: tuple[int, ...]
    identifiers: tuple[bytes, ...]
    breaks: frozenset[int]
    table_blocks: int
    overflow_blocks: int


@dataclass(frozen=True, slots=True)
class PathTable:
    """The two path tables: size, first blocks, and what they list in their order.

    A row is the number of a directory and the identifier by which it is known.
    """

    rows: tuple[tuple[int, bytes], ...]
    size_bytes: int
    l_block: int
    m_block: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An extent for everything. `first_blocks` has one number per node, 0 for no extent.

    `numbers` leads from the node of a directory to its place in `directories`.

    `pieces` are the things that own an extent, in the order of the volume: indexes of nodes, or
    DESCRIPTORS, PATH_TABLE_L, PATH_TABLE_M.
    """

    tree: Tree
    parameters: Parameters
    volume_blocks: int
    first_blocks: Sequence[int]
    directories: tuple[Directory, ...]
    numbers: Mapping[int, int]
    path_table: PathTable
    pieces: Sequence[int]

    @property
    def volume_bytes(self) -> int:
        """The size of the file system."""
        return self.volume_blocks * BLOCK_BYTES

    @property
    def cluster_count(self) -> int:
        """The number of clusters that hold the file system."""
        return -(-self.volume_bytes // self.parameters.cluster_bytes)

    def first_block(self, piece: int) -> int:
        """Return where a piece begins."""
        match piece:
            case -1:
                return DESCRIPTOR_BLOCK
            case -2:
                return self.path_table.l_block
            case -3:
                return self.path_table.m_block
            case node:
                return self.first_blocks[node]


def plan_layout(tree: Tree, parameters: Parameters) -> Layout:
    """Decide where everything lies."""
    _refuse(refusals(tree, parameters))
    nodes = tree.nodes
    children = _children(nodes)
    directories = _directories(nodes, children, parameters)
    numbers = {directory.node: number for number, directory in enumerate(directories)}
    rows = _path_table_rows(directories, numbers, parameters)
    table_bytes = sum(even(8 + len(identifier)) for _, identifier in rows)
    planned = _Plan(nodes, directories, _owners(nodes, children), table_bytes, parameters)
    match parameters.placement:
        case Placement.SEQUENTIAL:
            places = _sequential(planned)
        case Placement.HASHED:
            places = _hashed(planned)
    if places.volume_blocks > MAX_BLOCKS:
        _refuse([f"the volume needs {places.volume_blocks} blocks, the most is {MAX_BLOCKS}"])
    pieces = _in_order(places, planned)
    _share_extents(nodes, children, places.first_blocks)
    return Layout(
        tree=tree,
        parameters=parameters,
        volume_blocks=places.volume_blocks,
        first_blocks=places.first_blocks,
        directories=directories,
        numbers=numbers,
        path_table=PathTable(rows, table_bytes, places.l_block, places.m_block),
        pieces=pieces,
    )


def refusals(tree: Tree, parameters: Parameters) -> list[str]:
    """Name everything that this format cannot hold; empty: the tree can be written."""
    return [*_parameter_refusals(parameters), *node_refusals(tree)]


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise BuildError(
            "ISO 9660 cannot hold this tree: " + "; ".join(reasons),
            hint="exclude or change what is named, or build another format",
        )


def _parameter_refusals(parameters: Parameters) -> Iterator[str]:
    if not LABEL.fullmatch(parameters.label):
        yield f"label {parameters.label!r} is not 1 to 32 of A-Z, 0-9 and _"
    if parameters.cluster_bytes <= 0 or parameters.cluster_bytes % BLOCK_BYTES:
        yield f"cluster_bytes {parameters.cluster_bytes} is not a multiple of {BLOCK_BYTES}"
    for name in ("pack_bytes", "table_bytes"):
        if getattr(parameters, name) < BLOCK_BYTES:
            yield f"{name} {getattr(parameters, name)} is less than {BLOCK_BYTES}"
    if not 1 <= parameters.load_percent <= 95:
        yield f"load_percent {parameters.load_percent} is not 1 to 95"


def blocks_of(size_bytes: int) -> int:
    """Return how many blocks hold so many bytes."""
    return -(-size_bytes // BLOCK_BYTES)


# --- directories ---------------------------------------------------------------------------


class _Children(NamedTuple):
    """A directory: its node, the number of its parent, its entries in byte order of their names."""

    node: int
    parent: int
    held: list[int]
    names: list[bytes]


def _children(nodes: Sequence[Node]) -> list[_Children]:
    """List the directories in tree order."""
    directory = Kind.DIRECTORY
    found = [_Children(0, 0, [], [])]
    numbers = {b"": 0}
    for index, node in enumerate(nodes[1:], start=1):
        above, _, name = node.path.rpartition(b"/")
        parent = numbers[above]
        _, _, held, names = found[parent]
        held.append(index)
        names.append(name)
        if node.kind is directory:
            numbers[node.path] = len(found)
            found.append(_Children(index, parent, [], []))
    return found


def _directories(
    nodes: Sequence[Node], children: Sequence[_Children], parameters: Parameters
) -> tuple[Directory, ...]:
    """List the directories in tree order, each with its records."""
    hashed = parameters.placement is Placement.HASHED
    most = parameters.table_bytes if hashed else MAX_BLOCKS * BLOCK_BYTES
    return tuple(_directory(nodes, one, most) for one in children)


def _directory(nodes: Sequence[Node], one: _Children, most_bytes: int) -> Directory:
    """Put the records of a directory in order; those of a long table in groups of whole blocks."""
    directory = Kind.DIRECTORY
    keys = identifiers(one.names, [nodes[child].kind is directory for child in one.held])
    rows = sorted(zip(map(sort_key, keys), keys, one.held, one.names, strict=True))
    sizes = list(_record_sizes(nodes, one.node, rows))
    breaks = _breaks(rows, sizes, most_bytes)
    offset = overflow = 0
    for at, (size, areas) in enumerate(sizes, start=-OWN_RECORDS):
        begins = at in breaks or offset % BLOCK_BYTES + size > BLOCK_BYTES
        offset = (rockridge.next_block(offset) if begins else offset) + size
        for area in areas:
            overflow = rockridge.fit(overflow, area) + area
    return Directory(
        one.node,
        one.parent,
        tuple(child for _, _, child, _ in rows),
        tuple(key for _, key, _, _ in rows),
        breaks,
        blocks_of(offset),
        blocks_of(overflow),
    )


_Row = tuple[bytes, bytes, int, bytes]
"""A child of a directory: the key by which it is sorted, its identifier, its node, its name."""


def _breaks(
    rows: Sequence[_Row],
    sizes: Sequence[tuple[int, Sequence[int]]],
    most_bytes: int,
) -> frozenset[int]:
    """Return where groups of records begin, so that one record more does not move all behind it."""
    own = [size for size, _ in sizes[OWN_RECORDS:]]
    if sum(own) <= most_bytes:
        return frozenset()
    order = [_cut_order(name) for *_, name in rows]
    return frozenset(low for low, _ in cut(own, order, most_bytes) if low)


def _record_sizes(
    nodes: Sequence[Node], index: int, rows: Sequence[_Row]
) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the bytes of each record of a directory, and of its continuation areas."""
    dot = RECORD_BYTES + 1 + rockridge.ATTRIBUTES_BYTES
    own = len(rockridge.SP) + rockridge.CE_BYTES if index == 0 else 0
    yield even(dot + own), (len(rockridge.ER),) if index == 0 else ()
    yield even(RECORD_BYTES + 1 + rockridge.PARENT_BYTES), ()
    for _, identifier, child, name in rows:
        yield record_size(nodes[child], identifier, name)


def record_size(node: Node, identifier: bytes, name: bytes) -> tuple[int, Sequence[int]]:
    """Return the bytes of a node's record, and of its continuation areas."""
    base = record_base(identifier)
    kind = node.kind
    if kind is Kind.FILE or kind is Kind.DIRECTORY:  # nearly all: count, do not build
        size = base + rockridge.ATTRIBUTES_BYTES + 5 + len(name)
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


def _path_table_rows(
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


# --- extents -------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """What is to be placed: directories, and the nodes that own data, one list a directory."""

    nodes: Sequence[Node]
    directories: Sequence[Directory]
    owners: Sequence[Sequence[int]]
    path_table_bytes: int
    parameters: Parameters


class _Places(NamedTuple):
    first_blocks: "array[int]"
    l_block: int
    m_block: int
    volume_blocks: int


def _owners(nodes: Sequence[Node], children: Sequence[_Children]) -> list[list[int]]:
    """Return the nodes of each directory that own data, in byte order of their names.

    The first name of a hard-linked file owns its data, an empty file has none.
    """
    groups: set[int] = set()
    owners = []
    file = Kind.FILE
    for directory in children:
        held = []
        for child in directory.held:
            node = nodes[child]
            if node.kind is not file or node.size == 0:
                continue
            if node.group is not None:
                if node.group in groups:
                    continue
                groups.add(node.group)
            held.append(child)
        owners.append(held)
    return owners


def _share_extents(
    nodes: Sequence[Node], children: Sequence[_Children], first_blocks: "array[int]"
) -> None:
    """Give the other names of hard-linked files the extent of the first."""
    extents: dict[int, int] = {}
    linked = [
        child
        for directory in children
        for child in directory.held
        if nodes[child].group is not None and nodes[child].kind is Kind.FILE
    ]
    for child in linked:
        group = nodes[child].group
        if group is not None:
            first_blocks[child] = extents.setdefault(group, first_blocks[child])


def _sequential(plan: _Plan) -> _Places:
    """Put path tables, directories and files one after the other."""
    blocks = array("Q", bytes(8 * len(plan.nodes)))
    path_blocks = blocks_of(plan.path_table_bytes)
    l_block, m_block = FIRST_FREE_BLOCK, FIRST_FREE_BLOCK + path_blocks
    at = m_block + path_blocks
    for directory in plan.directories:
        blocks[directory.node] = at
        at += directory.table_blocks + directory.overflow_blocks
    for held in plan.owners:
        for child in held:
            blocks[child] = at
            at += blocks_of(plan.nodes[child].size)
    return _Places(blocks, l_block, m_block, at)


def _hashed(plan: _Plan) -> _Places:
    """Place tables in one zone and data in another, each by the hash of its name."""
    cluster_blocks = plan.parameters.cluster_bytes // BLOCK_BYTES
    tables = list(_table_units(plan))
    data, members = _data_units(plan)
    load = plan.parameters.load_percent
    table_clusters, table_starts = place(tables, load)
    data_clusters, data_starts = place(data, load)

    blocks = array("Q", bytes(8 * len(plan.nodes)))
    first_table = -(-FIRST_FREE_BLOCK // cluster_blocks)
    first_data = first_table + table_clusters
    path_starts = [(first_table + start) * cluster_blocks for start in table_starts[:2]]
    for unit, start in zip(tables[2:], table_starts[2:], strict=True):
        at = (first_table + start) * cluster_blocks
        for number in range(unit.low, unit.high):
            directory = plan.directories[number]
            blocks[directory.node] = at
            at += directory.table_blocks + directory.overflow_blocks
    for unit, start in zip(data, data_starts, strict=True):
        at = (first_data + start) * cluster_blocks
        for child in members[unit.low : unit.high]:
            blocks[child] = at
            at += blocks_of(plan.nodes[child].size)
    volume = (first_data + data_clusters) * cluster_blocks
    return _Places(blocks, path_starts[0], path_starts[1], volume)


def _table_units(plan: _Plan) -> Iterator[Unit]:
    """Yield the path tables, then the directories' tables in groups of neighbours."""
    cluster = plan.parameters.cluster_bytes
    for key in (b"PTL", b"PTM"):
        yield Unit(quantised(plan.path_table_bytes, cluster), name_hash(key), 0, 0)
    nodes, directories = plan.nodes, plan.directories
    sizes = [(one.table_blocks + one.overflow_blocks) * BLOCK_BYTES for one in directories]
    order = [
        min(nodes[one.node].path.count(b"/"), 255) << 56 | _cut_order(nodes[one.node].name)
        for one in directories
    ]
    for low, high in cut(sizes, order, plan.parameters.table_bytes):
        key = b"M" + nodes[directories[low].node].path
        yield Unit(quantised(sum(sizes[low:high]), cluster), name_hash(key), low, high)


def _data_units(plan: _Plan) -> tuple[list[Unit], "array[int]"]:
    """Return the units of file data, and the nodes that they range over."""
    nodes, cluster = plan.nodes, plan.parameters.cluster_bytes
    members, units = array("Q"), []
    for held in plan.owners:
        small = [child for child in held if nodes[child].size < cluster]
        sizes = [-(-nodes[child].size // BLOCK_BYTES) * BLOCK_BYTES for child in small]
        order = (_cut_order(nodes[child].name) for child in small)
        for low, high in cut(sizes, order, plan.parameters.pack_bytes):
            length = quantised(sum(sizes[low:high]), cluster)
            key = b"S" + nodes[small[low]].path
            units.append(Unit(length, name_hash(key), len(members), len(members) + high - low))
            members.extend(small[low:high])
        for child in held:
            if nodes[child].size >= cluster:
                length = quantised(nodes[child].size, cluster)
                key = b"B" + nodes[child].path
                units.append(Unit(length, name_hash(key), len(members), len(members) + 1))
                members.append(child)
    return units, members


def name_hash(key: bytes) -> int:
    """Return the number by which a key finds its place."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def _cut_order(name: bytes) -> int:
    return name_hash(name) % 2**56


def _in_order(places: _Places, plan: _Plan) -> "array[int]":
    """Return what owns an extent, in the order of the volume."""
    starts = places.first_blocks
    owners = [directory.node for directory in plan.directories]
    for held in plan.owners:
        owners.extend(held)
    owners.sort(key=starts.__getitem__)
    tables = sorted([(places.l_block, PATH_TABLE_L), (places.m_block, PATH_TABLE_M)])
    pieces = array("q", [DESCRIPTORS])
    for owner in owners:
        while tables and tables[0][0] < starts[owner]:
            pieces.append(tables.pop(0)[1])
        pieces.append(owner)
    pieces.extend(piece for _, piece in tables)
    return pieces
