"""Layout → the volume in order, as whole clusters; the only file here that opens anything.

A source is held against what the scan saw of it: when it is opened, and again at its end. A file
that changed meanwhile stops the build by name, for its image would be neither old nor new.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from builder.clusters import Cluster, ZeroRun
from builder.iso9660 import records
from builder.iso9660.layout import (
    BLOCK_BYTES,
    DESCRIPTORS,
    PATH_TABLE_L,
    PATH_TABLE_M,
    Layout,
)
from builder.iso9660.limits import show_path
from builder.tree import Kind, Node
from slots.errors import BuildError


def clusters(layout: Layout) -> Iterator[Cluster]:
    """Yield the volume: clusters with data, and runs of those without."""
    size = layout.parameters.cluster_bytes
    buffer, at = bytearray(), 0  # the cluster being filled, and how many came before it
    for offset, chunk in _chunks(layout, size):
        if offset >= (at + 1) * size:
            if buffer:
                yield bytes(buffer.ljust(size, b"\0"))
                buffer.clear()
                at += 1
            if hole := offset // size - at:
                yield ZeroRun(hole)
                at += hole
        buffer.extend(bytes(offset - at * size - len(buffer)))
        if not buffer and len(chunk) == size:  # a whole cluster of one file: pass it on as it is
            yield chunk
            at += 1
            continue
        buffer += chunk
        if len(buffer) == size:
            yield bytes(buffer)
            buffer.clear()
            at += 1
    if buffer:
        yield bytes(buffer.ljust(size, b"\0"))
        at += 1
    if rest := layout.cluster_count - at:
        yield ZeroRun(rest)


def _chunks(layout: Layout, cluster_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield what the volume holds in order: byte offset and data, never across a cluster."""
    for piece in layout.pieces:
        offset = layout.first_block(piece) * BLOCK_BYTES
        for data in _piece(layout, piece, cluster_bytes - offset % cluster_bytes):
            start = 0
            while start < len(data):
                end = start + cluster_bytes - offset % cluster_bytes
                part = data if start == 0 and end >= len(data) else data[start:end]
                yield offset, part
                offset += len(part)
                start = end


def _piece(layout: Layout, piece: int, first_bytes: int) -> Iterator[bytes]:
    """Yield the data of one piece; of a file, `first_bytes` at first."""
    match piece:
        case _ if piece == DESCRIPTORS:
            yield records.descriptors(layout)
        case _ if piece == PATH_TABLE_L:
            yield records.path_table(layout, "<")
        case _ if piece == PATH_TABLE_M:
            yield records.path_table(layout, ">")
        case _ if layout.tree.nodes[piece].kind is Kind.DIRECTORY:
            yield records.directory_table(layout, layout.directories[layout.numbers[piece]])
        case _:
            yield from _content(
                layout.tree.nodes[piece], first_bytes, layout.parameters.cluster_bytes
            )


def _content(node: Node, first_bytes: int, cluster_bytes: int) -> Iterator[bytes]:
    match node.content:
        case bytes(data):
            _expect(node, len(data) == node.size)
            yield data
        case Path() as path:
            try:
                yield from _read(node, path, first_bytes, cluster_bytes)
            except OSError as error:
                raise BuildError(
                    f"{show_path(node.path)} cannot be read from {path}: {error.strerror}",
                    hint="make the source readable, or exclude the file",
                ) from error
        case None:
            _expect(node, node.size == 0)


def _read(node: Node, path: Path, first_bytes: int, cluster_bytes: int) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _expect(node, _unchanged(node, os.fstat(descriptor)))
        left, want = node.size, first_bytes
        while left:
            data = os.read(descriptor, min(left, want))
            _expect(node, len(data) > 0)
            left -= len(data)
            want = want - len(data) or cluster_bytes
            yield data
        _expect(node, _unchanged(node, os.fstat(descriptor)))
    finally:
        os.close(descriptor)


def _unchanged(node: Node, now: os.stat_result) -> bool:
    if node.stamp is None:
        return now.st_size == node.size
    stamp = node.stamp
    return (now.st_size, now.st_size, now.st_mtime_ns) == (node.size, stamp.size, stamp.mtime_ns)


def _expect(node: Node, unchanged: bool) -> None:
    if not unchanged:
        raise BuildError(
            f"{show_path(node.path)} changed while it was read",
            hint="stop what writes to the source, then build again",
        )
