"""Tree → Layout: where everything lies, before a byte is written. Pure.

Two placements. `sequential` puts one thing after the other. `hashed` treats the volume as a hash
table: the place of a thing follows from its own name, so that one change moves little else and
needs no memory of the image before; the holes cost nothing in a container that elides zeros.
The rules of the hashed placement are in docs/formats/layout.md.

A volume in order: system area (16 blocks), primary descriptor, terminator, then path tables,
directories, files. In a hashed volume the directories and tables lie in a zone of their own
before the files, so that the byte offsets that kernels use as inode numbers stay small.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.children import children_of
from builder.iso9660.directories import (
    MAX_BLOCKS,
    Directory,
    directories_of,
    even,
    path_table_rows,
)
from builder.iso9660.extents import Placeable, Places, hashed, owners_of, sequential, share_extents
from builder.iso9660.limits import node_refusals
from builder.iso9660.parameters import Parameters, Placement, parameter_refusals
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.tree import Tree
from slots.errors import BuildError

DESCRIPTOR_BLOCK = 16

# What lies in a volume besides nodes, in the order of pieces.
DESCRIPTORS = -1
PATH_TABLE_L = -2
PATH_TABLE_M = -3


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
            case -1:  # DESCRIPTORS
                return DESCRIPTOR_BLOCK
            case -2:  # PATH_TABLE_L
                return self.path_table.l_block
            case -3:  # PATH_TABLE_M
                return self.path_table.m_block
            case node:
                return self.first_blocks[node]


def plan_layout(tree: Tree, parameters: Parameters) -> Layout:
    """Decide where everything lies."""
    _refuse(refusals(tree, parameters))
    nodes = tree.nodes
    children = children_of(nodes)
    directories = directories_of(nodes, children, parameters)
    numbers = {directory.node: number for number, directory in enumerate(directories)}
    rows = path_table_rows(directories, numbers, parameters)
    table_bytes = sum(even(8 + len(identifier)) for _, identifier in rows)
    planned = Placeable(nodes, directories, owners_of(nodes, children), table_bytes, parameters)
    match parameters.placement:
        case Placement.SEQUENTIAL:
            places = sequential(planned)
        case Placement.HASHED:
            places = hashed(planned)
    if places.volume_blocks > MAX_BLOCKS:
        _refuse([f"the volume needs {places.volume_blocks} blocks, the most is {MAX_BLOCKS}"])
    pieces = _in_order(places, planned)
    share_extents(nodes, children, places.first_blocks)
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
    return [*parameter_refusals(parameters), *node_refusals(tree)]


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise BuildError(
            "ISO 9660 cannot hold this tree: " + "; ".join(reasons),
            hint="exclude or change what is named, or build another format",
        )


def _in_order(places: Places, plan: Placeable) -> "array[int]":
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
