"""Single edits of a tree, and what each changes of its image.

Every edit is made in three places, for what it costs depends on where its name happens to hash.
The new clusters are found by their raw bytes and only they are compressed: the same codec makes
the same bytes of the same cluster, so that is what two indexes would say (a test compares).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.clusters import ZeroRun
from builder.globs import matcher
from builder.iso9660 import layout as iso9660
from builder.iso9660.stream import clusters
from builder.normalise import Rules, normalise
from builder.scan import scan
from builder.tree import Kind, Node, Tree
from builder.uzip import writer
from builder.uzip.codecs import codec_of
from slots.events import Event

CLUSTER_BYTES = 65_536
LEVEL = 9
PARAMETERS = iso9660.Parameters(label="BENCH", cluster_bytes=CLUSTER_BYTES)
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
    """The clusters of an image that are not holes, by the digest of their raw bytes."""

    tree: Tree
    digests: frozenset[bytes]


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


def planned(source: Path) -> iso9660.Layout:
    """Scan a tree and lay it out as a build does."""
    scanned = scan(source, matcher([]))
    return iso9660.plan_layout(normalise(scanned.tree, Rules(), {}, _silent), PARAMETERS)


def _silent(_: Event) -> None:
    pass


def numbered(layout: iso9660.Layout) -> Iterator[tuple[int, bytes]]:
    """Yield the clusters that are not holes, with their numbers."""
    number, zeros = 0, bytes(CLUSTER_BYTES)
    for item in clusters(layout):
        match item:
            case ZeroRun(run):
                number += run
            case data:
                if data != zeros:
                    yield number, data
                number += 1


def image_of(source: Path) -> Image:
    """Remember what an image of this tree holds."""
    layout = planned(source)
    digests = frozenset(hashlib.sha256(data).digest() for _, data in numbered(layout))
    return Image(layout.tree, digests)


def cost_of(old: Image, source: Path, place: bytes = b"") -> Cost:
    """Count what an image of this tree holds that the old one does not."""
    layout = planned(source)
    tables = _path_table_clusters(layout)
    codec, level = codec_of("zstd", LEVEL)
    compress = codec.compressor(level)
    seen, new, of_tables = set(old.digests), 0, 0
    for number, data in numbered(layout):
        if (digest := hashlib.sha256(data).digest()) not in seen:
            seen.add(digest)
            size_bytes = len(writer.pad(codec, compress(data), 0, CLUSTER_BYTES))
            if number in tables:
                of_tables += size_bytes
            else:
                new += size_bytes
    return Cost(place, new, of_tables)


def _path_table_clusters(layout: iso9660.Layout) -> frozenset[int]:
    """Return the clusters of the two path tables; in a hashed layout nothing else is in them."""
    table = layout.path_table
    return frozenset(
        number
        for block in (table.l_block, table.m_block)
        for number in range(
            block * iso9660.BLOCK_BYTES // CLUSTER_BYTES,
            -(-(block * iso9660.BLOCK_BYTES + table.size_bytes) // CLUSTER_BYTES),
        )
    )
