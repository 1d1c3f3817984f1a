"""A directory → what lstat(2) says of all that lies in it: the first half of a scan.

It only reads, follows no link and crosses no mount. What is seen is kept packed, for a tree may
have millions of entries, and has a digest: the same digest, and nothing has changed since.
"""

import hashlib
import os
import re
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from builder.globs import Matcher
from builder.places import real
from builder.stamps import STAMP_BYTES, stamp_of
from slots.errors import BuildError, ConfigError

_HEAD = struct.Struct("<IIIQ")  # mode, owner, group, links
_ROW = struct.Struct(f"{_HEAD.format}{STAMP_BYTES}s")

_DEVICES = {stat.S_IFCHR, stat.S_IFBLK}
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Status(NamedTuple):
    """What lstat(2) said of an entry."""

    mode: int
    uid: int
    gid: int
    links: int
    stamp: bytes


class Folder(NamedTuple):
    """The entries of one directory, by the bytes of their names; their statuses are packed."""

    path: bytes
    names: list[bytes]
    statuses: bytes

    def entries(self) -> Iterator[tuple[bytes, tuple[int, int, int, int, bytes]]]:
        """Yield the name and the status of each entry, the latter as a plain tuple."""
        return zip(self.names, _ROW.iter_unpack(self.statuses), strict=True)


@dataclass(slots=True)
class Seen:
    """All that was seen of a source."""

    source: Path
    root: os.stat_result
    folders: list[Folder] = field(default_factory=list)
    devices: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # major, minor
    excluded: list[bytes] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)
    sockets: list[bytes] = field(default_factory=list)
    mounts: list[tuple[bytes, os.stat_result]] = field(default_factory=list)
    latest_ns: int = 0  # the last time that anything was written, or said to have been

    def __len__(self) -> int:
        return 1 + sum(len(folder.names) for folder in self.folders) + len(self.mounts)

    def digest(self) -> bytes:
        """Return a digest of it all: the same one, and nothing has changed."""
        digest = hashlib.sha256()

        def add(*parts: bytes) -> None:
            for part in parts:
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)

        add(os.fsencode(self.source), repr(self.root.st_dev).encode(), _packed(self.root))
        for folder in self.folders:
            add(folder.path, b"\0".join(folder.names), folder.statuses)
        add(repr(sorted(self.devices.items())).encode())
        for paths in (self.excluded, self.unreadable, self.sockets):
            add(repr(sorted(paths)).encode())
        mounts = [(path, at.st_mode, at.st_uid, at.st_gid) for path, at in self.mounts]
        add(repr(sorted(mounts)).encode())
        return digest.digest()


def walk(source: Path, excluded: Matcher) -> Seen:
    """Visit every directory of a source, without recursion: trees may be deep."""
    root = _root(source)
    source = real(source)  # a symlink to the chroot is the chroot, to every later look as well
    seen = Seen(source, root)
    top, mounts = os.fsencode(source), _mount_points(source)
    latest_ns = max(seen.root.st_mtime_ns, seen.root.st_ctime_ns)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        names: list[bytes] = []
        rows: list[bytes] = []
        for name, status in _listed(top + path, path, seen.unreadable):
            entry = path + b"/" + name
            kind = stat.S_IFMT(status.st_mode)
            if kind in _DEVICES:
                seen.devices[entry] = os.major(status.st_rdev), os.minor(status.st_rdev)
            if excluded(entry):
                seen.excluded.append(entry)
            elif kind == stat.S_IFSOCK:
                seen.sockets.append(entry)
            elif status.st_dev != seen.root.st_dev or entry in mounts:
                seen.mounts.append((entry, status))
            else:
                names.append(name)
                rows.append(_packed(status))
                latest_ns = max(latest_ns, status.st_mtime_ns, status.st_ctime_ns)
                if kind == stat.S_IFDIR:
                    waiting.append(entry)
        seen.folders.append(Folder(path, names, b"".join(rows)))
    seen.latest_ns = latest_ns
    return seen


def _packed(status: os.stat_result) -> bytes:
    mode, _, _, links, uid, gid, *_ = status
    return _HEAD.pack(mode, uid, gid, links) + stamp_of(status)


def status_of(status: os.stat_result) -> Status:
    """Return what is kept of a status."""
    return Status._make(_ROW.unpack(_packed(status)))


def _listed(
    full: bytes, path: bytes, unreadable: list[bytes]
) -> list[tuple[bytes, os.stat_result]]:
    """Return the entries of a directory, by the bytes of their names."""
    try:
        with os.scandir(full or b"/") as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except PermissionError:
        unreadable.append(path)
        return []
    except (FileNotFoundError, NotADirectoryError) as error:
        name = os.fsdecode(error.filename or full)
        raise BuildError(f"changed while it was scanned: {name} is gone") from error
    except OSError as error:
        name = os.fsdecode(error.filename or full)
        raise BuildError(f"cannot read {name}: {error.strerror}") from error
    found.sort()  # no two names are the same
    return found


def _root(source: Path) -> os.stat_result:
    try:
        status = source.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"no such source: {source}", hint="name it with --source") from error
    except OSError as error:
        raise ConfigError(f"cannot read the source {source}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(
            f"the source {source} is not a directory", hint="name the chroot's folder"
        )
    return status


def _mount_points(source: Path) -> frozenset[bytes]:
    """Return what is mounted below a resolved directory (Linux: binds of the same device too)."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    top = os.fsencode(source)
    prefix = b"" if top == b"/" else top
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    places: Iterable[bytes] = (
        _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in lines
    )
    return frozenset(
        place[len(prefix) :] for place in places if place.startswith(prefix + b"/") and place != top
    )
