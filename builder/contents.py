"""The bytes of a tree's files: read in pieces, held against what the scan saw.

Holes of sparse files are found and not read. A difference to the scan is seen by the status of
the open file after its last byte: one that changed before or meanwhile has another by then.
"""

import errno
import os
from collections.abc import Iterator

from builder.names import shown
from builder.stamps import stamp_of
from builder.tree import Node
from slots.errors import BuildError

READ_BYTES = 1 << 17  # what was read is still near the processor when it is hashed
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ZEROS = bytes(READ_BYTES)


def pieces(node: Node) -> Iterator[bytes]:
    """Yield the bytes of a file: as many as its size, or a BuildError that names it."""
    path = node.file
    if path is None:
        yield node.content if isinstance(node.content, bytes) else b""
    elif node.size <= READ_BYTES:
        yield _small(node, path)
    else:
        yield from _large(node, path)


def _small(node: Node, path: bytes) -> bytes:
    """Read a file in one go: nearly all files are small, so few calls for each."""
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            data = os.read(descriptor, node.size) if node.size else b""
            while len(data) < node.size and (more := os.read(descriptor, node.size - len(data))):
                data += more
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(node, error) from error
    if len(data) != node.size or differs(node, status):
        raise changed(node)
    return data


def _large(node: Node, path: bytes) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise _unreadable(node, error) from error
    try:
        at = 0
        for start, end in _runs(descriptor, node.size):
            while at < start:
                yield _ZEROS[: start - at]
                at += min(start - at, READ_BYTES)
            while at < end and (data := os.pread(descriptor, min(end - at, READ_BYTES), at)):
                at += len(data)
                yield data
        if at != node.size or differs(node, os.fstat(descriptor)):
            raise changed(node)
    except OSError as error:
        raise _unreadable(node, error) from error
    finally:
        os.close(descriptor)


def _runs(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data; the last run ends with the file, if only as an empty one."""
    at = 0
    while at < size_bytes:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a file system that does not know of holes
                yield at, size_bytes
                return
            start = end = size_bytes
        at = min(end, size_bytes)
        yield min(start, size_bytes), at


def differs(node: Node, status: os.stat_result) -> bool:
    """Tell whether the file of a node is another than the one that was scanned."""
    return node.stamp is not None and node.stamp != stamp_of(status)


def changed(node: Node) -> BuildError:
    """Return the error for a file that is no longer what was scanned."""
    return BuildError(
        f"{shown(node.path)} changed while the image was built",
        hint="build from a chroot that nothing writes to, or leave it out with --exclude",
    )


def _unreadable(node: Node, error: OSError) -> BuildError:
    if isinstance(error, FileNotFoundError):
        return changed(node)
    return BuildError(f"cannot read {shown(node.path)}: {error.strerror}")
