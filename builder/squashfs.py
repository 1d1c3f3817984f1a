"""The root directory and the owners' table of a squashfs 4.0 image, set right in place.

mksquashfs 4.5 reading a tar stream gives the root directory to the user who runs it, and to this
moment. With `-noI` the inodes and the table of owners are not compressed, so both can be written
anew: the image no longer depends on who built it, and when.

Superblock (96 bytes, little-endian), as far as it is used here:

| offset | field |
|---|---|
| 0 | magic `hsqs` |
| 26 | u16 number of owner ids |
| 32 | u64 reference of the root's inode: block (from the inode table) << 16 | offset in it |
| 40 | u64 bytes used |
| 48 | u64 offset of the list of blocks of ids |
| 64 | u64 offset of the inode table |

A metadata block is a u16 (bit 15: not compressed; the rest: its length, at most 8,192) and its
bytes. An inode starts with u16 type, mode, index of uid, index of gid, u32 mtime. The ids are u32
in metadata blocks, listed by u64 offsets; nothing follows that list when there are no xattrs.
"""

import struct
from collections.abc import Set as AbstractSet
from typing import BinaryIO

from builder.tree import Node
from slots.errors import BuildError

MAGIC = b"hsqs"
_NO_TABLE = 0xFFFF_FFFF_FFFF_FFFF
_STORED = 0x8000
_BLOCK_BYTES = 8192
_IDS_PER_BLOCK = _BLOCK_BYTES // 4


def settle_root(image: BinaryIO, root: Node, ids_below: AbstractSet[int], pad_bytes: int) -> None:
    """Give the root directory its owner and time, and drop owners that nothing has.

    `ids_below` are the uids and gids of all entries below the root. The image is cut to what it
    uses and padded with zeros to a multiple of `pad_bytes`.
    """
    head = _read(image, 0, 96)
    count, reference = _u16(head, 26), _u64(head, 32)
    ids_at, inodes_at, xattrs_at = _u64(head, 48), _u64(head, 64), _u64(head, 56)
    if head[:4] != MAGIC or xattrs_at != _NO_TABLE:
        raise BuildError("mksquashfs wrote a squashfs that is not as it was asked for")
    kept, first_block = _ids(image, ids_at, count)
    ids = [one for one in kept if one in ids_below]
    if ids != kept[: len(ids)]:
        raise BuildError("mksquashfs wrote its owners in an order that is not known")
    for wanted in (root.uid, root.gid):
        if wanted not in ids:
            ids.append(wanted)
    _write_root(image, inodes_at, reference, root, ids)
    _write_ids(image, first_block, ids, pad_bytes)


def _read(image: BinaryIO, offset: int, count: int) -> bytes:
    image.seek(offset)
    data = image.read(count)
    if len(data) != count:
        raise BuildError("mksquashfs wrote a squashfs that ends too early")
    return data


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


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


def _write_root(
    image: BinaryIO, inodes_at: int, reference: int, root: Node, ids: list[int]
) -> None:
    block_at, within = inodes_at + (reference >> 16), reference & 0xFFFF
    inode = struct.pack("<HHHI", root.mode, ids.index(root.uid), ids.index(root.gid), root.mtime_s)
    # An inode may begin in the last bytes of one block and go on in the next.
    block = _stored_block(image, block_at)
    here = max(0, len(block) - within - 2)
    image.seek(block_at + 2 + within + 2)
    image.write(inode[:here])
    if here < len(inode):
        image.seek(block_at + 2 + len(block) + 2 + max(0, within + 2 - len(block)))
        image.write(inode[here:])


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
