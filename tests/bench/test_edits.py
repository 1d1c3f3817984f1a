import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.iso9660.stream import clusters
from builder.tree import Kind, Node, Tree
from builder.uzip import writer
from builder.uzip.codecs import codec_of
from slots.index import Piece
from tests.bench import edits, travel


def file(path: bytes, size: int, group: int | None = None) -> Node:
    return Node(path, Kind.FILE, 0o644, 0, 0, 0, size=size, group=group)


def folder(path: bytes) -> Node:
    return Node(path, Kind.DIRECTORY, 0o755, 0, 0, 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name in ("usr/lib", "usr/share/doc", "etc"):
        (root / name).mkdir(parents=True)
    for number in range(40):
        (root / f"etc/{number}").write_bytes(edits.text_of(root, 5000, number * 100))
    (root / "usr/lib/big").write_bytes(os.urandom(300_000))
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    return root


def pieces_of(source: Path) -> tuple[Piece, ...]:
    """Build a uzip of 64 KiB, zstd 9, and return its pieces without the table."""
    layout, out = edits.planned(source), io.BytesIO()
    codec, level = codec_of("zstd", edits.LEVEL)
    written = writer.write(
        clusters(layout), layout.cluster_count, out,
        codec=codec, level=level, cluster_bytes=edits.CLUSTER_BYTES, threads=1,
    )  # fmt: skip
    image = out.getvalue()
    return tuple(
        piece for piece in written.pieces[1:] if any(image[piece.offset :][: piece.length])
    )


@pytest.mark.parametrize(
    ("apply", "place"),
    [
        (edits.write_10_bytes, b"/etc/7"),
        (edits.grow_by(200_000), b"/usr/lib/big"),
        (edits.add_package, b"added"),
        (edits.delete, b"/etc"),
        (edits.touch, b"/etc/7"),
        (edits.rename, b"/usr/share"),
    ],
)
def test_the_cost_of_an_edit_is_what_two_indexes_say(
    source: Path, apply: Callable[[Path, bytes], None], place: bytes
) -> None:
    old, pieces = edits.image_of(source), pieces_of(source)
    apply(source, place)
    cost = edits.cost_of(old, source, place)
    assert cost.new_bytes > 0
    assert cost.new_bytes + cost.path_table_bytes == travel.new_bytes(pieces, pieces_of(source))


def test_no_edit_costs_nothing(source: Path) -> None:
    assert edits.cost_of(edits.image_of(source), source) == edits.Cost(b"", 0, 0)


def test_a_file_that_grows_moves_much_of_a_sequential_image_and_little_of_a_hashed_one(
    source: Path,
) -> None:
    images = [edits.image_of(source, kind) for kind in (edits.HASHED, edits.SEQUENTIAL)]
    edits.grow_by(3000)(source, b"/etc/7")
    hashed, sequential = (edits.cost_of(old, source).new_bytes for old in images)
    assert hashed < 20_000
    assert sequential > 300_000  # the big file lies behind it


def test_path_tables_are_counted_apart(source: Path) -> None:
    old = edits.image_of(source)
    (source / "new").mkdir()
    cost = edits.cost_of(old, source)
    assert 0 < cost.path_table_bytes <= 2 * 512
    assert cost.new_bytes > 0


def test_a_package_has_forty_files(source: Path) -> None:
    before = sum(len(names) for _, _, names in os.walk(source))
    edits.add_package(source, b"p")
    assert sum(len(names) for _, _, names in os.walk(source)) == before + 40


def test_the_edited_file_lies_in_the_directory_with_most_entries() -> None:
    tree = Tree.of(
        [
            folder(b""), folder(b"/a"), folder(b"/b"),
            file(b"/a/1", 5000), file(b"/b/1", 9), file(b"/b/2", 5900), file(b"/b/3", 4999),
        ]
    )  # fmt: skip
    assert edits.in_big_directories(tree, 3) == [b"/b/3", b"/a/1"]


def test_a_file_with_two_names_is_not_edited() -> None:
    tree = Tree.of([folder(b""), file(b"/x", 1_000_000, group=1), file(b"/y", 700_000)])
    assert edits.of_a_megabyte(tree, 2) == [b"/y"]


def test_a_directory_to_delete_has_no_other_in_it() -> None:
    nodes = [folder(b""), folder(b"/d"), folder(b"/d/inner"), file(b"/d/inner/a", 1)]
    tree = Tree.of([*nodes, *(file(b"/d/%d" % number, 1) for number in range(30))])
    assert edits.directories_of_30(tree, 2) == [b"/d/inner"]


def test_directories_to_rename_do_not_lie_in_one_another() -> None:
    nodes = [folder(b""), folder(b"/d"), folder(b"/d/e"), folder(b"/f"), file(b"/f/1", 1)]
    tree = Tree.of([*nodes, *(file(b"/d/e/%d" % number, 1) for number in range(500))])
    assert edits.directories_of_500(tree, 3) == [b"/d", b"/f"]
