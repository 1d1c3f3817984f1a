"""A directory → a tree: an lstat walk that reads only, follows no link and crosses no mount."""

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from builder.globs import Matcher
from builder.hardlinks import with_links
from builder.names import listed
from builder.tree import TYPE_BITS, Kind, Node, Stamp, Tree
from builder.walk import Seen, Status, status_of, walk
from slots.errors import BuildError

_KINDS = {bits: kind for kind, bits in TYPE_BITS.items()}
_DIRECTORY, _FILE, _SYMLINK = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK
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
    top = os.fsencode(seen.source)
    nodes = [_node(b"", top, status_of(seen.root), seen)]
    unreadable = list(seen.unreadable)
    inodes: dict[bytes, object] = {}  # of hard-linked names
    for folder in seen.folders:
        for path, status in folder.entries():
            full = top + path
            node = _node(path, full, status, seen)
            if node.kind is _FILE and not _is_readable(full, node.mode):
                unreadable.append(path)
                continue
            if status.links > 1 and node.kind is not _DIRECTORY:
                inodes[path] = status.inode
            nodes.append(node)
    nodes += (_mount_point(path, top + path, status, seen) for path, status in seen.mounts)
    return Scanned(
        seen.source,
        with_links(Tree.of(nodes), inodes),
        tuple(sorted(seen.excluded)),
        tuple(sorted(unreadable)),
        tuple(sorted(seen.sockets)),
        tuple(sorted(path for path, _ in seen.mounts)),
    )


def _is_readable(full: bytes, mode: int) -> bool:
    """Tell whether a file can be read; what all may read need not be asked for."""
    return mode & _ALL_READ == _ALL_READ or os.access(full, os.R_OK, effective_ids=_EFFECTIVE)


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


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells a file's content from another."""
    return Stamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _node(path: bytes, full: bytes, status: Status, seen: Seen) -> Node:
    kind = _KINDS[stat.S_IFMT(status.mode)]
    stamp = Stamp(
        seen.root.st_dev,
        status.inode,
        status.size,
        status.mtime_s * _SECOND_NS + status.mtime_rest_ns,
        status.ctime_s * _SECOND_NS + status.ctime_rest_ns,
    )
    major, minor = seen.devices.get(path, (0, 0))
    return Node(
        path,
        kind,
        0o777 if kind is _SYMLINK else stat.S_IMODE(status.mode),
        status.uid,
        status.gid,
        status.mtime_s,
        status.size if kind is _FILE else 0,
        _target(full) if kind is _SYMLINK else b"",
        major,
        minor,
        os.fsdecode(full) if kind is _FILE else None,
        stamp,
    )


def _target(full: bytes) -> bytes:
    try:
        return os.readlink(full)  # noqa: PTH115 - bytes
    except OSError as error:  # gone, or a symlink no more
        raise BuildError(f"changed while it was scanned: {os.fsdecode(full)}") from error


def _mount_point(path: bytes, full: bytes, status: os.stat_result, seen: Seen) -> Node:
    """Return an empty stand-in for what is mounted here; its time is that of its parent."""
    parent = os.lstat(full.rpartition(b"/")[0])
    node = _node(path, full, status_of(status), seen)
    empty = b"" if node.kind is _FILE else None
    mtime_s = parent.st_mtime_ns // _SECOND_NS
    return replace(node, mtime_s=mtime_s, size=0, content=empty, stamp=None)


def _changed(full: bytes, stamp: Stamp) -> bool:
    try:
        return stamp_of(os.lstat(full)) != stamp
    except OSError:
        return True
