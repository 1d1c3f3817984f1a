"""The records of a squashfs 4.0: inodes, listings, superblock. Pure.

All numbers are little-endian. Formats: fs/squashfs/squashfs_fs.h of Linux.

An inode begins with u16 type, u16 mode, u16 index of uid, u16 index of gid, u32 mtime, u32 number;
a type that is 7 more is the same with larger fields. A place in the tables of inodes and of
listings is a block (its distance from the start of the table, as it is stored) and an offset in it.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from builder.tree import Kind, Node

METADATA_BYTES = 8192
STORED_METADATA_BYTES = 2 + METADATA_BYTES
"""Tables are stored in blocks of so many bytes, each behind two bytes that tell its length."""

GROUP_ENTRIES = 256
"""The most entries behind one header."""

HEADER_BYTES = 12
NO_FRAGMENT = NO_XATTR = 0xFFFF_FFFF
NO_TABLE = 0xFFFF_FFFF_FFFF_FFFF
UNCOMPRESSED_BLOCK = 1 << 24
"""In the length of a block of data."""

STORED_INODES, STORED_BLOCKS, STORED_FRAGMENTS = 1, 2, 8
_DUPLICATES, _NO_XATTRS, STORED_OWNERS = 64, 512, 2048

_STORED_METADATA = 0x8000
_MAGIC = 0x73717368
_LISTED_MORE = 3
"""A directory is so much larger than its listing: `.` and `..`, which are not in it."""

_MOST_BASIC_BYTES = 0xFFFF
_NUMBER_STEP = 16
"""The smallest inode has 20 bytes: a number for each 16 is enough."""

TYPES = {
    Kind.DIRECTORY: 1,
    Kind.FILE: 2,
    Kind.SYMLINK: 3,
    Kind.BLOCK: 4,
    Kind.CHARACTER: 5,
    Kind.FIFO: 6,
}
_EXTENDED = 7

_COMMON = struct.Struct("<HHHHII")
_DIRECTORY = struct.Struct("<IIHHI")
_LONG_DIRECTORY = struct.Struct("<IIIIHHI")
_INDEX = struct.Struct("<III")
_FILE = struct.Struct("<IIII")
_LONG_FILE = struct.Struct("<QQQIIII")
_LINKS = struct.Struct("<I")
_LINK = struct.Struct("<II")
_BLOCK_LENGTH = struct.Struct("<I")
_HEADER = struct.Struct("<III")
_ENTRY = struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<QII")
_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
SUPERBLOCK_BYTES = _SUPERBLOCK.size


class Content(NamedTuple):
    """Where the bytes of a file lie: the first block and the lengths of all, or in a fragment."""

    start: int = 0
    blocks: bytes = b""  # u32 each
    hole_bytes: int = 0
    fragment: int = NO_FRAGMENT
    offset: int = 0


class Listed(NamedTuple):
    """Where the entries of a directory lie: byte in the table, length; long ones have an index."""

    position: int
    size_bytes: int
    parent: int
    indexed: Sequence[tuple[int, bytes]] | None = None  # byte in the listing, the name there


def number_of(position: int) -> int:
    """Return the number of the inode at a byte of the table: what is not moved keeps it."""
    return 1 + position // _NUMBER_STEP


def place_of(position: int) -> tuple[int, int]:
    """Return block and offset of a byte of a table."""
    block, offset = divmod(position, METADATA_BYTES)
    return block * STORED_METADATA_BYTES, offset


def is_long(names: Sequence[bytes]) -> bool:
    """Tell whether a listing may be too long for the short form of its directory's inode."""
    most_bytes = sum(HEADER_BYTES + entry_bytes(name) for name in names)
    return most_bytes + _LISTED_MORE > _MOST_BASIC_BYTES


def entry_bytes(name: bytes) -> int:
    """Return the length of an entry of a listing."""
    return _ENTRY.size + len(name)


