import gzip
import os
from pathlib import Path

import pytest

from slots.index import Index, Piece
from tests.bench.edits import CLUSTER_BYTES, Packer
from tests.bench.least import least_bytes
from tests.bench.peers import lacking, left_out
from tests.bench.travel import new_bytes, rsync_bytes, table_gzipped_bytes, totals

STATS = """
Number of files: 118,744 (reg: 93,107, dir: 14,200)
Total file size: 2,297,563,411 bytes
Total bytes sent: 28,301,077
Total bytes received: 812345

sent 28,301,077 bytes  received 812,345 bytes  1,234.00 bytes/sec
"""


def piece(length: int, digest: str) -> Piece:
    return Piece(0, length, digest)


def test_only_pieces_that_the_old_image_lacks_are_new() -> None:
    old = [piece(10, "a"), piece(20, "b")]
    assert new_bytes(old, [piece(20, "b"), piece(30, "c")]) == 30


def test_a_new_piece_that_comes_twice_travels_once() -> None:
    assert new_bytes([], [piece(7, "x"), piece(7, "x"), piece(5, "y")]) == 12


def test_an_equal_image_has_nothing_new() -> None:
    assert new_bytes([piece(1, "a")], [piece(1, "a")]) == 0


def test_the_table_is_the_first_piece_gzipped(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"table" * 100 + b"clusters")
    index = Index("", 508, (piece(500, "t"), piece(8, "c")))
    assert table_gzipped_bytes(image, index) == len(gzip.compress(b"table" * 100, 9, mtime=0))


def test_the_least_is_what_is_new_in_files_alone(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first, second = b"1" * CLUSTER_BYTES, b"2" * CLUSTER_BYTES
    for tree, big in ((old, first), (new, first + second)):
        tree.mkdir()
        (tree / "big").write_bytes(big)
        (tree / "same").write_bytes(b"same")
        (tree / "left-out").write_bytes(big[-5:])
    (new / "renamed").write_bytes(b"same")
    (new / "a").write_bytes(b"a")
    (new / "b").write_bytes(b"b")
    small = b"a" + bytes(2047) + b"b" + bytes(2047)
    packer = Packer()
    alone = packer.stored_bytes(second, 0) + packer.stored_bytes(small, 0)
    assert least_bytes(old, new, ["left-out"]) == alone


def test_rsync_is_counted_both_ways() -> None:
    assert totals(STATS) == 28_301_077 + 812_345


def test_statistics_that_say_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="does not say"):
        totals("Total bytes sent: 1")


def test_what_the_recipe_leaves_out_means_the_same_to_rsync() -> None:
    assert all("/" in pattern.rstrip("/") for pattern in left_out())


@pytest.mark.skipif(bool(lacking(["rsync"])), reason="rsync is missing")
def test_what_is_left_out_is_not_sent(tmp_path: Path) -> None:
    for version in ("old", "new", "other"):
        (tmp_path / version / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "new/var/lib/apt/lists/Packages").write_bytes(os.urandom(100_000))
    (tmp_path / "new/file").write_bytes(os.urandom(1000))
    old, new = tmp_path / "old", tmp_path / "new"
    assert 1000 < rsync_bytes(new, old, tmp_path, left_out()) < 5000
    assert not list(old.glob("var/lib/apt/lists/*"))
    assert rsync_bytes(new, tmp_path / "other", tmp_path, []) > 100_000
