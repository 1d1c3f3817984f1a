"""The least that an update could send in compressed clusters, however files are laid out.

What is new in files, alone: no directories, no table, no neighbour that shares a cluster.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.globs import matcher
from builder.iso9660.rockridge import BLOCK_BYTES
from builder.scan import scan
from builder.tree import Kind
from tests.bench.edits import CLUSTER_BYTES, Packer


def least_bytes(old: Path, new: Path, left_out: Sequence[str]) -> int:
    """Return what the clusters take that only files of the new tree have.

    Files that fit one cluster share it, a block after the other; larger ones begin one each.
    """
    had = {hashlib.sha256(data).digest() for data in _clusters(old, left_out)}
    packer, total = Packer(), 0
    small = bytearray()
    for data in _clusters(new, left_out):
        key = hashlib.sha256(data).digest()
        if key in had:
            continue
        had.add(key)
        if len(data) == CLUSTER_BYTES:
            total += packer.stored_bytes(data, 0)
            continue
        small += data + bytes(-len(data) % BLOCK_BYTES)
        while len(small) >= CLUSTER_BYTES:
            total += packer.stored_bytes(bytes(small[:CLUSTER_BYTES]), 0)
            del small[:CLUSTER_BYTES]
    return total + packer.stored_bytes(bytes(small), 0)


def _clusters(tree: Path, left_out: Sequence[str]) -> Iterator[bytes]:
    """Yield all files by the cluster, in the order of their paths; the last may be shorter."""
    scanned = scan(tree, matcher(left_out)).tree
    for path in sorted(node.path for node in scanned if node.kind is Kind.FILE):
        with Path(os.fsdecode(os.fsencode(tree) + path)).open("rb") as file:
            while data := file.read(CLUSTER_BYTES):
                yield data
