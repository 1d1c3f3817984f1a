"""Single edits of a tree, and what each changes of its image.

Every edit is made in three places, for what it costs depends on where its name happens to hash.
The new clusters are found by their raw bytes, and hardly any other is compressed: the same codec
makes the same bytes of the same cluster, so that is what two indexes would say (a test compares).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.clusters import ZeroRun
from builder.globs import matcher
from builder.iso9660 import layout as iso9660
from builder.iso9660.parameters import Parameters, Placement
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.iso9660.stream import clusters
from builder.normalise import Rules, normalise
from builder.scan import scan
from builder.tree import Kind, Node, Tree
from builder.uzip.codecs import codec_of, pad
from slots.events import Event
from tests.bench import peers

CLUSTER_BYTES = 65_536
SECTOR_BYTES = 512
LEVEL = 9
SURELY_COMPRESSES = 0.95
PieceKey = tuple[bytes, int]  # the digest of a raw cluster, and where in a sector it begins
HASHED = Parameters(label="BENCH", cluster_bytes=CLUSTER_BYTES)
SEQUENTIAL = replace(HASHED, placement=Placement.SEQUENTIAL)
PACKAGE_FILES = {"usr/lib": 20, "usr/share": 15, "usr/share/doc": 5}
PACKAGE_FILE_BYTES = 3000


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: where it can be made, how it is made there, and what it may cost."""

    name: str
    aim_bytes: int
    places: Callable[[Tree, int], Sequence[bytes]]
    apply: Callable[[Path, bytes], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """New bytes of one edit in one place; the path tables' share is counted apart."""

    place: bytes
    new_bytes: int
    path_table_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """The pieces of an image, and what is known of the clusters of its tree."""

    parameters: Parameters
    tree: Tree
    pieces: frozenset[PieceKey]
    packer: "Packer"


# --- where ---------------------------------------------------------------------------------


def _plain_files(tree: Tree) -> Iterator[Node]:
    """Yield files of one name: the other names of a hard-linked one would be edited as well."""
    return (node for node in tree if node.kind is Kind.FILE and node.group is None)


def in_big_directories(tree: Tree, count: int) -> list[bytes]:
    """Return a file of about 5 kB in each of the directories with the most entries."""
    held = Counter(node.parent for node in tree)
    found: dict[bytes, Node] = {}
    for node in _plain_files(tree):
        best = found.get(node.parent)
        if best is None or abs(node.size - 5000) < abs(best.size - 5000):
            found[node.parent] = node
    fit = [node for node in found.values() if 4000 <= node.size <= 6000]
    fit.sort(key=lambda node: (-held[node.parent], node.path))
    return [node.path for node in fit[:count]]


def of_a_megabyte(tree: Tree, count: int) -> list[bytes]:
    """Return the files nearest to 1 MB."""
    near = sorted(_plain_files(tree), key=lambda node: (abs(node.size - 1_000_000), node.path))
    return [node.path for node in near[:count]]


def new_names(_: Tree, count: int) -> list[bytes]:
    """Return names of packages that the tree does not have."""
    return [b"bench-package-%d" % number for number in range(1, count + 1)]


def directories_of_30(tree: Tree, count: int) -> list[bytes]:
    """Return directories without directories in them, of about 30 files."""
    return _directories(tree, 30, count, leaves=True)


def directories_of_500(tree: Tree, count: int) -> list[bytes]:
    """Return directories with about 500 files in and below them."""
    return _directories(tree, 500, count, leaves=False)


def _directories(tree: Tree, files: int, count: int, *, leaves: bool) -> list[bytes]:
    below: Counter[bytes] = Counter()
    inner = {node.parent for node in tree if node.kind is Kind.DIRECTORY}
    for node in tree:
        if node.kind is Kind.FILE:
            path = node.path
            while path := path.rpartition(b"/")[0]:
                below[path] += 1
    fit = [path for path in below if not (leaves and path in inner)]
    fit.sort(key=lambda path: (abs(below[path] - files), path))
    return _apart(fit, count)


def _apart(paths: Sequence[bytes], count: int) -> list[bytes]:
    """Take the first paths of which none lies in another."""
    taken: list[bytes] = []
    for path in paths:
        nested = any((path + b"/").startswith(one + b"/") for one in taken)
        nested = nested or any((one + b"/").startswith(path + b"/") for one in taken)
        if not nested and len(taken) < count:
            taken.append(path)
    return taken


# --- what ----------------------------------------------------------------------------------


def _at(root: Path, path: bytes) -> Path:
    return root / os.fsdecode(path.lstrip(b"/"))


def text_of(root: Path, size_bytes: int, start: int = 0) -> bytes:
    """Return text of the tree: what dpkg knows of its packages, or the bench's own sources."""
    status = root / "var/lib/dpkg/status"
    text = status.read_bytes() if status.exists() else Path(__file__).read_bytes()
    while len(text) < start + size_bytes:
        text += text
    return text[start : start + size_bytes]


def write_10_bytes(root: Path, path: bytes) -> None:
    """Write over ten bytes in the middle of a file."""
    with _at(root, path).open("r+b") as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        file.write(b"0123456789")


def grow_by(size_bytes: int) -> Callable[[Path, bytes], None]:
    """Return the edit that appends so many bytes of text."""

    def grow(root: Path, path: bytes) -> None:
        with _at(root, path).open("ab") as file:
            file.write(text_of(root, size_bytes))

    return grow


def add_package(root: Path, name: bytes) -> None:
    """Add 40 files, as a package does: a library, its data, its documents."""
    number = 0
    for folder, count in PACKAGE_FILES.items():
        place = _at(root / folder, name)
        place.mkdir(parents=True)
        for _ in range(count):
            data = text_of(root, PACKAGE_FILE_BYTES, number * PACKAGE_FILE_BYTES)
            (place / f"file{number}").write_bytes(data)
            number += 1


def delete(root: Path, path: bytes) -> None:
    """Delete a directory of files."""
    place = _at(root, path)
    for entry in place.iterdir():
        entry.unlink()
    place.rmdir()


def touch(root: Path, path: bytes) -> None:
    """Set a file's time to now."""
    _at(root, path).touch()


def rename(root: Path, path: bytes) -> None:
    """Rename a directory beside itself."""
    place = _at(root, path)
    place.rename(place.with_name(place.name + "-renamed"))


EDITS = (
    Edit("10 bytes in a 5 kB file of a big directory", 60_000, in_big_directories, write_10_bytes),
    Edit("that file grows 3 kB", 60_000, in_big_directories, grow_by(3000)),
    Edit("a 1 MB file grows 200 kB of text", 130_000, of_a_megabyte, grow_by(200_000)),
    Edit("40 files of 3 kB text added", 80_000, new_names, add_package),
    Edit("a directory of about 30 files deleted", 40_000, directories_of_30, delete),
    Edit("one file touched", 30_000, in_big_directories, touch),
    Edit("a directory of about 500 files renamed", 300_000, directories_of_500, rename),
)


# --- what it costs -------------------------------------------------------------------------


def planned(source: Path, parameters: Parameters = HASHED) -> iso9660.Layout:
    """Scan a tree and lay it out as a build by the recipe of the mission does."""
    scanned = scan(source, matcher(peers.left_out()))
    return iso9660.plan_layout(normalise(scanned.tree, Rules(), {}, _silent), parameters)


def _silent(_: Event) -> None:
    pass


def numbered(layout: iso9660.Layout) -> Iterator[tuple[int, bytes]]:
    """Yield the clusters that are no holes, with their numbers; the last is never one."""
    number, zeros, last = 0, bytes(CLUSTER_BYTES), layout.cluster_count - 1
    for item in clusters(layout):
        match item:
            case ZeroRun(run):
                number += run
                if number > last:
                    yield last, zeros
            case data:
                if data != zeros or number == last:
                    yield number, data
                number += 1


class Packer:
    """Tells what the container stores of a cluster, and remembers it by the raw bytes.

    A cluster that compresses fills whole sectors, wherever it lies. One that does not is stored
    without padding, and the one behind it is padded by where it begins. A quick level finds those
    that may not compress, so that few of an unchanged tree are really compressed.
    """

    def __init__(self) -> None:
        self._codec, level = codec_of("zstd", LEVEL)
        self._compress = self._codec.compressor(level)
        self._guess = self._codec.compressor(1)
        self._fits: dict[bytes, bool] = {}  # whether it fills whole sectors

    def stored_bytes(self, data: bytes, start: int) -> int:
        """Return the length of a cluster that is stored at `start`."""
        return len(pad(self._codec, self._compress(data), start, CLUSTER_BYTES))

    def next_start(self, key: bytes, data: bytes, start: int) -> int:
        """Return where in a sector the next cluster begins."""
        if key not in self._fits:
            self._fits[key] = len(self._guess(data)) < SURELY_COMPRESSES * CLUSTER_BYTES
        if self._fits[key]:
            return 0
        return (start + self.stored_bytes(data, start)) % SECTOR_BYTES


def image_of(source: Path, parameters: Parameters = HASHED) -> Image:
    """Remember what an image of this tree holds."""
    layout, packer = planned(source, parameters), Packer()
    pieces = frozenset(piece for piece, _, _ in stored(layout, packer))
    return Image(parameters, layout.tree, pieces, packer)


def stored(layout: iso9660.Layout, packer: Packer) -> Iterator[tuple[PieceKey, int, bytes]]:
    """Yield each cluster that is stored: what makes its piece, its number, its raw bytes.

    Those that repeat are references and not stored again.
    """
    seen: set[bytes] = set()
    start = 0
    for number, data in numbered(layout):
        key = hashlib.sha256(data).digest()
        if key not in seen:
            seen.add(key)
            yield (key, start), number, data
            start = packer.next_start(key, data, start)


def cost_of(old: Image, source: Path, place: bytes = b"") -> Cost:
    """Count what an image of this tree holds that the old one does not."""
    layout = planned(source, old.parameters)
    tables = _path_table_clusters(layout)
    new = of_tables = 0
    for piece, number, data in stored(layout, old.packer):
        if piece not in old.pieces:
            size_bytes = old.packer.stored_bytes(data, piece[1])
            if number in tables:
                of_tables += size_bytes
            else:
                new += size_bytes
    return Cost(place, new, of_tables)


def _path_table_clusters(layout: iso9660.Layout) -> frozenset[int]:
    """Return the clusters of the two path tables.

    In a hashed layout nothing else is in them; in a sequential one some tables of directories.
    """
    table = layout.path_table
    return frozenset(
        number
        for block in (table.l_block, table.m_block)
        for number in range(
            block * BLOCK_BYTES // CLUSTER_BYTES,
            -(-(block * BLOCK_BYTES + table.size_bytes) // CLUSTER_BYTES),
        )
    )
