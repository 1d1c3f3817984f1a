"""Where tables and data lie: one after the other, or each where the hash of its name leads. Pure.

The rules of the hashed placement are in docs/formats/layout.md.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from builder.children import Children
from builder.iso9660.directories import Directory, blocks_of
from builder.iso9660.parameters import Parameters
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.placing import Unit, cut, cut_order, name_hash, place, quantised
from builder.tree import Kind, Node

FIRST_FREE_BLOCK = 18


class Placeable(NamedTuple):
    """What is to be placed: directories, and the nodes that own data, one list a directory."""

    nodes: Sequence[Node]
    directories: Sequence[Directory]
    owners: Sequence[Sequence[int]]
    path_table_bytes: int
    parameters: Parameters


class Places(NamedTuple):
    """Where all of it lies: a first block per node (0: it has none), and the two path tables."""

    first_blocks: "array[int]"
    l_block: int
    m_block: int
    volume_blocks: int


def owners_of(nodes: Sequence[Node], children: Sequence[Children]) -> "list[array[int]]":
    """Return the nodes of each directory that own data, in byte order of their names.

    The first name of a hard-linked file owns its data, an empty file has none.
    """
    groups: set[int] = set()
    owners = []
    file = Kind.FILE
    for directory in children:
        held = array("Q")
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


def share_extents(
    nodes: Sequence[Node], children: Sequence[Children], first_blocks: "array[int]"
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


def sequential(plan: Placeable) -> Places:
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
    return Places(blocks, l_block, m_block, at)


def hashed(plan: Placeable) -> Places:
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
    return Places(blocks, path_starts[0], path_starts[1], volume)


def _table_units(plan: Placeable) -> Iterator[Unit]:
    """Yield the path tables, then the directories' tables in groups of neighbours."""
    cluster = plan.parameters.cluster_bytes
    for key in (b"PTL", b"PTM"):
        yield Unit(quantised(plan.path_table_bytes, cluster), name_hash(key), 0, 0)
    nodes, directories = plan.nodes, plan.directories
    sizes = [(one.table_blocks + one.overflow_blocks) * BLOCK_BYTES for one in directories]
    order = [
        min(nodes[one.node].path.count(b"/"), 255) << 56 | cut_order(nodes[one.node].name)
        for one in directories
    ]
    for low, high in cut(sizes, order, plan.parameters.table_bytes):
        key = b"M" + nodes[directories[low].node].path
        yield Unit(quantised(sum(sizes[low:high]), cluster), name_hash(key), low, high)


def _data_units(plan: Placeable) -> tuple[list[Unit], "array[int]"]:
    """Return the units of file data, and the nodes that they range over."""
    nodes, cluster = plan.nodes, plan.parameters.cluster_bytes
    members, units = array("Q"), []
    for held in plan.owners:
        small = [child for child in held if nodes[child].size < cluster]
        sizes = [-(-nodes[child].size // BLOCK_BYTES) * BLOCK_BYTES for child in small]
        order = (cut_order(nodes[child].name) for child in small)
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
