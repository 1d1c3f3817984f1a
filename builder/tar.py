"""A tree as a tar stream in GNU's format: what mkfs.erofs reads from a pipe.

The same tree gives the same bytes. Entries are in tree order, the root first as `.`; names are
bytes; owners are numbers without names.
"""

import tarfile
from collections.abc import Iterator

from builder.contents import pieces
from builder.tree import Kind, Node, Tree

BLOCK_BYTES = 512
_TYPES = {
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.FILE: tarfile.REGTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHARACTER: tarfile.CHRTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def stream(tree: Tree) -> Iterator[bytes]:
    """Yield the bytes of a tar file that begins with the root directory itself."""
    firsts: dict[int, Node] = {}
    for node in tree:
        first = node if node.group is None else firsts.setdefault(node.group, node)
        yield _header(node, None if first is node else first)
        if first is node and node.kind is Kind.FILE:
            yield from pieces(node)
            yield bytes(-node.size % BLOCK_BYTES)
    yield bytes(2 * BLOCK_BYTES)


def _header(node: Node, linked_to: Node | None) -> bytes:
    entry = tarfile.TarInfo(_text(node.path[1:] or b"."))
    entry.mode, entry.uid, entry.gid, entry.mtime = node.mode, node.uid, node.gid, node.mtime_s
    entry.devmajor, entry.devminor = node.major, node.minor
    if linked_to is not None:
        entry.type, entry.linkname = tarfile.LNKTYPE, _text(linked_to.path[1:])
    else:
        entry.type, entry.linkname, entry.size = _TYPES[node.kind], _text(node.target), node.size
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
