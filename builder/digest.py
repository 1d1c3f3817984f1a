"""SHA-256 of every file of a tree, by threads: hashing and reading release the interpreter."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from builder.contents import pieces
from builder.progress import Meter
from builder.tree import Kind, Node, Tree
from slots.events import Emit, step

BATCH_FILES = 64
BATCH_BYTES = 4 << 20


def digest_files(tree: Tree, threads: int, emit: Emit) -> dict[bytes, str]:
    """Return the digest of each file by its path; one file of several names is read once."""
    firsts = _firsts(tree)
    total_bytes = sum(node.size for node in firsts.values())
    with step(emit, "digest", total_bytes=total_bytes) as detail:
        meter = Meter(emit, "digest")
        found: dict[bytes, str] = {}
        with ThreadPoolExecutor(threads) as pool:
            try:
                for digests in pool.map(
                    lambda batch: _digests(batch, meter.add), _batches(firsts.values())
                ):
                    found |= digests
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        detail.append(f"{len(found)} files")
    return {
        node.path: found[firsts[_file_key(node)].path] for node in tree if node.kind is Kind.FILE
    }


def _file_key(node: Node) -> bytes | int:
    return node.path if node.group is None else node.group


def _firsts(tree: Tree) -> dict[bytes | int, Node]:
    firsts: dict[bytes | int, Node] = {}
    for node in tree:
        if node.kind is Kind.FILE:
            firsts.setdefault(_file_key(node), node)
    return firsts


def _batches(nodes: Iterable[Node]) -> Iterator[list[Node]]:
    """Gather small files: a task for each would cost more than its digest."""
    batch: list[Node] = []
    size_bytes = 0
    for node in nodes:
        batch.append(node)
        size_bytes += node.size
        if len(batch) >= BATCH_FILES or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _digests(batch: Iterable[Node], count: Callable[[int], None]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for node in batch:
        digest = hashlib.sha256()
        for data in pieces(node):
            digest.update(data)
            count(len(data))
        found[node.path] = digest.hexdigest()
    return found
