"""The index of an image: its pieces, the unit of "what changed".

An index covers the whole image: its pieces follow one another from byte 0 to the end. For uzip a
piece is the table of contents or one stored cluster; for other formats it is a content-defined
run of about 4 KiB.

The text form is JSON lines: a header object, then one `[length, "digest"]` per piece, so that it
streams and compresses well. Offsets follow from the lengths.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

SCHEMA = "flipslot.index/1"
DIGEST_BYTES = 16


class Piece(NamedTuple):  # not a dataclass: an index has hundreds of thousands, and these are quick
    """A run of an image: where it lies (bytes), and the first 16 bytes of its SHA-256, in hex."""

    offset: int
    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Index:
    """The pieces of one image, in order, without gaps."""

    sha256: str
    size_bytes: int
    pieces: tuple[Piece, ...]


def piece_digest(data: bytes | memoryview) -> str:
    """Return the digest by which a piece is known."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES].hex()


def to_lines(index: Index) -> Iterator[str]:
    """Serialise, a line at a time."""
    head = {"schema": SCHEMA, "sha256": index.sha256, "size_bytes": index.size_bytes}
    yield json.dumps(head) + "\n"
    for piece in index.pieces:
        yield f'[{piece.length},"{piece.digest}"]\n'


def from_lines(lines: Iterable[str]) -> Index:
    """Parse; raises ValueError that says what is wrong and in which line."""
    first, *rest = list(lines) or [""]
    head = json.loads(first or "null")
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise ValueError(f"line 1 is not the head of a {SCHEMA}")
    rows = _rows(rest)
    if not all(map(_is_usual, rows)):
        number = next(at for at, row in enumerate(rows, start=2) if not _is_usual(row))
        raise ValueError(f"line {number} is not [length, digest]")
    *offsets, end = accumulate((length for length, _ in rows), initial=0)
    if end != head.get("size_bytes"):
        raise ValueError(f"pieces cover {end} bytes of {head.get('size_bytes')}")
    pieces = (Piece(offset, *row) for offset, row in zip(offsets, rows, strict=True))
    return Index(str(head.get("sha256")), end, tuple(pieces))


def _is_usual(row: Any) -> bool:
    return (
        type(row) is list
        and len(row) == 2
        and type(row[0]) is int
        and type(row[1]) is str
        and row[0] > 0
        and len(row[1]) == 2 * DIGEST_BYTES
    )


def _rows(lines: Sequence[str]) -> list[Any]:
    """Parse all lines at once, which is quick; one by one if they are not a row each."""
    try:
        rows = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        rows = []
    return rows if len(rows) == len(lines) else [json.loads(line) for line in lines]
