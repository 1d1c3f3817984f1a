"""An erofs image: its entries read here, the contents of its files by fsck.erofs.

fsck.erofs 1.5 unpacks without set-id bits and hard links, so that what it leaves is taken for the
contents alone. Fields (little-endian; fs/erofs/erofs_fs.h of Linux), as far as they are used:

| superblock at 1,024 | | inode, compact (32 bytes) and extended (64) | |
|---|---|---|---|
| 0 | u32 magic | 0 | u16 format: bit 0 extended, bits 1 to 3 layout |
| 12 | u8 bits of the block size | 2 | u16 count of xattr words |
| 14 | u16 number of the root inode | 4 | u16 mode |
| 24 | u64 time of the build | 6 / 44 | u16 / u32 links |
| 36 | u32 blocks | 8 | u32 / u64 size |
| 40 | u32 block of the inodes | 16 | u32 first block of data, or device |
| | | 24, 26 / 24, 28 | u16 / u32 owner, group |
| | | - / 32 | u64 mtime (compact: that of the build) |

Inode n lies 32 n bytes after the block of the inodes. A directory's block begins with entries of
12 bytes: u64 inode, u16 offset of the name, u8 type; the first offset tells how many there are.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from builder.hardlinks import with_links
from builder.names import shown
from builder.opened.image import KINDS, Contents, Facts, damage
from builder.tools import Tool, run
from builder.tree import Kind, Node, Tree
from slots.errors import VerificationError

FSCK_EROFS = Tool("fsck.erofs", "erofs-utils", "erofs-utils")
MAGIC = b"\xe2\xe1\xf5\xe0"
SUPERBLOCK_AT = 1024
_PLAIN, _INLINE = 0, 2
_SLOT_BYTES = 32
_TARGET_MAX_BYTES = 4096
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Inode:
    mode: int
    links: int
    size: int
    union: int
    uid: int
    gid: int
    mtime_s: int
    layout: int
    inline_at: int


@dataclass(slots=True)
class ErofsImage:
    """An erofs image in a file; `folders` holds what was unpacked until it is closed."""

    path: Path
    file: BinaryIO
    folders: ExitStack

    def facts(self) -> Facts:
        """Return what the superblock says."""
        head = self._superblock()
        return Facts("erofs", "as its files say", 0, _u(head, 36, 4) << head[12])

    def tree(self) -> Tree:
        """Return all entries."""
        head = self._superblock()
        nodes: list[Node] = []
        keys: dict[bytes, object] = {}
        waiting = [(b"", _u(head, 14, 2))]
        seen: set[int] = set()
        while waiting:
            path, number = waiting.pop()
            inode = self._inode(head, number, path)
            node = self._node(path, inode, head)
            nodes.append(node)
            if node.kind is Kind.DIRECTORY:
                if number in seen:
                    raise self._bad(path, "is the same directory as another")
                seen.add(number)
                waiting += self._children(path, inode, head)
            elif inode.links > 1:
                keys[path] = number
        return with_links(Tree.of(nodes), keys)

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files."""
        folder = Path(self.folders.enter_context(TemporaryDirectory(prefix="image-"))) / "root"
        with damage(self.path.name):
            run(
                FSCK_EROFS,
                [f"--extract={folder}", "--no-preserve", str(self.path)],
                {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        for node in nodes:
            yield node, self._unpacked(os.fsencode(folder) + node.path, node)

    def _unpacked(self, path: bytes, node: Node) -> Iterator[bytes]:
        """Read what fsck.erofs left of a file; 1.5 says nothing where it could not unpack."""
        left = node.size
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                while data := file.read(_READ_BYTES):
                    left -= len(data)
                    yield data
        except OSError as error:
            raise self._bad(node.path, f"not unpacked ({error.strerror})") from error
        if left:
            raise self._bad(node.path, f"{node.size - left:,} bytes instead of {node.size:,}")

    def _bad(self, path: bytes, reason: str) -> VerificationError:
        return VerificationError(
            f"{self.path.name}: {shown(path)}: {reason}", hint="not a good image"
        )

    def check(self, apart_from: Iterable[Node] = ()) -> None:
        """Nothing beyond unpacking it."""

    def _file_bytes(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def _superblock(self) -> bytes:
        head = self._at(SUPERBLOCK_AT, 128, "superblock")
        if not 9 <= head[12] <= 16:
            raise VerificationError(f"{self.path.name}: blocks of 2^{head[12]} bytes are not known")
        return head

    def _at(self, offset: int, count: int, what: str) -> bytes:
        is_inside = offset + count <= self._file_bytes()
        self.file.seek(offset if is_inside else 0)
        data = self.file.read(count) if is_inside else b""
        if len(data) != count:
            raise VerificationError(f"{self.path.name} ends within the {what}")
        return data

    def _inode(self, head: bytes, number: int, path: bytes) -> _Inode:
        at = (_u(head, 40, 4) << head[12]) + number * _SLOT_BYTES
        raw = self._at(at, _SLOT_BYTES, f"inode of {shown(path)}")
        form, xattrs = _u(raw, 0, 2), _u(raw, 2, 2)
        length = 2 * _SLOT_BYTES if form & 1 else _SLOT_BYTES
        inline_at = at + length + (12 + 4 * (xattrs - 1) if xattrs else 0)
        layout = form >> 1 & 7
        mode, union = _u(raw, 4, 2), _u(raw, 16, 4)
        if not form & 1:
            return _Inode(
                mode, _u(raw, 6, 2), _u(raw, 8, 4), union, _u(raw, 24, 2), _u(raw, 26, 2),
                _u(head, 24, 8), layout, inline_at,
            )  # fmt: skip
        raw += self._at(at + _SLOT_BYTES, _SLOT_BYTES, f"inode of {shown(path)}")
        return _Inode(
            mode, _u(raw, 44, 4), _u(raw, 8, 8), union, _u(raw, 24, 4), _u(raw, 28, 4),
            _u(raw, 32, 8), layout, inline_at,
        )  # fmt: skip

    def _node(self, path: bytes, inode: _Inode, head: bytes) -> Node:
        kind = KINDS.get(inode.mode & 0o170000)
        if kind is None:
            raise self._bad(path, f"is of no known type ({inode.mode:o})")
        if kind is Kind.SYMLINK and inode.size > _TARGET_MAX_BYTES:
            raise self._bad(path, f"a symlink target of {inode.size:,} bytes")
        is_device = kind in {Kind.CHARACTER, Kind.BLOCK}
        target = b"".join(self._blocks(path, inode, head)) if kind is Kind.SYMLINK else b""
        return Node(
            path=path,
            kind=kind,
            mode=inode.mode & 0o7777,
            uid=inode.uid,
            gid=inode.gid,
            mtime_s=inode.mtime_s,
            size=inode.size if kind is Kind.FILE else 0,
            target=target,
            major=(inode.union & 0xFFF00) >> 8 if is_device else 0,
            minor=inode.union & 0xFF | inode.union >> 12 & 0xFFF00 if is_device else 0,
            links=inode.links,
        )

    def _blocks(self, path: bytes, inode: _Inode, head: bytes) -> Iterator[bytes]:
        """Yield the data of a directory or a symlink, which is never compressed."""
        block_bytes = 1 << head[12]
        if inode.size > self._file_bytes():
            raise self._bad(path, f"{inode.size:,} bytes are more than the image has")
        if inode.layout not in {_PLAIN, _INLINE}:
            raise self._bad(path, f"lies in a layout that is not known ({inode.layout})")
        whole = inode.size // block_bytes if inode.layout == _INLINE else -1
        for block, offset in enumerate(range(0, inode.size, block_bytes)):
            count = min(block_bytes, inode.size - offset)
            at = inode.inline_at if block == whole else inode.union * block_bytes + offset
            yield self._at(at, count, f"data of {shown(path)}")

    def _children(self, path: bytes, inode: _Inode, head: bytes) -> Iterator[tuple[bytes, int]]:
        for block in self._blocks(path, inode, head):
            names_at = _u(block, 8, 2) if len(block) >= 12 else 0
            if names_at % 12 or not 0 < names_at <= len(block):
                raise self._bad(path, "the names of the directory lie nowhere")
            entries = list(struct.iter_unpack("<QHBx", block[:names_at]))
            ends = [entry[1] for entry in entries[1:]] + [len(block)]
            for (number, start, _), end in zip(entries, ends, strict=True):
                name = block[start:end].split(b"\0")[0]
                if not name or b"/" in name or not names_at <= start <= end <= len(block):
                    raise self._bad(path, f"holds a name that cannot be: {shown(name)[:80]}")
                if name not in {b".", b".."}:
                    yield path + b"/" + name, number


def _u(data: bytes, offset: int, count: int) -> int:
    return int.from_bytes(data[offset : offset + count], "little")