def inode_bytes(node: Node, block_bytes: int) -> int:
    """Return the length of an inode, of a directory the short form's."""
    match node.kind:
        case Kind.DIRECTORY:
            more = _DIRECTORY.size
        case Kind.FILE if node.size >= block_bytes:
            more = _LONG_FILE.size + _BLOCK_LENGTH.size * -(-node.size // block_bytes)
        case Kind.FILE:
            more = (_FILE if node.links == 1 else _LONG_FILE).size
        case Kind.SYMLINK:
            more = _LINK.size + len(node.target)
        case Kind.CHARACTER | Kind.BLOCK:
            more = _LINK.size
        case Kind.FIFO:
            more = _LINKS.size
    return _COMMON.size + more


def long_directory_bytes(indexed: Iterable[bytes]) -> int:
    """Return the length of the inode of a long directory with some names in its index."""
    index = sum(_INDEX.size + len(name) for name in indexed)
    return _COMMON.size + _LONG_DIRECTORY.size + index


def inode(node: Node, position: int, owners: tuple[int, int], about: Content | Listed) -> bytes:
    """Return an inode. `owners` are the places of uid and gid in their table."""
    match about:
        case Listed():
            extended, rest = _directory(node, about)
        case Content() if node.kind is Kind.FILE:
            extended, rest = _file(node, about)
        case Content():
            extended, rest = False, _other(node)
    kind = TYPES[node.kind] + (_EXTENDED if extended else 0)
    return _COMMON.pack(kind, node.mode, *owners, node.mtime_s, number_of(position)) + rest


def _directory(node: Node, listed: Listed) -> tuple[bool, bytes]:
    block, offset = place_of(listed.position)
    size, parent = listed.size_bytes + _LISTED_MORE, listed.parent
    if listed.indexed is None:
        return False, _DIRECTORY.pack(block, node.links, size, offset, parent)
    rows = listed.indexed
    head = _LONG_DIRECTORY.pack(node.links, size, block, parent, len(rows), offset, NO_XATTR)
    index = (
        _INDEX.pack(at, place_of(listed.position + at)[0], len(name) - 1) + name
        for at, name in rows
    )
    return True, head + b"".join(index)


def _file(node: Node, content: Content) -> tuple[bool, bytes]:
    start, blocks, hole_bytes, fragment, offset = content
    if not blocks and node.links == 1:
        return False, _FILE.pack(start, fragment, offset, node.size)
    holes = min(hole_bytes, max(node.size - 1, 0))
    head = _LONG_FILE.pack(start, node.size, holes, node.links, fragment, offset, NO_XATTR)
    return True, head + blocks


def _other(node: Node) -> bytes:
    match node.kind:
        case Kind.SYMLINK:
            return _LINK.pack(node.links, len(node.target)) + node.target
        case Kind.CHARACTER | Kind.BLOCK:
            device = node.minor & 0xFF | node.major << 8 | (node.minor & ~0xFF) << 12
            return _LINK.pack(node.links, device)
        case _:
            return _LINKS.pack(node.links)


class Entry(NamedTuple):
    """A name, its type and where its inode lies."""

    name: bytes
    kind: Kind
    position: int


def listing(
    entries: Sequence[Entry], breaks: Sequence[int]
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return a listing, and where in it each group but the first begins, with its first name."""
    parts: list[bytes] = []
    index: list[tuple[int, bytes]] = []
    at, begins = 0, frozenset(breaks)
    for low, high in runs([entry.position for entry in entries], breaks):
        if low in begins:
            index.append((at, entries[low].name))
        run = b"".join(_headed(entries[low:high]))
        parts.append(run)
        at += len(run)
    return b"".join(parts), index


def runs(positions: Sequence[int], breaks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield which entries stand behind one header: of one group, with inodes in one block.

    `positions` are the bytes of the table at which their inodes begin.
    """
    low, begins = 0, frozenset(breaks)
    blocks = [position // METADATA_BYTES for position in positions]
    for at in range(1, len(blocks)):
        if at in begins or blocks[at - 1] != blocks[at]:
            yield low, at
            low = at
    if blocks:
        yield low, len(blocks)


def _headed(run: Sequence[Entry]) -> Iterator[bytes]:
    first = number_of(run[0].position)
    yield _HEADER.pack(len(run) - 1, place_of(run[0].position)[0], first)
    for name, kind, position in run:
        offset, number = position % METADATA_BYTES, number_of(position)
        yield _ENTRY.pack(offset, number - first, TYPES[kind], len(name) - 1) + name


def fragment(start: int, length: int) -> bytes:
    """Return a row of the table of fragments."""
    return _FRAGMENT.pack(start, length, 0)


def metadata(table: bytes | bytearray) -> Iterator[bytes]:
    """Yield a table as it is stored: in blocks that are not compressed."""
    for at in range(0, len(table), METADATA_BYTES):
        block = bytes(table[at : at + METADATA_BYTES])
        yield struct.pack("<H", _STORED_METADATA | len(block)) + block


class Superblock(NamedTuple):
    """What the first bytes of an image tell. Places are bytes of the image."""

    inodes: int
    made_s: int
    block_bytes: int
    fragments: int
    compressor: int
    stored: int
    owners: int
    root: int  # byte in the table of inodes
    used_bytes: int
    owners_at: int
    inodes_at: int
    listings_at: int
    fragments_at: int

    def packed(self) -> bytes:
        """Return them as they stand there."""
        block, offset = place_of(self.root)
        return _SUPERBLOCK.pack(
            _MAGIC,
            self.inodes,
            self.made_s,
            self.block_bytes,
            self.fragments,
            self.compressor,
            self.block_bytes.bit_length() - 1,
            self.stored | STORED_INODES | STORED_OWNERS | _DUPLICATES | _NO_XATTRS,
            self.owners,
            4,
            0,
            block << 16 | offset,
            self.used_bytes,
            self.owners_at,
            NO_TABLE,
            self.inodes_at,
            self.listings_at,
            self.fragments_at,
            NO_TABLE,
        )
