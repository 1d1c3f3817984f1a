import gzip
from pathlib import Path

import pytest

from slots.index import Index, Piece
from tests.bench.travel import new_bytes, table_gzipped_bytes, totals

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


def test_rsync_is_counted_both_ways() -> None:
    assert totals(STATS) == 28_301_077 + 812_345


def test_statistics_that_say_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="does not say"):
        totals("Total bytes sent: 1")
