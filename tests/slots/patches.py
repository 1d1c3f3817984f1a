"""Pairs of images with their indexes, and the replay of a patch as its words say it."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

from hypothesis import strategies as st

from slots.index import Index, Piece, piece_digest
from slots.manifest import HEAD_BYTES
from slots.pack import Read
from slots.patch import Copy, Literal, Patch


def index_of(chunks: Sequence[bytes]) -> Index:
    """Index an image that is given in its pieces."""
    pieces, offset = [], 0
    for chunk in chunks:
        pieces.append(Piece(offset, len(chunk), piece_digest(chunk)))
        offset += len(chunk)
    return Index(hashlib.sha256(b"".join(chunks)).hexdigest(), offset, tuple(pieces))


@cache
def noise(seed: int, length: int) -> bytes:
    """Return bytes that are like no others."""
    return hashlib.shake_256(seed.to_bytes(8)).digest(length)


@st.composite
def chunk_pools(draw: st.DrawFn, unit: int) -> list[bytes]:
    """Give the pieces of which both images of a pair are made; some fill no whole units."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    ragged = draw(st.lists(st.sampled_from([0, 0, 1, 7, 511]), min_size=8, max_size=8))
    return [
        noise(number, length * unit + odd)
        for number, (length, odd) in enumerate(zip(lengths, ragged, strict=False))
    ]


@st.composite
def images(draw: st.DrawFn, pool: list[bytes], unit: int) -> list[bytes]:
    """Give an image of pieces of a pool: a head that may end anywhere, filled up at the end."""
    head = noise(draw(st.integers(100, 102)), HEAD_BYTES + draw(st.sampled_from([0, -700, 900])))
    chunks = [head, *draw(st.lists(st.sampled_from(pool), max_size=30))]
    size = sum(map(len, chunks))
    filling = max(HEAD_BYTES - size, 0) or -size % unit
    return [*chunks, bytes(filling)] if filling else chunks


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, list[bytes], list[bytes]]:
    """Give a unit and two images."""
    unit = draw(st.sampled_from([1, 512]))
    pool = draw(chunk_pools(max(unit, 5)))
    old = draw(st.one_of(st.just(list[bytes]()), images(pool, unit)))
    return unit, old, draw(images(pool, unit))


def replayed(patch: Patch, old: bytes, literals: Iterator[bytes]) -> bytes:
    """Return what the moves give behind the head; literals come run by run."""
    out = b""
    for move in patch.moves:
        match move:
            case Copy(offset, length):
                assert offset >= 0
                assert offset + length <= len(old)
                out += old[offset : offset + length]
            case Literal():
                out += next(literals)
    return out


def reader(data: bytes) -> Read:
    """Return what reads these bytes."""
    return lambda offset, length: data[offset : offset + length]


def literals_of(patch: Patch, new: bytes) -> Iterator[bytes]:
    """Yield what travels."""
    for literal in patch.literals:
        yield new[literal.new_offset : literal.new_offset + literal.length]
