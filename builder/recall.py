"""Where the clusters of earlier artefacts lie: a packed table for each, in SQLite.

A table is one blob, a row for each cluster in the order of the artefact: it is written and read at
once, and what lies together is read together. The newest artefact answers nearly every question;
older ones are looked into for what it does not hold.
"""

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from builder.clusters import KEY_BYTES, Recalled, Stored
from slots.index import DIGEST_BYTES, piece_digest

_ROW = struct.Struct(f"<{KEY_BYTES}sQII{DIGEST_BYTES}s")

MAX_CLUSTERS = 1_000_000
"""About 50 bytes each."""

SCHEMA = """
create table if not exists artefacts (
    number integer primary key, path blob unique not null, how text not null,
    clusters integer not null, places blob not null
);
"""
_NOTHING = Recalled(b"", 0, "")


@dataclass(frozen=True, slots=True)
class _Artefact:
    """An earlier artefact: its table, and where in that the row of a key is."""

    descriptor: int
    table: bytes
    rows: dict[bytes, int]


class _Place(NamedTuple):
    """Where a cluster may lie: for which of the keys asked for, in which file."""

    asked: int
    descriptor: int
    offset: int
    length: int
    stream_bytes: int
    digest: str


def keep(
    connection: sqlite3.Connection, artefact: Path, how: str, stored: Sequence[Stored]
) -> None:
    """Remember where the clusters of a finished artefact lie; forget the oldest of too many."""
    path = os.fsencode(artefact.resolve())
    table = b"".join(
        _ROW.pack(key, offset, length, stream_bytes, bytes.fromhex(digest))
        for key, offset, length, stream_bytes, digest in stored
    )
    connection.execute("begin immediate")
    connection.execute("delete from artefacts where path = ?", (path,))
    connection.execute(
        "insert into artefacts (path, how, clusters, places) values (?,?,?,?)",
        (path, how, len(stored), table),
    )
    _prune(connection)
    connection.execute("commit")


def _prune(connection: sqlite3.Connection) -> None:
    """Forget artefacts that are gone, and the oldest of too many; the newest stays."""
    query = "select number, path, clusters from artefacts order by number desc"
    (_, _, total), *others = connection.execute(query).fetchall()
    for number, path, clusters in others:
        if os.path.exists(path) and total + clusters <= MAX_CLUSTERS:  # noqa: PTH110 - bytes
            total += clusters
        else:
            connection.execute("delete from artefacts where number = ?", (number,))


def tables(connection: sqlite3.Connection, how: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and table of each artefact that was compressed in this way, the newest first."""
    query = "select number from artefacts where how = ? order by number desc"
    for (number,) in connection.execute(query, (how,)).fetchall():
        query = "select path, places from artefacts where number = ?"
        yield from connection.execute(query, (number,)).fetchall()


class Recaller:
    """Reads what earlier artefacts hold; an artefact that was removed or changed holds nothing."""

    def __init__(self, tables: Iterator[tuple[bytes, bytes]], closing: ExitStack) -> None:
        """Take path and table of each artefact, the newest first; no more are taken than needed.

        The artefacts stay open until `closing` is closed.
        """
        self._tables = tables
        self._closing = closing
        self._opened: list[_Artefact] = []

    def __call__(self, keys: Sequence[bytes]) -> Sequence[Recalled | None]:
        """Return what is stored of some clusters, held against its digest."""
        found: list[Recalled | None] = [None] * len(keys)
        run: list[_Place] = []
        for place in self._places(keys):
            if place.length == 0:
                found[place.asked] = _NOTHING
                continue
            if run and not _follows(run[-1], place):
                _read(run, found)
                run = []
            run.append(place)
        if run:
            _read(run, found)
        return found

    def _places(self, keys: Sequence[bytes]) -> Iterator[_Place]:
        for asked, key in enumerate(keys):
            if key and (found := self._find(key)):
                artefact, at = found
                _, offset, length, stream_bytes, digest = _ROW.unpack_from(artefact.table, at)
                where = (artefact.descriptor, offset, length)
                yield _Place(asked, *where, stream_bytes, digest.hex())

    def _find(self, key: bytes) -> tuple[_Artefact, int] | None:
        """Return the newest artefact that holds a key, and where in its table the row is."""
        for artefacts in (self._opened, self._others()):
            for artefact in artefacts:
                at = artefact.rows.get(key)
                if at is not None:
                    return artefact, at
        return None

    def _others(self) -> Iterator[_Artefact]:
        """Open one artefact more at a time."""
        for path, table in self._tables:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            self._closing.callback(os.close, descriptor)
            starts = range(0, len(table), _ROW.size)
            rows = {table[start : start + KEY_BYTES]: start for start in starts}
            self._opened.append(_Artefact(descriptor, table, rows))
            yield self._opened[-1]


def _follows(before: _Place, place: _Place) -> bool:
    return (place.descriptor, place.offset) == (before.descriptor, before.offset + before.length)


def _read(run: Sequence[_Place], found: list[Recalled | None]) -> None:
    """Read what lies together in one go; note what still is what it was."""
    start, last = run[0].offset, run[-1]
    try:
        data = memoryview(os.pread(last.descriptor, last.offset + last.length - start, start))
    except OSError:
        return
    for place in run:
        at = place.offset - start
        piece = data[at : at + place.length]
        if len(piece) == place.length and piece_digest(piece) == place.digest:
            found[place.asked] = Recalled(piece, place.stream_bytes, place.digest)
