"""The tables of inodes and of listings, as bytes. Pure."""

from collections.abc import Mapping, Sequence

from builder.squashfs import records
from builder.squashfs.layout import Layout, Listing
from builder.squashfs.records import Content, Entry, Listed
from builder.tree import Kind

_NOTHING = Content()


def tables(
    layout: Layout, contents: Mapping[int, Content], owners: Sequence[int]
) -> tuple[bytearray, bytearray]:
    """Return both tables, full of zeros where nothing lies.

    `contents` tells where the bytes of files lie that have blocks, by their node; `owners` are all
    uids and gids.
    """
    inodes, listings = bytearray(layout.inode_table_bytes), bytearray(layout.directory_table_bytes)
    nodes, places = layout.tree.nodes, {owner: place for place, owner in enumerate(owners)}

    def put(number: int, about: Content | Listed) -> None:
        node, at = nodes[number], layout.positions[number]
        record = records.inode(node, at, (places[node.uid], places[node.gid]), about)
        inodes[at : at + len(record)] = record

    for number, node in enumerate(nodes):
        if node.kind is not Kind.DIRECTORY and layout.inodes[number] == number:
            put(number, _content(layout, contents, number))
    for one, at in zip(layout.listings, layout.listed, strict=True):
        entries = _entries(layout, one)
        listing, index = records.listing(entries, one.breaks)
        listings[at : at + len(listing)] = listing
        about = Listed(at, len(listing), _parent(layout, one), index if one.is_long else None)
        put(one.children.node, about)
    return inodes, listings


def _content(layout: Layout, contents: Mapping[int, Content], number: int) -> Content:
    """Return where the bytes of a file lie; nodes that share content share that."""
    owner = layout.data[number]
    if not owner:
        return _NOTHING
    if owner in contents:
        return contents[owner]
    return Content(fragment=layout.fragment_of[owner], offset=layout.offsets[owner])


def _entries(layout: Layout, one: Listing) -> list[Entry]:
    nodes, positions = layout.tree.nodes, layout.positions
    held = one.children.held
    return [Entry(nodes[child].name, nodes[child].kind, positions[child]) for child in held]


def _parent(layout: Layout, one: Listing) -> int:
    """Return the number of the inode of the directory above; the root has one that is no inode's.

    Only NFS asks for it, by a table that these images lack.
    """
    if one.children.node == 0:
        return records.number_of(layout.inode_table_bytes)
    parent = layout.listings[one.children.parent].children.node
    return records.number_of(layout.positions[parent])
