"""A pack: the file in which a patch travels. See docs/formats/pack.md.

gzip (RFC 1952) of a head of text lines, the moves, and the literals in order. It holds no time and
no name: the same patch is the same file, which is known by its SHA-256.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slots.manifest import HEAD_BYTES
from slots.patch import Copy, Identity, Literal, Move, Patch

MAGIC = "flipslot pack 1"
SUFFIX = ".pack"
LEVEL = 5  # packs a table of offsets into a tenth less than 9 does; clusters do not pack at all
GZIP = 16 + zlib.MAX_WBITS
LINE_MAX_BYTES = 120
READ_BYTES = 1 << 18

ReadLine = Callable[[], bytes]
"""Returns the next line with its newline, empty at the end."""

Read = Callable[[int, int], bytes]
"""Returns the bytes of an image from an offset on, so many."""

_IMAGE = re.compile(r"(old|new)=([0-9a-f]{64}) ([0-9]{1,18})")
_COUNT = re.compile(r"(unit|moves)=([0-9]{1,9})")
_MOVE = re.compile(r"c ([0-9]{1,18}) ([0-9]{1,18})|l ([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class PackFacts:
    """What is to be known of a pack that is made: which file it is, and what it takes."""

    sha256: str
    size_bytes: int
    unit: int
    old: Identity
    new: Identity
    moves: int
    copied_bytes: int
    literal_bytes: int

    @classmethod
    def of(cls, patch: Patch, sha256: str, size_bytes: int) -> "PackFacts":
        """Return the facts of the file that this patch became."""
        return cls(
            sha256,
            size_bytes,
            patch.unit,
            patch.old,
            patch.new,
            len(patch.moves),
            patch.copied_bytes,
            patch.literal_bytes,
        )


def packed(patch: Patch, read: Read) -> Iterator[bytes]:
    """Yield the file; the literals are read out of the new image. ValueError: it is too short."""
    gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    for text in head_lines(patch):
        yield gzip.compress(text.encode())
    for literal in patch.literals:
        end = literal.new_offset + literal.length
        for offset in range(literal.new_offset, end, READ_BYTES):
            data = read(offset, min(READ_BYTES, end - offset))
            if len(data) != min(READ_BYTES, end - offset):
                raise ValueError(f"the new image has no {end} bytes")
            yield gzip.compress(data)
    yield gzip.flush()


def packed_head(head: bytes) -> bytes:
    """Return the head of an image as it travels: it is in no pack."""
    gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return gzip.compress(head) + gzip.flush()


def head_lines(patch: Patch) -> Iterator[str]:
    """Yield the head and the moves, a line at a time."""
    yield f"{MAGIC}\n"
    yield f"unit={patch.unit}\n"
    yield f"old={patch.old.sha256} {patch.old.size_bytes}\n"
    yield f"new={patch.new.sha256} {patch.new.size_bytes}\n"
    yield f"moves={len(patch.moves)}\n"
    for move in patch.moves:
        match move:
            case Copy(old_offset, length):
                yield f"c {old_offset // patch.unit} {length // patch.unit}\n"
            case Literal(_, length):
                yield f"l {length // patch.unit}\n"


def parse_head(read_line: ReadLine) -> Patch:
    """Read the head and the moves; raises ValueError that says what is wrong.

    Every copy lies inside the old image, and the moves end where the new image does.
    """
    lines = _lines(read_line)
    if next(lines) != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC}")
    unit = _count("unit", next(lines))
    if unit not in {1, 512}:
        raise ValueError(f"a unit of {unit} bytes is not known")
    old, new = _identity("old", next(lines)), _identity("new", next(lines))
    count = _count("moves", next(lines))
    moves: list[Move] = []
    end = HEAD_BYTES
    for _ in range(count):
        move = _move(next(lines), unit, end)
        if isinstance(move, Copy) and move.old_offset + move.length > old.size_bytes:
            raise ValueError("a move copies from behind the old image's end")
        end += move.length
        moves.append(move)
    if end != max(new.size_bytes, HEAD_BYTES):
        raise ValueError(f"its moves end at {end} bytes of {new.size_bytes}")
    return Patch(unit, old, new, tuple(moves))


def _lines(read_line: ReadLine) -> Iterator[str]:
    while True:
        line = read_line()
        if not line.endswith(b"\n") or len(line) > LINE_MAX_BYTES:
            raise ValueError("its head is cut off")
        yield line[:-1].decode("ascii", "replace")


def _identity(name: str, line: str) -> Identity:
    found = _IMAGE.fullmatch(line)
    if found is None or found[1] != name:
        raise ValueError(f"{line!r} is not {name}=SHA256 SIZE")
    return Identity(found[2], int(found[3]))


def _count(name: str, line: str) -> int:
    found = _COUNT.fullmatch(line)
    if found is None or found[1] != name:
        raise ValueError(f"{line!r} is not {name}=NUMBER")
    return int(found[2])


def _move(line: str, unit: int, end: int) -> Move:
    found = _MOVE.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} is no move")
    length = int(found[2] or found[3]) * unit
    if not length:
        raise ValueError(f"{line!r} moves nothing")
    return Literal(end, length) if found[1] is None else Copy(int(found[1]) * unit, length)
