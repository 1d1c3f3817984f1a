"""Indexes as text: they come back as they were, and what is wrong is told with its line."""

import json

import pytest

from slots.index import SCHEMA, Index, Piece, from_lines, to_lines

DIGEST = "0123456789abcdef" * 2
HEAD = json.dumps({"schema": SCHEMA, "sha256": "ab", "size_bytes": 7})


def test_an_index_comes_back_as_it_was() -> None:
    index = Index("ab", 7, (Piece(0, 3, DIGEST), Piece(3, 4, DIGEST[::-1])))
    assert from_lines(to_lines(index)) == index


def test_an_image_of_no_bytes_has_no_pieces() -> None:
    index = Index("ab", 0, ())
    assert from_lines(to_lines(index)) == index


@pytest.mark.parametrize(
    "wrong",
    ["5", "null", "{}", "[]", "[7]", f'["{DIGEST}", 7]', f'[0, "{DIGEST}"]', '[7, "short"]',
     f'[7.0, "{DIGEST}"]', f'[7, "{DIGEST}", 1]', "[7, null]"],
)  # fmt: skip
def test_a_line_that_is_no_piece_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match="line 3 is not"):
        from_lines([HEAD, f'[3, "{DIGEST}"]', wrong])


@pytest.mark.parametrize(
    "lines",
    [[], [""], ["{}"], ["[1]"], [HEAD.replace("/1", "/2")], [HEAD], [HEAD, "[7,"], [HEAD, ""],
     [HEAD, f'[3, "{DIGEST}"]'], [HEAD, "[3", f'"{DIGEST}"], [4, "{DIGEST}"]', "[]"]],
)  # fmt: skip
def test_what_is_no_whole_index_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"line|pieces|Expecting|delimiter"):
        from_lines(lines)
