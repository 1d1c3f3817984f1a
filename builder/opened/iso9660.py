"""An ISO 9660 image with Rock Ridge, plain or inside a uzip, read here (docs/formats/iso9660.md).

Nothing that the volume says is believed before it is checked: every extent lies inside it, no
directory is visited twice, all tables together are no larger than the volume, and a chain of
continuations has an end. So damage is named with its place, and costs neither time nor memory.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import BinaryIO, NamedTuple, NoReturn

from builder.names import shown
from builder.opened import susp
from builder.opened.clusters import Clusters, Flow, indexes
from builder.opened.image import KINDS, Contents, Facts
from builder.tree import Kind, Node, Tree, order_key
from slots.errors import VerificationError

BLOCK_BYTES = 2048
_READ_BYTES = 1 << 20
_FIRST_DESCRIPTOR = 16
_MOST_DESCRIPTORS = 64
_PRIMARY, _TERMINATOR = 1, 255
_MOST_CONTINUATIONS = 64
_MAX_NAME_BYTES = 255
_DIRECTORY, _GOES_ON = 0x02, 0x80
_OWN = frozenset((b"\0", b"\1"))  # a directory's records of itself and of its parent
_NONE = susp.Attributes()  # what is not read: they repeat what stands elsewhere
# length, first block, bytes of data, flags, length of the identifier
_RECORD = struct.Struct("<BxI4xI4x7xB6xB")
_RECORD_BIG = struct.Struct(">6xI4xI")


class _Extent(NamedTuple):
    block: int
    size_bytes: int


class _Record(NamedTuple):
    """One directory record: where its data lies, and what its system use entries say."""

    extent: _Extent
    identifier: bytes
    attributes: susp.Attributes


class _Folder(NamedTuple):
    """A directory to be read, and where its own records must point."""

    path: bytes
    extent: _Extent
    parent: _Extent


@dataclass(frozen=True, slots=True)
class _Entries:
    """All that was read: nodes in no order, and where the data of files begin."""

    nodes: list[Node]
    extents: dict[bytes, int]


@dataclass(slots=True)
class Iso9660Image:
    """An ISO 9660 volume; `volume` is its bytes, `clusters` how its container stores them."""

    volume: BinaryIO
    name: str
    about: Facts
    clusters: Clusters | None = None
    _extents: dict[bytes, int] | None = None

    def facts(self) -> Facts:
        """Return what the container says of itself."""
        return self.about

    def check(self, apart_from: Iterable[Node] = ()) -> None:
        """Decode every cluster of the container, but those that only these files fill."""
        if self.clusters is None:
            return
        size, known = self.clusters.cluster_bytes, bytearray(self.clusters.cluster_count)
        for node in apart_from:
            for index in indexes(self.offset(node), node.size, size):
                known[index] = 1
        others = (at for at, is_known in enumerate(known) if not is_known)
        for _ in self.clusters.decoded(at for at in others if not self.clusters.is_zero(at)):
            pass

    def tree(self) -> Tree:
        """Return all entries."""
        entries = _Reader(self.volume, self.name, self.about.volume_bytes).entries()
        self._extents = entries.extents
        return _tree(entries)

    def contents(self, nodes: Iterable[Node]) -> Contents:
        """Yield the bytes of files in the order in which they lie."""
        placed = sorted([(self.offset(node), node) for node in nodes], key=itemgetter(0))
        if self.clusters is None:
            for offset, node in placed:
                yield node, self._read(offset, node)
            return
        flow = Flow(self.clusters, ((offset, node.size) for offset, node in placed))
        for offset, node in placed:
            yield node, flow.read(offset, node.size)

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Return bytes of the volume."""
        self.volume.seek(offset)
        data = self.volume.read(count)
        if len(data) != count:
            raise VerificationError(f"{self.name} ends within its files", hint="not a good image")
        return data

    def offset(self, node: Node) -> int:
        """Return where the bytes of a file begin in the volume."""
        if self._extents is None:
            self.tree()
        return (self._extents or {})[node.path] * BLOCK_BYTES

    def _read(self, offset: int, node: Node) -> Iterator[bytes]:
        left = node.size
        self.volume.seek(offset)
        while left:
            data = self.volume.read(min(left, _READ_BYTES))
            if not data:
                raise VerificationError(f"{self.name} ends within {shown(node.path)}")
            left -= len(data)
            yield data


def plain(file: BinaryIO, name: str) -> Iso9660Image:
    """Open a plain ISO 9660 image."""
    size_bytes = file.seek(0, io.SEEK_END)
    return Iso9660Image(file, name, Facts("iso9660", "none", 0, size_bytes))


