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
from typing import Any

SCHEMA = "flipslot.index/1"
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Piece:
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
    pieces, offset = [], 0
    for number, row in enumerate(_rows(rest), start=2):
        try:
            length, digest = row
            usual = type(length) is int and type(digest) is str
        except (TypeError, ValueError):
            usual = False
        if not usual or length <= 0 or len(digest) != 2 * DIGEST_BYTES:
            raise ValueError(f"line {number} is not [length, digest]")
        pieces.append(Piece(offset, length, digest))
        offset += length
    if offset != head.get("size_bytes"):
        raise ValueError(f"pieces cover {offset} bytes of {head.get('size_bytes')}")
    return Index(str(head.get("sha256")), offset, tuple(pieces))


def _rows(lines: Sequence[str]) -> Iterable[Any]:
    """Parse all lines at once, which is quick; one by one if they are not a row each."""
    try:
        rows = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        rows = []
    return rows if len(rows) == len(lines) else map(json.loads, lines)
