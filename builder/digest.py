"""SHA-256 of every file of a tree, by threads: hashing and reading release the interpreter."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from builder.cache import Cache
from builder.contents import pieces
from builder.hardlinks import first_numbers
from builder.progress import Meter
from builder.tree import SHA256_BYTES, Digests, Kind, Node, Tree
from slots.events import Emit, step

BATCH_FILES = 64
BATCH_BYTES = 4 << 20


def digest_files(tree: Tree, threads: int, emit: Emit, cache: Cache | None = None) -> Digests:
    """Return the digest of each file.

    One file of several names is read once, one that the cache knows not at all.
    """
    cache, nodes = cache or Cache(emit), tree.nodes
    firsts = first_numbers(tree)
    known = cache.digests(stamp for number in firsts if (stamp := nodes[number].stamp) is not None)
    found, unread = _Found(nodes), []
    for number in firsts:
        digest = known.get(nodes[number].stamp or b"")
        if digest is None:
            unread.append(number)
        else:
            found.add(number, digest)
    total_bytes = sum(nodes[number].size for number in unread)
    with step(emit, "digest", total_bytes=total_bytes) as detail:
        read = _read_all([nodes[one] for one in unread], threads, Meter(emit, "digest").add)
        fresh: dict[bytes, bytes] = {}
        for number, digest in zip(unread, read, strict=True):
            found.add(number, digest)
            if cache.is_on and (stamp := nodes[number].stamp) is not None:
                fresh[stamp] = digest
        detail.append(f"{len(firsts)} files")
        if known:
            detail.append(f"{len(unread)} read")
    cache.keep_digests(fresh)
    return found.all()


class _Found:
    """The digests that are found, by the place of the file."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._packed = bytearray(SHA256_BYTES * len(nodes))
        self._linked: dict[int, bytes] = {}  # by group

    def add(self, number: int, digest: bytes) -> None:
        """Note a digest."""
        self._packed[SHA256_BYTES * number : SHA256_BYTES * (number + 1)] = digest
        if (group := self._nodes[number].group) is not None:
            self._linked[group] = digest

    def all(self) -> Digests:
        """Return all of them, each name of a hard-linked file with its own."""
        if self._linked:
            file = Kind.FILE
            for number, node in enumerate(self._nodes):
                if node.group is not None and node.kind is file:
                    self.add(number, self._linked[node.group])
        return Digests(self._packed)


def _read_all(nodes: Iterable[Node], threads: int, count: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the digests in the order of the files."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            for digests in pool.map(lambda batch: _digests(batch, count), _batches(nodes)):
                yield from digests
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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


def _digests(batch: Iterable[Node], count: Callable[[int], None]) -> list[bytes]:
    found: list[bytes] = []
    small_bytes = 0
    for node in batch:
        digest = hashlib.sha256()
        for data in pieces(node):
            digest.update(data)
            if node.size > BATCH_BYTES:
                count(len(data))
            else:
                small_bytes += len(data)
        found.append(digest.digest())
    count(small_bytes)
    return found
