"""SHA-256 of every file of a tree, by threads: hashing and reading release the interpreter."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from builder.cache import Cache
from builder.contents import pieces
from builder.hardlinks import first_files
from builder.progress import Meter
from builder.tree import Kind, Node, Tree
from slots.events import Emit, step

BATCH_FILES = 64
BATCH_BYTES = 4 << 20


def digest_files(
    tree: Tree, threads: int, emit: Emit, cache: Cache | None = None
) -> dict[bytes, str]:
    """Return the digest of each file by its path.

    One file of several names is read once, one that the cache knows not at all.
    """
    firsts = first_files(tree)
    cache = cache or Cache(emit)
    known = cache.digests(node.stamp for node in firsts if node.stamp is not None)
    found: dict[bytes | int, str] = {}
    unread: list[Node] = []
    for node in firsts:
        digest = None if node.stamp is None else known.get(node.stamp)
        if digest is None:
            unread.append(node)
        else:
            found[_file_key(node)] = digest
    total_bytes = sum(node.size for node in unread)
    with step(emit, "digest", total_bytes=total_bytes) as detail:
        read = _read_all(unread, threads, Meter(emit, "digest").add)
        found |= {_file_key(node): read[node.path] for node in unread}
        detail.append(f"{len(found)} files")
        if known:
            detail.append(f"{len(unread)} read")
    cache.keep_digests({node.stamp: read[node.path] for node in unread if node.stamp is not None})
    file = Kind.FILE
    return {node.path: found[_file_key(node)] for node in tree if node.kind is file}


def _read_all(
    nodes: Iterable[Node], threads: int, count: Callable[[int], None]
) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        try:
            for digests in pool.map(lambda batch: _digests(batch, count), _batches(nodes)):
                found |= digests
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _file_key(node: Node) -> bytes | int:
    return node.path if node.group is None else node.group


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
    small_bytes = 0
    for node in batch:
        digest = hashlib.sha256()
        for data in pieces(node):
            digest.update(data)
            if node.size > BATCH_BYTES:
                count(len(data))
            else:
                small_bytes += len(data)
        found[node.path] = digest.hexdigest()
    count(small_bytes)
    return found
