"""A directory → a tree: an lstat walk that reads only, follows no link and crosses no mount."""

import os
from dataclasses import dataclass
from pathlib import Path

from builder.globs import Matcher
from builder.hardlinks import with_links
from builder.names import listed
from builder.stamps import Stamp, size_and_mtime_s, stamp_of
from builder.tree import TYPE_BITS, Kind, Node, Origin, Tree
from builder.walk import Seen, status_of, walk
from slots.errors import BuildError

_KINDS = {bits: kind for kind, bits in TYPE_BITS.items()}
_DIRECTORY, _FILE, _SYMLINK = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK
_TYPE, _RIGHTS = 0o170000, 0o7777
_SECOND_NS = 1_000_000_000
_ALL_READ = 0o444
_EFFECTIVE = os.access in os.supports_effective_ids


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


def scan(source: Path, excluded: Matcher) -> Scanned:
    """Read a directory as a tree."""
    return scanned(walk(source, excluded))


def scanned(seen: Seen) -> Scanned:
    """Make a tree of what was seen of a directory, which may be forgotten meanwhile."""
    top, unreadable = os.fsencode(seen.source), list(seen.unreadable)
    inodes: dict[bytes, object] = {}  # of hard-linked names
    node_of = _NodeMaker(seen)
    nodes = [node_of(b"", *status_of(seen.root))]
    for folder in seen.folders:
        prefix = folder.path + b"/"
        for name, status in folder.entries():
            node = node_of(prefix + name, *status)
            *_, links, stamp = status
            kind = node.kind
            if kind is _FILE and not _is_readable(node):
                unreadable.append(node.path)
                continue
            if links > 1 and kind is not _DIRECTORY:
                inodes[node.path] = Stamp.of(stamp).inode
            nodes.append(node)
    nodes += (
        _mount_point(node_of(path, *status_of(status)), top + path) for path, status in seen.mounts
    )
    return Scanned(
        seen.source,
        with_links(Tree.of(nodes), inodes),
        tuple(sorted(seen.excluded)),
        tuple(sorted(unreadable)),
        tuple(sorted(seen.sockets)),
        tuple(sorted(path for path, _ in seen.mounts)),
    )


def _is_readable(node: Node) -> bool:
    """Tell whether a file can be read; what all may read need not be asked for."""
    if node.mode & _ALL_READ == _ALL_READ or node.file is None:
        return True
    return os.access(node.file, os.R_OK, effective_ids=_EFFECTIVE)


def recheck(source: Path, tree: Tree) -> None:
    """Compare every entry with what the scan saw; a difference is named and fails the build."""
    top = os.fsencode(source)
    changed = [
        node.path
        for node in tree
        if node.stamp is not None and _changed(top + node.path, node.stamp)
    ]
    if changed:
        raise BuildError(
            f"changed while the image was built: {listed(changed)}",
            hint="build from a chroot that nothing writes to, or leave it out with --exclude",
        )


class _NodeMaker:
    """Makes nodes of what was seen; what many of them have in common is in memory once."""

    def __init__(self, seen: Seen) -> None:
        self._origin = Origin(os.fsencode(seen.source))
        self._devices = seen.devices
        self._numbers: dict[int, int] = {}

    def __call__(
        self, path: bytes, mode: int, uid: int, gid: int, _links: int, stamp: bytes
    ) -> Node:
        """Make a node."""
        size, mtime_s = size_and_mtime_s(stamp)
        kind, shared = _KINDS[mode & _TYPE], self._numbers.setdefault
        mtime_s = shared(mtime_s, mtime_s)
        if kind is _FILE:
            size = shared(size, size)
            return Node(
                path, kind, mode & _RIGHTS, uid, gid, mtime_s, size, b"", 0, 0, self._origin, stamp
            )
        if kind is _DIRECTORY:
            return Node(path, kind, mode & _RIGHTS, uid, gid, mtime_s, stamp=stamp)
        if kind is _SYMLINK:
            target = _target(self._origin.top + path)
            return Node(path, kind, 0o777, uid, gid, mtime_s, target=target, stamp=stamp)
        major, minor = self._devices.get(path, (0, 0))
        return Node(
            path, kind, mode & _RIGHTS, uid, gid, mtime_s, major=major, minor=minor, stamp=stamp
        )


def _target(full: bytes) -> bytes:
    try:
        return os.readlink(full)  # noqa: PTH115 - bytes
    except OSError as error:  # gone, or a symlink no more
        raise BuildError(f"changed while it was scanned: {os.fsdecode(full)}") from error


def _mount_point(node: Node, full: bytes) -> Node:
    """Return an empty stand-in for what is mounted here; its time is that of its parent."""
    parent = os.lstat(full.rpartition(b"/")[0])
    empty = b"" if node.kind is _FILE else None
    mtime_s = parent.st_mtime_ns // _SECOND_NS
    return node._replace(mtime_s=mtime_s, size=0, content=empty, stamp=None)


def _changed(full: bytes, stamp: bytes) -> bool:
    try:
        return stamp_of(os.lstat(full)) != stamp
    except OSError:
        return True
