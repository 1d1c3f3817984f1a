"""What earlier builds knew, in SQLite: the digests of files, and where compressed clusters lie.

A file is known by device, inode, size, mtime and ctime. A cluster is known by what it is made of
and how it was compressed; the cache holds no compressed bytes but their place in an artefact of an
earlier build, and the digest that they must have. An artefact that was removed or changed is a
miss. Nothing here is ever needed: whatever goes wrong with the cache, the build goes on without
(docs/adr/0007-what-a-build-knew.md).
"""

import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from builder import recall
from builder.clusters import Recall, Stored, nothing_known
from builder.stamps import Stamp, place_of
from slots.events import Emit, Notice

FILE = "known-3.sqlite"
FORMER = "known-[12].sqlite*"
RACY_NS = 2_000_000_000
"""A file that was written so shortly before the scan could be written again unseen: a clock of a
file system ticks in up to two seconds."""

MAX_FILES = 2_000_000
"""About 100 bytes each."""

KEPT_DAYS = 90
TOUCHED_DAYS = 7
"""The day of last use is written again after so many."""

BUSY_S = 10.0
_DAY_S = 86_400
_ASKED_AT_ONCE = 10_000

_SCHEMA = """
create table if not exists files (
    device integer, inode integer, stamp blob not null,
    sha256 blob not null, day integer not null, primary key (device, inode)
) without rowid;
create table if not exists releases (
    inputs blob primary key, manifest_sha256 text, version text, told text, day integer
) without rowid;
"""
_FILES = """
select stamp, sha256, day from files
where device = ? and inode in (select value from json_each(?))
"""


class Remembered(NamedTuple):
    """A release that was made: its description's digest, its version, what was told on the way."""

    manifest_sha256: str
    version: str
    told: tuple[str, ...]


