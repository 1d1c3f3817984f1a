"""The difference of two images: the moves by which a host that holds the old one makes the new.

A move copies a run out of the old image, or takes the next bytes of the literals that travel. The
moves give the new image in order, from the end of its head to its own end. A copy run that is so
short that sending it costs less than one more process on the host is sent. Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from slots.index import Index, Piece
from slots.manifest import HEAD_BYTES

SECTOR_BYTES = 512
"""The unit of moves between images whose pieces fill whole sectors; any dd can replay those."""

WORTH_BYTES = 4096
"""A copy run is sent if it is not longer than this for every move that sending it saves.

At 100 Mbit/s a process (about 1.5 ms) costs as much as 19 kB, but a pack is made once for hosts
behind lines of any speed: it is the bytes that are saved (docs/adr/0009).
"""

CANDIDATES = 8
"""Places of one piece that are looked at: images are full of equal ones."""


@dataclass(frozen=True, slots=True)
class Copy:
    """So many bytes of the old image, from there on."""

    old_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Literal:
    """So many bytes that travel; they are those of the new image from there on."""

    new_offset: int
    length: int


Move = Copy | Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """Which image: the digest of all its bytes, and how many they are."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Patch:
    """The moves from one image to another; all places and lengths are multiples of `unit`."""

    unit: int
    old: Identity
    new: Identity
    moves: tuple[Move, ...]

    @property
    def copies(self) -> tuple[Copy, ...]:
        """The runs that are copied on the host."""
        return tuple(one for one in self.moves if isinstance(one, Copy))

    @property
    def literals(self) -> tuple[Literal, ...]:
        """The runs that travel."""
        return tuple(one for one in self.moves if isinstance(one, Literal))

    @property
    def literal_bytes(self) -> int:
        """How many bytes travel, before they are packed."""
        return sum(one.length for one in self.literals)

    @property
    def copied_bytes(self) -> int:
        """How many bytes the host reads out of the old image."""
        return sum(one.length for one in self.copies)


def unit_of(old_format: str, new_format: str) -> int:
    """Return the unit of a patch between two formats: the clusters of a uzip fill sectors."""
    return SECTOR_BYTES if old_format == new_format == "uzip" else 1


def patch(old: Index, new: Index, unit: int, *, worth_bytes: int = WORTH_BYTES) -> Patch:
    """Return how to make the new image of the old one.

    The indexes are believed: a wrong one gives other bytes than the new image's, or more literals
    than needed, but always moves that fit.
    """
    if new.size_bytes % unit:
        raise ValueError(
            f"an image of {new.size_bytes} bytes does not consist of {unit}-byte units"
        )
    runs = _in_units(_runs(old, new), unit)
    moves = _worth_copying(list(runs), worth_bytes)
    return Patch(
        unit,
        Identity(old.sha256, old.size_bytes),
        Identity(new.sha256, new.size_bytes),
        tuple(_move(run) for run in _joined(moves)),
    )


class _Run(NamedTuple):
    """A run of the new image; `shift` leads to the same bytes in the old one, None: nowhere."""

    start: int
    end: int
    shift: int | None


def _move(run: _Run) -> Move:
    length = run.end - run.start
    if run.shift is None:
        return Literal(run.start, length)
    return Copy(run.start + run.shift, length)


def _runs(old: Index, new: Index) -> Iterator[_Run]:
    """Yield the runs behind the head; no two that go on with each other.

    A piece that the old image has at several places goes on with the run before where it can; a
    new run starts where the piece behind it follows too.
    """
    at = {piece.offset: piece for piece in old.pieces}
    places: defaultdict[str, list[Piece]] = defaultdict(list)
    for piece in old.pieces:
        places[piece.digest].append(piece)
    start, shift = HEAD_BYTES, None
    for piece, behind in zip_longest(new.pieces, new.pieces[1:]):
        if shift is not None and _same(at.get(piece.offset + shift), piece):
            continue
        place = _place(places.get(piece.digest, ()), piece, behind, at)
        next_shift = None if place is None else place.offset - piece.offset
        if next_shift != shift and piece.offset > start:
            yield _Run(start, piece.offset, shift)
            start = piece.offset
        shift = next_shift
    if new.size_bytes > start:
        yield _Run(start, new.size_bytes, shift)


def _same(one: Piece | None, other: Piece | None) -> bool:
    if one is None or other is None:
        return False
    return one.digest == other.digest and one.length == other.length


def _place(
    found: Sequence[Piece], piece: Piece, behind: Piece | None, at: dict[int, Piece]
) -> Piece | None:
    """Choose where a run starts."""
    candidates = [one for one in found[:CANDIDATES] if one.length == piece.length]
    for one in candidates:
        if _same(at.get(one.offset + one.length), behind):
            return one
    return candidates[0] if candidates else None


def _joined(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Make one run of those that go on with each other."""
    last: _Run | None = None
    for run in runs:
        if last is not None and last.shift == run.shift:
            last = _Run(last.start, run.end, run.shift)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def _in_units(runs: Iterable[_Run], unit: int) -> Iterator[_Run]:
    """Leave of each copy run the whole units that lie at whole units of the old image too."""
    for start, end, shift in runs:
        first, behind = -(-start // unit) * unit, end // unit * unit
        if shift is None or shift % unit or first >= behind:
            yield _Run(start, end, None)
            continue
        if start < first:
            yield _Run(start, first, None)
        yield _Run(first, behind, shift)
        if behind < end:
            yield _Run(behind, end, None)


def _worth_copying(runs: list[_Run], worth_bytes: int) -> Iterator[_Run]:
    """Turn a copy run into a literal where its neighbours are literals, and it is short."""
    is_behind_literal = False
    following = (*runs[1:], None)
    for run, behind in zip(runs, following, strict=bool(runs)):
        saved_moves = is_behind_literal + (behind is not None and behind.shift is None)
        if run.end - run.start <= worth_bytes * saved_moves:
            run = _Run(run.start, run.end, None)  # noqa: PLW2901 - the same run, sent
        is_behind_literal = run.shift is None
        yield run