def _tree(entries: _Entries) -> Tree:
    """Put nodes in order; names that share an extent are one file.

    Link counts are those of the records; empty files have no extent, and stay apart.
    """
    nodes = sorted(entries.nodes, key=lambda node: order_key(node.path))
    names: dict[int, int] = {}
    for node in nodes:
        if node.kind is Kind.FILE and node.size and node.links > 1:
            block = entries.extents[node.path]
            names[block] = names.get(block, 0) + 1
    numbers: dict[int, int] = {}
    groups = {
        node.path: numbers.setdefault(entries.extents[node.path], len(numbers))
        for node in nodes
        if node.kind is Kind.FILE
        and node.size
        and node.links > 1
        and names[entries.extents[node.path]] > 1
    }
    return Tree(tuple(_grouped(node, groups) if node.links > 1 else node for node in nodes))


def _grouped(node: Node, groups: dict[bytes, int]) -> Node:
    group = groups.get(node.path)
    return node if group is None else _replaced(node, group)


def _replaced(node: Node, group: int) -> Node:
    return Node(
        node.path, node.kind, node.mode, node.uid, node.gid, node.mtime_s, node.size, group=group,
        links=node.links,
    )  # fmt: skip


class _Reader:
    """Reads the directories of a volume, level by level in the order in which they lie."""

    def __init__(self, volume: BinaryIO, name: str, held_bytes: int) -> None:
        self._volume, self._name, self._held_bytes = volume, name, held_bytes
        self._skip = 0  # bytes before the system use entries of every record (SP)
        self._blocks = 0
        self._left_bytes = 0  # what the tables not yet read may take together
        self._seen: set[int] = set()
        self._nodes: list[Node] = []
        self._extents: dict[bytes, int] = {}

    def entries(self) -> _Entries:
        """Return all entries of the volume."""
        root = self._root()
        level = [_Folder(b"", root, root)]
        while level:
            level.sort(key=attrgetter("extent"))
            below: list[_Folder] = []
            for folder in level:
                below += self._directory(folder)
            level = below
        return _Entries(self._nodes, self._extents)

    def _fault(self, path: bytes, reason: str, block: int) -> VerificationError:
        return VerificationError(
            f"{self._name}: {shown(path)}: {reason} (block {block})", hint="not a good image"
        )

    def _bad(self, path: bytes, reason: str, block: int) -> NoReturn:
        raise self._fault(path, reason, block)

    def _bytes(self, block: int, count: int, path: bytes) -> bytes:
        self._volume.seek(block * BLOCK_BYTES)
        data = self._volume.read(count)
        if len(data) != count:
            self._bad(path, "the image ends here", block)
        return data

    def _root(self) -> _Extent:
        """Find the primary descriptor, and the root's record in it (ECMA-119, 8.4)."""
        for block in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + _MOST_DESCRIPTORS):
            data = self._bytes(block, BLOCK_BYTES, b"")
            if data[1:6] != b"CD001":
                self._bad(b"", "no volume descriptor", block)
            if data[0] == _PRIMARY:
                return self._primary(data, block)
            if data[0] == _TERMINATOR:
                self._bad(b"", "no primary descriptor before the terminator", block)
        raise self._fault(b"", "no primary descriptor", _FIRST_DESCRIPTOR)

    def _primary(self, data: bytes, block: int) -> _Extent:
        try:
            self._blocks = susp.both(data[80:88], "the size of the volume")
            extent = _Extent(
                susp.both(data[158:166], "the root's first block"),
                susp.both(data[166:174], "the root's size"),
            )
        except ValueError as error:
            self._bad(b"", str(error), block)
        if data[128:132] != b"\x00\x08\x08\x00":
            self._bad(b"", "its blocks are not of 2,048 bytes", block)
        if not 0 < self._blocks * BLOCK_BYTES <= self._held_bytes:
            self._bad(b"", f"a volume of {self._blocks} blocks does not lie in the image", block)
        self._left_bytes = self._blocks * BLOCK_BYTES
        return extent

    def _directory(self, folder: _Folder) -> list[_Folder]:
        """Read one directory, and return those in it."""
        block, size_bytes = folder.extent
        self._claim(folder)
        below: list[_Folder] = []
        expected = [(b"\0", folder.extent), (b"\1", folder.parent)]
        for number, record in enumerate(self._records(folder)):
            if number < 2:
                if (record.identifier, record.extent) != expected[number]:
                    self._bad(folder.path, "does not begin with itself and its parent", block)
                if not folder.path and not number:
                    self._nodes.append(self._node(b"", record, block, is_directory=True))
                continue
            path = folder.path + b"/" + record.attributes.name
            is_directory = record.attributes.mode & 0o170000 == 0o040000
            self._nodes.append(self._node(path, record, block, is_directory=is_directory))
            if is_directory:
                below.append(_Folder(path, record.extent, folder.extent))
        if size_bytes == 0:
            self._bad(folder.path, "a directory without a table", block)
        return below

    def _claim(self, folder: _Folder) -> None:
        """Check where a directory lies: inside, whole blocks, once, and all of them together."""
        block, size_bytes = folder.extent
        if size_bytes % BLOCK_BYTES or not self._is_inside(folder.extent):
            self._bad(folder.path, f"a table of {size_bytes} bytes at block {block}", block)
        if block in self._seen:
            self._bad(folder.path, "lies where another directory does", block)
        self._seen.add(block)
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            self._bad(folder.path, "the directories are larger than the volume", block)

    def _is_inside(self, extent: _Extent) -> bool:
        block, size_bytes = extent
        return block * BLOCK_BYTES + size_bytes <= self._blocks * BLOCK_BYTES

    def _records(self, folder: _Folder) -> Iterator[_Record]:
        """Yield the records of a directory, their system use entries read."""
        block, size_bytes = folder.extent
        table = self._bytes(block, size_bytes, folder.path)
        for start in range(0, size_bytes, BLOCK_BYTES):
            at, end = start, start + BLOCK_BYTES
            while at + _RECORD.size < end and table[at]:
                here = block + start // BLOCK_BYTES
                length, first, count, flags, named = _RECORD.unpack_from(table, at)
                if at + length > end or _RECORD.size + named > length or not named:
                    self._bad(folder.path, f"a record of {length} bytes", here)
                if _RECORD_BIG.unpack_from(table, at) != (first, count):
                    self._bad(folder.path, "the two byte orders of a record differ", here)
                identifier = table[at + 33 : at + 33 + named]
                entries = at + 33 + named + (1 - named % 2)
                extent, is_first = _Extent(first, count), not folder.path and at == 0
                if identifier in _OWN and not is_first:
                    yield _Record(extent, identifier, _NONE)
                else:
                    area = table[entries : at + length]
                    attributes = self._attributes(area, folder.path, here, is_first=is_first)
                    self._check(folder.path, identifier, attributes, flags, here)
                    yield _Record(extent, identifier, attributes)
                at += length

    def _attributes(
        self, area: bytes, path: bytes, block: int, *, is_first: bool
    ) -> susp.Attributes:
        """Read the entries of a record, and of its continuations."""
        found = susp.Attributes()
        try:
            susp.read(area if is_first else area[self._skip :], found)
            if is_first:
                if found.skip is None:
                    self._bad(path, "no Rock Ridge: SP is missing", block)
                self._skip = found.skip
            for _ in range(_MOST_CONTINUATIONS):
                if found.rest is None:
                    return found
                susp.read(self._continuation(found.rest), found)
        except ValueError as error:
            self._bad(path, str(error), block)
        raise self._fault(path, "continuations without end", block)

    def _continuation(self, rest: tuple[int, int, int]) -> bytes:
        block, offset, length = rest
        if offset + length > BLOCK_BYTES or block >= self._blocks:
            raise ValueError(f"a continuation at block {block}, {offset}, {length} bytes")
        self._volume.seek(block * BLOCK_BYTES + offset)
        data = self._volume.read(length)
        if len(data) != length:
            raise ValueError("the image ends within a continuation")
        return data

    def _check(
        self, path: bytes, identifier: bytes, found: susp.Attributes, flags: int, block: int
    ) -> None:
        """Hold a record against what makes a tree of records."""
        kind = found.mode & 0o170000
        if found.mode < 0 or kind not in KINDS:
            self._bad(path, "an entry without Rock Ridge, or of no known type", block)
        if bool(flags & _DIRECTORY) != (kind == 0o040000):
            self._bad(path, "the flags of an entry are not those of its type", block)
        if flags & _GOES_ON or found.relocated:
            self._bad(path, "files of several extents and moved directories are not known", block)
        name = found.name
        if identifier in _OWN:
            return
        if (
            not 0 < len(name) <= _MAX_NAME_BYTES
            or found.name_goes_on
            or name in {b".", b".."}
            or b"/" in name
            or b"\0" in name
        ):
            self._bad(path, f"a name that cannot be: {shown(name)[:80]}", block)

    def _node(self, path: bytes, record: _Record, block: int, *, is_directory: bool) -> Node:
        found, extent = record.attributes, record.extent
        kind = Kind.DIRECTORY if is_directory else KINDS[found.mode & 0o170000]
        if kind is Kind.FILE:
            if extent.size_bytes and not self._is_inside(extent):
                self._bad(path, f"its {extent.size_bytes:,} bytes leave the volume", block)
            self._extents[path] = extent.block
        if kind is Kind.SYMLINK and (b"\0" in found.target or not found.target):
            self._bad(path, "a symlink without a target", block)
        return Node(
            path,
            kind,
            found.mode & 0o7777,
            found.uid,
            found.gid,
            found.mtime_s,
            extent.size_bytes if kind is Kind.FILE else 0,
            found.target if kind is Kind.SYMLINK else b"",
            *(found.device if kind in {Kind.CHARACTER, Kind.BLOCK} else (0, 0)),
            links=found.links,
        )
