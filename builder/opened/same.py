"""Which files of two ISO 9660 volumes differ, decoding no more of them than that takes.

Clusters that are stored as the same bytes by the same codec are the same: a file in none but such
is equal and nothing of it is decoded. Digests and times are not asked.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from builder.opened.clusters import Clusters, indexes
from builder.opened.iso9660 import Iso9660Image
from builder.tree import Node

_READ_BYTES = 1 << 20


class _Part(NamedTuple):
    """Bytes of a file in one cluster of each volume."""

    start: int
    end: int
    path: bytes


class _Pair(NamedTuple):
    """A file in both volumes, and where its bytes begin in them."""

    old_at: int
    new_at: int
    size: int
    path: bytes


def unequal(
    old: Iso9660Image, new: Iso9660Image, pairs: Iterable[tuple[Node, Node]]
) -> frozenset[bytes]:
    """Return the paths of those files that differ; those of a pair are of one size."""
    placed = sorted(
        (_Pair(old.offset(one), new.offset(other), other.size, other.path) for one, other in pairs),
        key=lambda pair: (pair.new_at, pair.old_at),
    )
    left, right = old.clusters, new.clusters
    if left is None or right is None or left.packing != right.packing:
        return frozenset(_read_unequal(old, new, placed))
    size = right.cluster_bytes
    aligned = [pair for pair in placed if pair.old_at % size == pair.new_at % size]
    moved = [pair for pair in placed if pair.old_at % size != pair.new_at % size]
    found = set(_decoded_unequal(left, right, _in_unequal_clusters(left, right, aligned)))
    return frozenset(found.union(_read_unequal(old, new, moved)))


def _in_unequal_clusters(
    left: Clusters, right: Clusters, pairs: Iterable[_Pair]
) -> dict[tuple[int, int], list[_Part]]:
    """Return what of the files lies in clusters that are not stored alike."""

    @lru_cache(maxsize=256)
    def is_same(index: int, other: int) -> bool:
        return left.stored(index) == right.stored(other)

    found: dict[tuple[int, int], list[_Part]] = {}
    size = right.cluster_bytes
    for pair in pairs:
        shift = (pair.old_at - pair.new_at) // size
        for index in indexes(pair.new_at, pair.size, size):
            if not is_same(index + shift, index):
                start, end = pair.new_at - index * size, pair.new_at + pair.size - index * size
                part = _Part(max(start, 0), min(end, size), pair.path)
                found.setdefault((index + shift, index), []).append(part)
    return found


def _decoded_unequal(
    left: Clusters, right: Clusters, parts: dict[tuple[int, int], list[_Part]]
) -> Iterator[bytes]:
    ours = left.decoded(index for index, _ in parts)
    theirs = right.decoded(index for _, index in parts)
    for here, (_, one), (_, other) in zip(parts.values(), ours, theirs, strict=True):
        if one != other:
            for start, end, path in here:
                if one[start:end] != other[start:end]:
                    yield path


def _read_unequal(old: Iso9660Image, new: Iso9660Image, pairs: Iterable[_Pair]) -> Iterator[bytes]:
    for pair in pairs:
        for at in range(0, pair.size, _READ_BYTES):
            count = min(pair.size - at, _READ_BYTES)
            if old.bytes_at(pair.old_at + at, count) != new.bytes_at(pair.new_at + at, count):
                yield pair.path
                break
