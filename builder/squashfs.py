"""The root directory and the owners' table of a squashfs 4.0 image, set right in place.

mksquashfs 4.5 reading a tar stream gives the root directory to the user who runs it, and to this
moment. The root's inode is the last one: the blocks that hold it are written anew, not compressed,
and the tables behind them move by what that takes. With `-noId` the table of owners, the last of
all, is not compressed and is written anew as well. The image no longer depends on who built it,
and when.

Superblock (96 bytes, little-endian), as far as it is used here:

| offset | field |
|---|---|
| 0 | magic `hsqs` |
| 4 | u32 number of inodes |
| 16 | u32 number of blocks of fragments |
| 26 | u16 number of owner ids |
| 32 | u64 reference of the root's inode: block (from the inode table) << 16 | offset in it |
| 40 | u64 bytes used |
| 48 | u64 offset of the list of blocks of ids |
| 64 | u64 offset of the inode table |
| 72 | u64 offset of the directory table, which follows it |
| 80 | u64 offset of the list of blocks about fragments (16 bytes each) |
| 88 | u64 offset of the list of blocks of references to inodes (8 bytes each) |

A metadata block is a u16 (bit 15: not compressed; the rest: its length, at most 8,192) and its
bytes. An inode starts with u16 type, mode, index of uid, index of gid, u32 mtime. A list has a u64
offset per block, and follows its blocks. The ids are u32; nothing follows their list when there
are no xattrs.
"""

import struct
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import BinaryIO

from builder.tree import Node
from slots.errors import BuildError

Unpack = Callable[[bytes], bytes]
"""Decompresses a metadata block."""

MAGIC = b"hsqs"
_NO_TABLE = 0xFFFF_FFFF_FFFF_FFFF
_STORED = 0x8000
BLOCK_BYTES = 8192
_IDS_PER_BLOCK = BLOCK_BYTES // 4


def settle_root(
    image: BinaryIO, root: Node, ids_below: AbstractSet[int], pad_bytes: int, unpack: Unpack
) -> None:
    """Give the root directory its owner and time, and drop owners that nothing has.

    `ids_below` are the uids and gids of all entries below the root. The image is cut to what it
    uses and padded with zeros to a multiple of `pad_bytes`.
    """
    head = _read(image, 0, 96)
    count, ids_at, xattrs_at = _u16(head, 26), _u64(head, 48), _u64(head, 56)
    if head[:4] != MAGIC or xattrs_at != _NO_TABLE:
        raise BuildError("mksquashfs wrote a squashfs that is not as it was asked for")
    kept, first_block = _ids(image, ids_at, count)
    ids = [one for one in kept if one in ids_below]
    if ids != kept[: len(ids)]:
        raise BuildError("mksquashfs wrote its owners in an order that is not known")
    for wanted in (root.uid, root.gid):
        if wanted not in ids:
            ids.append(wanted)
    inode = struct.pack("<HHHI", root.mode, ids.index(root.uid), ids.index(root.gid), root.mtime_s)
    moved_bytes = _write_root(image, head, inode, first_block, unpack)
    _write_ids(image, first_block + moved_bytes, ids, pad_bytes)


def _read(image: BinaryIO, offset: int, count: int) -> bytes:
    image.seek(offset)
    data = image.read(count)
    if len(data) != count:
        raise BuildError("mksquashfs wrote a squashfs that ends too early")
    return data


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _stored_block(image: BinaryIO, offset: int) -> bytes:
    size = _u16(_read(image, offset, 2), 0)
    if not size & _STORED:
        raise BuildError("mksquashfs compressed what it was asked to store")
    return _read(image, offset + 2, size & ~_STORED)


def _ids(image: BinaryIO, ids_at: int, count: int) -> tuple[list[int], int]:
    """Return the owners, and where their first block lies."""
    blocks = -(-count // _IDS_PER_BLOCK)
    offsets = struct.unpack(f"<{blocks}Q", _read(image, ids_at, 8 * blocks))
    data = b"".join(_stored_block(image, offset) for offset in offsets)
    return list(struct.unpack(f"<{count}I", data)), offsets[0]


def _write_root(image: BinaryIO, head: bytes, inode: bytes, end: int, unpack: Unpack) -> int:
    """Write the root's inode, and behind it all up to `end`; return by how much that moved."""
    reference, behind = _u64(head, 32), _u64(head, 72)
    begin, within = _u64(head, 64) + (reference >> 16), reference & 0xFFFF
    inodes = bytearray(_blocks(image, begin, behind, unpack))
    inodes[within + 2 : within + 2 + len(inode)] = inode
    blocks = b"".join(
        struct.pack("<H", _STORED | len(block)) + block
        for block in (inodes[at : at + BLOCK_BYTES] for at in range(0, len(inodes), BLOCK_BYTES))
    )
    moved_bytes = begin + len(blocks) - behind
    tables = bytearray(_read(image, behind, end - behind))
    lists = {80: _u32(head, 16) * 16, 88: _u32(head, 4) * 8}
    for field, size_bytes in lists.items():
        at = _u64(head, field)
        if at != _NO_TABLE:
            _move(tables, at - behind, -(-size_bytes // BLOCK_BYTES), moved_bytes)
    image.seek(begin)
    image.write(blocks + tables)
    for field in (72, *lists):
        at = _u64(head, field)
        if at != _NO_TABLE:
            image.seek(field)
            image.write(struct.pack("<Q", at + moved_bytes))
    return moved_bytes


def _blocks(image: BinaryIO, begin: int, end: int, unpack: Unpack) -> bytes:
    """Return what the metadata blocks between two places hold."""
    data, at = b"", begin
    while at < end:
        size = _u16(_read(image, at, 2), 0)
        block = _read(image, at + 2, size & ~_STORED)
        data += block if size & _STORED else unpack(block)
        at += 2 + len(block)
    return data


def _move(tables: bytearray, at: int, count: int, moved_bytes: int) -> None:
    """Move the offsets of a list."""
    layout = f"<{count}Q"
    offsets = struct.unpack_from(layout, tables, at)
    struct.pack_into(layout, tables, at, *(offset + moved_bytes for offset in offsets))


def _write_ids(image: BinaryIO, at: int, ids: list[int], pad_bytes: int) -> None:
    offsets: list[int] = []
    image.seek(at)
    for first in range(0, len(ids), _IDS_PER_BLOCK):
        block = ids[first : first + _IDS_PER_BLOCK]
        offsets.append(image.tell())
        image.write(struct.pack(f"<H{len(block)}I", _STORED | 4 * len(block), *block))
    ids_at = image.tell()
    image.write(struct.pack(f"<{len(offsets)}Q", *offsets))
    used_bytes = image.tell()
    image.truncate(used_bytes)
    image.write(bytes(-used_bytes % pad_bytes))
    for offset, layout, value in ((26, "<H", len(ids)), (40, "<Q", used_bytes), (48, "<Q", ids_at)):
        image.seek(offset)
        image.write(struct.pack(layout, value))
