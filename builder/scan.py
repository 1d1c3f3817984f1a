"""A directory → a tree: an lstat walk that reads only, follows no link and crosses no mount."""

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.globs import Matcher
from builder.hardlinks import with_links
from builder.names import listed
from builder.tree import Kind, Node, Stamp, Tree
from slots.errors import BuildError, ConfigError

_KINDS = {
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


@dataclass(frozen=True, slots=True)
class Scanned:
    """The tree of a directory, and what lies in it that the tree does not hold."""

    source: Path
    tree: Tree
    excluded: tuple[bytes, ...] = ()
    unreadable: tuple[bytes, ...] = ()
    sockets: tuple[bytes, ...] = ()
    mounts: tuple[bytes, ...] = ()  # what lies on them; the mount points are in the tree

    @property
    def is_whole(self) -> bool:
        """Whether the tree is all that lies in the directory."""
        return not (self.excluded or self.unreadable or self.sockets or self.mounts)


@dataclass(slots=True)
class _Found:
    """What a walk collects beside its nodes."""

    nodes: list[Node] = field(default_factory=list)
    excluded: list[bytes] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)
    sockets: list[bytes] = field(default_factory=list)
    mounts: list[bytes] = field(default_factory=list)
    inodes: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # of hard-linked names


def scan(source: Path, excluded: Matcher) -> Scanned:
    """Read a directory as a tree."""
    root = _root(source)
    found = _Found()
    found.nodes.append(_node(b"", os.fsencode(source), root))
    _walk(os.fsencode(source), root.st_dev, _mount_points(source), excluded, found)
    return Scanned(
        source,
        with_links(Tree.of(found.nodes), dict(found.inodes)),
        tuple(sorted(found.excluded)),
        tuple(sorted(found.unreadable)),
        tuple(sorted(found.sockets)),
        tuple(sorted(found.mounts)),
    )


def recheck(source: Path, tree: Tree) -> None:
    """Compare every entry with what the scan saw; a difference is named and fails the build."""
    changed = [node.path for node in tree if node.stamp is not None and _changed(source, node)]
    if changed:
        raise BuildError(
            f"changed while the image was built: {listed(changed)}",
            hint="build from a chroot that nothing writes to, or leave it out with --exclude",
        )


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells a file's content from another."""
    return Stamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _root(source: Path) -> os.stat_result:
    try:
        status = source.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"no such source: {source}", hint="name it with --source") from error
    except OSError as error:
        raise ConfigError(f"cannot read the source {source}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"the source {source} is not a directory")
    return status


def _walk(
    source: bytes, device: int, mounts: frozenset[bytes], excluded: Matcher, found: _Found
) -> None:
    """Visit every directory below `source`, without recursion: trees may be deep."""
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        for entry, status in _entries(source + folder, folder, found):
            path = folder + b"/" + entry
            if excluded(path):
                found.excluded.append(path)
                continue
            if stat.S_ISSOCK(status.st_mode):
                found.sockets.append(path)
                continue
            full = source + path
            if status.st_dev != device or path in mounts:
                found.mounts.append(path)
                found.nodes.append(_mount_point(path, full, status))
                continue
            _add(path, full, status, found)
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)


def _entries(full: bytes, path: bytes, found: _Found) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        with os.scandir(full or b"/") as entries:
            for entry in entries:
                yield entry.name, entry.stat(follow_symlinks=False)
    except PermissionError:
        found.unreadable.append(path)
    except FileNotFoundError as error:
        name = os.fsdecode(error.filename or full)
        raise BuildError(f"changed while it was scanned: {name} is gone") from error


def _add(path: bytes, full: bytes, status: os.stat_result, found: _Found) -> None:
    if stat.S_ISREG(status.st_mode) and not os.access(full, os.R_OK, effective_ids=_EFFECTIVE):
        found.unreadable.append(path)
        return
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
        found.inodes[path] = (status.st_dev, status.st_ino)
    found.nodes.append(_node(path, full, status))


_OCTAL = re.compile(rb"\\([0-7]{3})")
_EFFECTIVE = os.access in os.supports_effective_ids


def _node(path: bytes, full: bytes, status: os.stat_result) -> Node:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    is_file, is_device = kind is Kind.FILE, kind in {Kind.CHARACTER, Kind.BLOCK}
    return Node(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode) if kind is not Kind.SYMLINK else 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_s=status.st_mtime_ns // 1_000_000_000,
        size=status.st_size if is_file else 0,
        target=os.readlink(full) if kind is Kind.SYMLINK else b"",  # noqa: PTH115 - bytes
        major=os.major(status.st_rdev) if is_device else 0,
        minor=os.minor(status.st_rdev) if is_device else 0,
        content=Path(os.fsdecode(full)) if is_file else None,
        stamp=stamp_of(status),
    )


def _mount_point(path: bytes, full: bytes, status: os.stat_result) -> Node:
    """Return an empty stand-in for what is mounted here; its time is that of its parent."""
    parent = os.lstat(full.rpartition(b"/")[0])
    node = _node(path, full, status)
    empty = b"" if node.kind is Kind.FILE else None
    mtime_s = parent.st_mtime_ns // 1_000_000_000
    return replace(node, mtime_s=mtime_s, size=0, content=empty, stamp=None)


def _changed(source: Path, node: Node) -> bool:
    try:
        return stamp_of(os.lstat(os.fsencode(source) + node.path)) != node.stamp
    except OSError:
        return True


def _mount_points(source: Path) -> frozenset[bytes]:
    """Return what is mounted below a directory (Linux: binds of the same device too)."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    top = os.fsencode(source.resolve())
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
