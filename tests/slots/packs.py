"""Packs for the verbs, made here move by move: no code of the product has a hand in them."""

import gzip
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from slots.manifest import HEAD_BYTES
from tests.slots.images import Image


class Copy(NamedTuple):
    """A run of units of the old image."""

    first: int
    units: int


class Pack(NamedTuple):
    """A pack and the digest that names it."""

    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size_bytes(self) -> int:
        return len(self.data)


Move = Copy | bytes


def pack(old: Image, new: Image, unit: int, moves: Iterable[Move]) -> Pack:
    """Write a pack of these moves; bytes are literals, of whole units."""
    lines, literals, count = [], [], 0
    for move in moves:
        count += 1
        if isinstance(move, Copy):
            lines.append(f"c {move.first} {move.units}\n")
        else:
            lines.append(f"l {len(move) // unit}\n")
            literals.append(move)
    return raw(head(old, new, unit, count) + "".join(lines), b"".join(literals))


def head(old: Image, new: Image, unit: int, count: int) -> str:
    return (
        f"flipslot pack 1\nunit={unit}\n"
        f"old={old.artefact.sha256} {old.artefact.size_bytes}\n"
        f"new={new.artefact.sha256} {new.artefact.size_bytes}\n"
        f"moves={count}\n"
    )


def raw(table: str, literals: bytes) -> Pack:
    return Pack(gzip.compress(table.encode() + literals, mtime=0))


def moves_of(old: bytes, new: bytes, unit: int, piece_bytes: int = 4096) -> list[Move]:
    """Return moves that make `new` behind its head: by pieces of a fixed size, merged."""
    places = {
        old[at : at + piece_bytes]: at for at in range(0, len(old) - piece_bytes + 1, piece_bytes)
    }
    moves: list[Move] = []
    for at in range(HEAD_BYTES, len(new), piece_bytes):
        piece = new[at : at + piece_bytes]
        found, last = places.get(piece), moves[-1] if moves else None
        if found is None:
            if isinstance(last, bytes):
                moves[-1] = last + piece
            else:
                moves.append(piece)
        elif isinstance(last, Copy) and (last.first + last.units) * unit == found:
            moves[-1] = Copy(last.first, last.units + len(piece) // unit)
        else:
            moves.append(Copy(found // unit, len(piece) // unit))
    return moves
