"""The clusters of a container (uzip), as the file system in it wants them: ahead, by threads."""

from collections.abc import Iterable, Iterator
from typing import Protocol


class Clusters(Protocol):
    """A volume in pieces of one size, each stored on its own."""

    cluster_bytes: int
    cluster_count: int

    @property
    def packing(self) -> str:
        """Under which equal stored bytes are equal clusters."""
        ...

    def is_zero(self, index: int) -> bool:
        """Tell whether a cluster is one of zeros, of which nothing is stored."""
        ...

    def stored(self, index: int) -> bytes:
        """Return a cluster as it is stored; empty for one of zeros."""
        ...

    def cluster(self, index: int) -> bytes:
        """Return one cluster."""
        ...

    def decoded(self, indexes: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield clusters in the order asked for, decoded by threads a bounded way ahead."""
        ...


class Flow:
    """Reads spans that begin ever later: each cluster is decoded once, ahead of who reads.

    A span that begins before what was read last (damage: files that overlap) is read apart.
    """

    def __init__(self, clusters: Clusters, spans: Iterable[tuple[int, int]]) -> None:
        self._clusters, self._cluster_bytes = clusters, clusters.cluster_bytes
        self._ahead = clusters.decoded(_union(spans, clusters.cluster_bytes))
        self._index, self._data = -1, b""

    def read(self, offset: int, count: int) -> Iterator[bytes]:
        """Return the bytes of one of the spans."""
        index, start = divmod(offset, self._cluster_bytes)
        if start + count > self._cluster_bytes:
            return self._long(offset, count)
        return iter((self._at(index)[start : start + count],) if count else ())

    def _long(self, offset: int, count: int) -> Iterator[bytes]:
        size, end = self._cluster_bytes, offset + count
        for index in indexes(offset, count, size):
            start = index * size
            data = self._at(index)
            yield data[max(offset - start, 0) : end - start]

    def _at(self, index: int) -> bytes:
        while self._index < index:
            self._index, self._data = next(self._ahead)
        return self._data if self._index == index else self._clusters.cluster(index)


def indexes(offset: int, count: int, cluster_bytes: int) -> range:
    """Return the clusters that hold these bytes."""
    return range(offset // cluster_bytes, -(-(offset + count) // cluster_bytes) if count else 0)


def _union(spans: Iterable[tuple[int, int]], cluster_bytes: int) -> Iterator[int]:
    """Yield the clusters of spans that are sorted by where they begin, each once."""
    following = 0
    for offset, count in spans:
        for index in indexes(offset, count, cluster_bytes):
            if index >= following:
                yield index
                following = index + 1
