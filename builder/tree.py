"""A file system tree as data. Paths are bytes from the root: the root is b"", then b"/etc", …"""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SHA256_BYTES = 32


class Kind(StrEnum):
    """The type of a node; the values are those of mtree(5)."""

    DIRECTORY = "dir"
    FILE = "file"
    SYMLINK = "link"
    CHARACTER = "char"
    BLOCK = "block"
    FIFO = "fifo"


TYPE_BITS = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
"""The bits of a mode that tell the type. What reads images has a table of its own
(builder/opened/image.py): it shares nothing with what writes them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A directory that was scanned: the file of a node lies in it, at the node's path."""

    top: bytes


class Node(NamedTuple):
    """One entry of a tree. There are millions: what nodes can share, they share.

    `mode` holds the permission bits (0o7777), `mtime_s` seconds since 1970, `size` the bytes of a
    file, `target` the text of a symlink, `major` and `minor` the numbers of a device. `content`
    is where a file's bytes are read from (a path, or the directory that was scanned), or the bytes
    themselves; `stamp` is what its source was then, packed. `group` is shared by the names of one
    hard-linked file and None elsewhere; `links` is the number of names in this tree (for a
    directory: 2 and its sub-directories).
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_s: int
    size: int = 0
    target: bytes = b""
    major: int = 0
    minor: int = 0
    content: Origin | str | bytes | None = None
    stamp: bytes | None = None
    group: int | None = None
    links: int = 1

    @property
    def name(self) -> bytes:
        """The last part of the path; empty for the root."""
        path = self.path
        return path[path.rfind(b"/") + 1 :]

    @property
    def file(self) -> bytes | None:
        """The path that the bytes are read from, if they are to be read."""
        match self.content:
            case Origin(top):
                return top + self.path
            case str(path):
                return path.encode("utf-8", "surrogateescape")
            case _:
                return None

    @property
    def parent(self) -> bytes:
        """The path of the directory that holds this node."""
        return self.path.rpartition(b"/")[0]


@dataclass(frozen=True, slots=True)
class Digests:
    """The SHA-256 of each file of a tree, by its place in the tree; of other nodes zeros."""

    packed: bytes | bytearray

    def __getitem__(self, number: int) -> bytes:
        """Return the digest of a file."""
        return bytes(self.packed[SHA256_BYTES * number : SHA256_BYTES * (number + 1)])


def order_key(path: bytes) -> bytes:
    """Sort key of tree order: depth first, parents before children, siblings by byte name.

    No name holds a zero byte, so that it ends a name before any other byte goes on with it.
    """
    return path.replace(b"/", b"\0")


def _node_key(node: Node) -> bytes:
    return node.path.replace(b"/", b"\0")


@dataclass(frozen=True, slots=True)
class Tree:
    """All nodes in tree order, the root first; every parent is a directory of the tree."""

    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "Tree":
        """Put nodes in tree order."""
        return cls(tuple(sorted(nodes, key=_node_key)))
