"""The bytes of a tree's files: read in pieces, held against what the scan saw."""

import os
from collections.abc import Iterator
from pathlib import Path

from builder.names import shown
from builder.scan import stamp_of
from builder.tree import Node
from slots.errors import BuildError

READ_BYTES = 1 << 20


def pieces(node: Node) -> Iterator[bytes]:
    """Yield the bytes of a file: as many as its size, or a BuildError that names it."""
    if not isinstance(node.content, Path):
        yield node.content or b""
        return
    try:
        descriptor = os.open(node.content, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(node, error) from error
    try:
        yield from _read(descriptor, node)
    except OSError as error:
        raise _unreadable(node, error) from error
    finally:
        os.close(descriptor)


def _read(descriptor: int, node: Node) -> Iterator[bytes]:
    _check(descriptor, node)
    left = node.size
    while left:
        data = os.read(descriptor, min(left, READ_BYTES))
        if not data:
            raise changed(node)
        left -= len(data)
        yield data
    _check(descriptor, node)


def _check(descriptor: int, node: Node) -> None:
    if node.stamp is not None and stamp_of(os.fstat(descriptor)) != node.stamp:
        raise changed(node)


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