@dataclass(slots=True)
class Cache:
    """What earlier builds knew. Without a connection it knows nothing."""

    emit: Emit
    connection: sqlite3.Connection | None = None
    reads_all: bool = False  # trust no stamp
    since_ns: int = field(default_factory=time.time_ns)  # before the scan
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def is_on(self) -> bool:
        """Whether anything is known and kept."""
        return self.connection is not None

    def digests(self, stamps: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the digests of the files that are as they were, by their packed stamps."""
        if self.connection is None or self.reads_all:
            return {}
        with self._guarded(self.connection):
            return _known_files(self.connection, stamps)
        return {}

    def keep_digests(self, read: Mapping[bytes, bytes]) -> None:
        """Remember the digests of files that were read."""
        if self.connection is None or not read:
            return
        day = _today()
        with self._guarded(self.connection) as connection:
            connection.execute("begin immediate")
            rows = self._rows(read, day)
            connection.executemany("insert or replace into files values (?,?,?,?,?)", rows)
            _prune_files(connection, day)
            connection.execute("commit")

    def _rows(self, read: Mapping[bytes, bytes], day: int) -> Iterator[tuple[int | bytes, ...]]:
        """Yield what is remembered of files, in the order of the table."""
        for packed in sorted(read):
            stamp = Stamp.of(packed)
            if self.is_settled(max(stamp.mtime_ns, stamp.ctime_ns)):
                yield *place_of(packed), packed, read[packed], day

    def is_settled(self, latest_ns: int) -> bool:
        """Tell whether what was last written then cannot be written again unseen."""
        return latest_ns < self.since_ns - RACY_NS

    def release(self, inputs: bytes) -> Remembered | None:
        """Return what was made of the same."""
        if self.connection is None or self.reads_all:
            return None
        with self._guarded(self.connection) as connection:
            touch = "update releases set day = ?1 where inputs = ?2 and day <> ?1"
            connection.execute(touch, (_today(), inputs))
            query = "select manifest_sha256, version, told from releases where inputs = ?"
            for sha256, version, told in connection.execute(query, (inputs,)):
                return Remembered(sha256, version, tuple(json.loads(told)))
        return None

    def keep_release(self, inputs: bytes, made: Remembered) -> None:
        """Remember what was made of what."""
        if self.connection is None:
            return
        day = _today()
        row = (inputs, made.manifest_sha256, made.version, json.dumps(made.told), day)
        with self._guarded(self.connection) as connection:
            connection.execute("insert or replace into releases values (?,?,?,?,?)", row)
            connection.execute("delete from releases where day < ?", (day - KEPT_DAYS,))

    def clusters(self, how: str) -> Recall:
        """Return what finds clusters that were compressed in this way."""
        if self.connection is None:
            return nothing_known
        return recall.Recaller(self._tables(how), self.closing)

    def keep_clusters(self, artefact: Path, how: str, stored: Sequence[Stored]) -> None:
        """Remember where the clusters of a finished artefact lie."""
        if self.connection is None or not stored:
            return
        with self._guarded(self.connection) as connection:
            recall.keep(connection, artefact, how, stored)

    def _tables(self, how: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield path and table of the artefacts that were compressed in this way."""
        if self.connection is not None:
            with self._guarded(self.connection) as connection:
                yield from recall.tables(connection, how)

    @contextmanager
    def _guarded(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """Let no fault of the cache stop a build."""
        try:
            yield connection
        except (sqlite3.Error, OSError) as error:
            self.emit(Notice(f"building without the cache: {_why(error)}"))
            with suppress(sqlite3.Error):
                connection.rollback()
            self.connection = None


@contextmanager
def opened(folder: Path | None, emit: Emit, *, reads_all: bool = False) -> Iterator[Cache]:
    """Open the cache in a folder; None: a cache that knows nothing and keeps nothing."""
    cache = Cache(emit, reads_all=reads_all)
    try:
        if folder is not None:
            cache.connection = _connected(folder, emit)
            if cache.connection is not None:
                cache.closing.callback(cache.connection.close)
        with cache.closing:
            yield cache
    finally:
        cache.connection = None


def _connected(folder: Path, emit: Emit) -> sqlite3.Connection | None:
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder)
        for former in folder.glob(FORMER):
            former.unlink(missing_ok=True)
        try:
            return _connection(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for one in ("", "-wal", "-shm"):  # damaged: nothing in it is needed
                path.with_name(path.name + one).unlink(missing_ok=True)
            return _connection(path)
    except (sqlite3.Error, OSError) as error:
        emit(Notice(f"building without the cache in {folder}: {_why(error)}"))
        return None


def _check_owner(folder: Path) -> None:
    """Trust nobody else's word on what a file holds."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise OSError("others may write to it")


def _connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.executescript(_SCHEMA + recall.SCHEMA)
        connection.execute("select count(*) from artefacts").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _known_files(connection: sqlite3.Connection, stamps: Iterable[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    old: list[tuple[int, int, int]] = []
    today = _today()
    ordered = sorted(stamps)  # as the table is: each page is looked at once
    for at in range(0, len(ordered), _ASKED_AT_ONCE):
        asked = ordered[at : at + _ASKED_AT_ONCE]
        wanted = set(asked)
        for device, places in groupby(map(place_of, asked), itemgetter(0)):
            inodes = json.dumps([inode for _, inode in places])
            for stamp, sha256, day in connection.execute(_FILES, (device, inodes)):
                if stamp in wanted:
                    found[stamp] = sha256
                    if day < today - TOUCHED_DAYS:
                        old.append((today, *place_of(stamp)))
    if old:
        connection.execute("begin immediate")
        connection.executemany("update files set day = ? where device = ? and inode = ?", old)
        connection.execute("commit")
    return found


def _prune_files(connection: sqlite3.Connection, day: int) -> None:
    """Forget what was not used for long, and the oldest of too many."""
    connection.execute("delete from files where day < ?", (day - KEPT_DAYS,))
    (count,) = connection.execute("select count(*) from files").fetchone()
    if count > MAX_FILES:
        connection.execute(
            "delete from files where day <= (select day from files order by day limit 1 offset ?)",
            (count - MAX_FILES // 2,),
        )


def _today() -> int:
    return int(time.time()) // _DAY_S


def _why(error: sqlite3.Error | OSError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
