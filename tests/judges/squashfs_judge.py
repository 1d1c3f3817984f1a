"""A second reader of squashfs 4.0 images, as Linux reads them, that names every broken rule.

Written from fs/squashfs of Linux and unsquashfs's checks, without a line of builder/squashfs.
"""

import hashlib
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import zstandard

METADATA = 8192
RAW_BLOCK = 1 << 24
NO_TABLE = 2**64 - 1
NO_FRAGMENT = 2**32 - 1
TYPES = {1: 0o040000, 2: 0o100000, 3: 0o120000, 4: 0o060000, 5: 0o020000, 6: 0o010000}


@dataclass
class Found:
    """An inode as it was read."""

    number: int
    type: int
    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    size: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    sha256: str = ""
    hole_bytes: int = 0
    listed: tuple[int, int, int] = (0, 0, 0)  # block, offset, bytes
    index: list[tuple[int, int, bytes]] = field(default_factory=list)
    parent: int = 0
    extended: bool = False


class Image:
    """An image; `violations` are the rules it breaks, `paths` what it holds."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.violations: list[str] = []
        self.paths: dict[bytes, Found] = {}
        self.used: list[tuple[int, int]] = []  # of blocks and fragments
        self._numbers: dict[int, int] = {}
        self._read_superblock()
        self._read_lists()
        self._walk(b"", *divmod(self.root, 1 << 16))
        self._check_numbers()

    def _rule(self, holds: bool, says: str) -> None:
        if not holds:
            self.violations.append(says)

    def _read_superblock(self) -> None:
        (
            magic, self.inodes, self.made, self.block, self.fragments, self.compressor, log,
            self.flags, self.ids, major, minor, self.root, self.bytes_used, self.id_list,
            xattrs, self.inode_table, self.directories, self.fragment_list, lookup,
        ) = struct.unpack_from("<IIIIIHHHHHHQQQQQQQQ", self.data)  # fmt: skip
        self._rule(magic == 0x73717368 and (major, minor) == (4, 0), "magic or version")
        self._rule(self.block == 1 << log and 4096 <= self.block <= 1 << 20, "block size")
        self._rule(self.bytes_used <= len(self.data), "more used than there is")
        self._rule(len(self.data) % 4096 == 0, "no whole pages")
        self._rule(not any(self.data[self.bytes_used :]), "something behind the end")
        self._rule(xattrs == lookup == NO_TABLE, "tables that nobody asked for")
        self._rule(self.flags & 1024 == 0, "options of a compressor")
        self._rule(0 < self.ids < 65536, "owners")

    def _read_lists(self) -> None:
        """As squashfs_fill_super does: from the last table to the first."""
        self.owners = struct.unpack(
            f"<{self.ids}I", self._listed(self.id_list, 4 * self.ids, self.bytes_used)
        )
        end = struct.unpack_from("<Q", self.data, self.id_list)[0]
        self.rows: list[tuple[int, int]] = []
        if self.fragments:
            table = self._listed(self.fragment_list, 16 * self.fragments, end)
            self.rows = [(at, size) for at, size, _ in struct.iter_unpack("<QII", table)]
            end = struct.unpack_from("<Q", self.data, self.fragment_list)[0]
        self._rule(self.inode_table < self.directories <= end, "order of the tables")
        self.inode_bytes = self._whole(self.inode_table, self.directories)
        self.listing_bytes = self._whole(self.directories, end)

    def _listed(self, at: int, size: int, end: int) -> bytes:
        count = -(-size // METADATA)
        starts = struct.unpack_from(f"<{count}Q", self.data, at)
        self._rule(at + 8 * count == end, "a list does not end where the next thing begins")
        blocks = [self._metadata(start) for start in starts]
        ends = [start + 2 + length for start, (_, length) in zip(starts, blocks, strict=True)]
        self._rule(ends == [*starts[1:], at], "blocks of a list do not follow one another")
        found = b"".join(data for data, _ in blocks)
        self._rule(len(found) == size, "a table is not as long as the superblock says")
        return found

    def _metadata(self, at: int) -> tuple[bytes, int]:
        (head,) = struct.unpack_from("<H", self.data, at)
        length = head & 0x7FFF
        data = self.data[at + 2 : at + 2 + length]
        return (data if head & 0x8000 else self._unpack(data, METADATA)), length

    def _whole(self, start: int, end: int) -> dict[int, bytes]:
        """The blocks of a table by their distance from its start; all but the last are full."""
        blocks: dict[int, bytes] = {}
        at = start
        while at < end:
            data, length = self._metadata(at)
            blocks[at - start] = data
            at += 2 + length
            self._rule(len(data) == METADATA or at == end, "a block of a table is not full")
        self._rule(at == end, "a table ends within a block")
        return blocks

    def _unpack(self, data: bytes, most: int) -> bytes:
        match self.compressor:
            case 1:
                return zlib.decompress(data)
            case 4:
                # The kernel sets aside a dictionary of one block.
                return lzma.decompress(data, lzma.FORMAT_XZ, memlimit=self.block + (1 << 18))
            case 6:
                about = zstandard.get_frame_parameters(data)
                self._rule(not about.has_checksum, "a frame with a checksum")
                self._rule(about.window_size <= max(self.block, 8192), "a window beyond a block")
                return zstandard.decompress(data, max_output_size=most)
            case other:
                raise AssertionError(f"compressor {other}")

    def _at(self, blocks: dict[int, bytes], block: int, offset: int, size: int) -> bytes:
        """Read on from a place of a table, over the ends of blocks."""
        found = b""
        while len(found) < size:
            data = blocks[block]
            found += data[offset : offset + size - len(found)]
            block, offset = block + METADATA + 2, 0
        return found

    def _walk(self, path: bytes, block: int, offset: int) -> None:
        found = self.paths[path] = self._inode(block, offset)
        if found.type != 1:
            return
        children = 0
        for name, kind, number, *place in self._listing(found, path):
            self._walk(path + b"/" + name, *place)
            child = self.paths[path + b"/" + name]
            self._rule((child.type, child.number) == (kind, number), f"entry of {name!r}")
            if kind == 1:
                children += 1
                self._rule(child.parent == found.number, f"parent of {name!r}")
        self._rule(found.links == 2 + children, f"links of {path!r}")

    def _inode(self, block: int, offset: int) -> Found:
        blocks = self.inode_bytes
        kind, mode, uid, gid, mtime, number = struct.unpack(
            "<HHHHII", self._at(blocks, block, offset, 16)
        )
        self._rule(0 < number <= self.inodes, "number of an inode")
        place = block // (METADATA + 2) * METADATA + offset
        self._rule(self._numbers.setdefault(number, place) == place, "a number of two inodes")
        found = Found(
            number, (kind - 1) % 7 + 1, mode, self.owners[uid], self.owners[gid], mtime, 1
        )
        found.extended = kind > 7
        self._rest(kind, found, self._at_rest(blocks, block, offset))
        return found

    def _at_rest(self, blocks: dict[int, bytes], block: int, offset: int) -> bytes:
        data, at = blocks[block][offset + 16 :], block + METADATA + 2
        while at in blocks and len(data) < 1 << 18:
            data, at = data + blocks[at], at + METADATA + 2
        return data if len(blocks[block]) >= offset + 16 else data[offset + 16 - METADATA :]

    def _rest(self, kind: int, found: Found, data: bytes) -> None:
        match kind:
            case 1:
                start, found.links, size, offset, found.parent = struct.unpack_from("<IIHHI", data)
                found.listed = (start, offset, size - 3)
            case 8:
                found.links, size, start, found.parent, count, offset, _ = struct.unpack_from(
                    "<IIIIHHI", data
                )
                found.listed, at = (start, offset, size - 3), 24
                for _ in range(count):
                    where, begin, length = struct.unpack_from("<III", data, at)
                    found.index.append((where, begin, data[at + 12 : at + 13 + length]))
                    at += 13 + length
            case 2:
                start, fragment, offset, found.size = struct.unpack_from("<IIII", data)
                self._content(found, start, fragment, offset, data[16:])
            case 9:
                start, found.size, found.hole_bytes, found.links, fragment, offset, _ = (
                    struct.unpack_from("<QQQIIII", data)
                )
                self._content(found, start, fragment, offset, data[40:])
            case 3:
                found.links, length = struct.unpack_from("<II", data)
                found.target = data[8 : 8 + length]
            case 4 | 5:
                found.links, word = struct.unpack_from("<II", data)
                found.device = (word >> 8 & 0xFFF, word & 0xFF | word >> 12 & 0xFFF00)
            case 6:
                (found.links,) = struct.unpack_from("<I", data)
            case _:
                raise AssertionError(f"type {kind}")

    def _content(self, found: Found, at: int, fragment: int, offset: int, words: bytes) -> None:
        digest, rest = hashlib.sha256(), found.size
        whole = -(-rest // self.block) if fragment == NO_FRAGMENT else rest // self.block
        holes = 0
        for (word,) in struct.iter_unpack("<I", words[: 4 * whole]):
            size = min(rest, self.block)
            digest.update(self._block(at, word, size))
            holes += 0 if word else size
            at += word & ~RAW_BLOCK
            rest -= size
        if fragment != NO_FRAGMENT:
            place, word = self.rows[fragment]
            self._rule(word != 0, "a fragment that is not there")
            self._rule(offset + rest <= self.block, "a tail beyond its fragment")
            digest.update(self._fragment(place, word)[offset : offset + rest])
            rest = 0
        self._rule(rest == 0, "a file that ends early")
        self._rule(found.hole_bytes == min(holes, max(found.size - 1, 0)), "bytes in holes")
        found.sha256 = digest.hexdigest()

    def _fragment(self, at: int, word: int) -> bytes:
        length = word & ~RAW_BLOCK
        self.used.append((at, at + length))
        data = self.data[at : at + length]
        return data if word & RAW_BLOCK else self._unpack(data, self.block)

    def _block(self, at: int, word: int, size: int) -> bytes:
        if word == 0:
            return bytes(size)
        length = word & ~RAW_BLOCK
        self._rule(length <= size and not word >> 25, "a block that is longer than its content")
        self._rule(at >= 96 and at + length <= self.inode_table, "a block outside the data")
        self.used.append((at, at + length))
        data = self.data[at : at + length]
        found = data if word & RAW_BLOCK else self._unpack(data, size)
        self._rule(len(found) == size, "a block of another length")
        return found

    def _listing(self, found: Found, path: bytes) -> Iterator[tuple[bytes, int, int, int, int]]:
        block, offset, size = found.listed
        data = self._at(self.listing_bytes, block, offset, size) if size else b""
        headers: dict[int, bytes] = {}
        at, names = 0, []
        while at < size:
            count, start, base = struct.unpack_from("<III", data, at)
            self._rule(count < 256, f"{count + 1} entries behind a header of {path!r}")
            where, at = at, at + 12
            for _ in range(count + 1):
                inode_offset, number, kind, length = struct.unpack_from("<HhHH", data, at)
                name = data[at + 8 : at + 9 + length]
                headers.setdefault(where, name)
                names.append(name)
                yield name, kind, base + number, start, inode_offset
                at += 9 + length
        self._rule(at == size, f"the listing of {path!r} ends within an entry")
        self._rule(names == sorted(set(names)), f"the names of {path!r} are not in order")
        self._rule(not found.index or found.extended, "an index of a short directory")
        begin = block // (METADATA + 2) * METADATA + offset
        for where, start, name in found.index:
            self._rule(headers.get(where) == name, f"the index of {path!r} leads elsewhere")
            expected = (begin + where) // METADATA * (METADATA + 2)
            self._rule(start == expected, f"the index of {path!r} names another block")

    def _check_numbers(self) -> None:
        root = self.paths[b""]
        self._rule(root.parent > self.inodes - 1, "the parent of the root")
