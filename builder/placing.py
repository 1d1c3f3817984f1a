"""Cutting and placing without history: the arithmetic of the hashed layout. Pure.

`cut` divides a sequence at places that follow from the items themselves, so that one item more
re-cuts its own neighbourhood only. `place` is a hash table whose cells are clusters: a unit that
finds its cells taken tries other ones that follow from its own hash alone, so that a unit more
displaces few others.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

MASK = 2**64 - 1
STRIDE = 0x9E3779B97F4A7C15
MIX_1 = 0xFF51AFD7ED558CCD
MIX_2 = 0xC4CEB9FE1A85EC53
PROBES = 64
FINE_LENGTHS = 8
"""Lengths below this are taken as they are; longer ones in steps of an eighth to a sixteenth."""


class Unit(NamedTuple):
    """What is placed as one: its length in clusters, its hash, the range of items in it."""

    clusters: int
    hash: int
    low: int
    high: int


def quantised(size_bytes: int, cluster_bytes: int) -> int:
    """Return the clusters that are set aside, so that growing a little moves nothing."""
    clusters = max(1, -(-size_bytes // cluster_bytes))
    if clusters < FINE_LENGTHS:
        return clusters
    step = 1 << (clusters.bit_length() - 4)
    return -(-clusters // step) * step


def cut(sizes: Sequence[int], order: Iterable[int], limit: int) -> Iterator[tuple[int, int]]:
    """Divide the items into ranges of at most `limit` bytes (or one item), in order.

    A range that is too large is divided before its item of least order, the first of equals; its
    first item does not count. The order is not looked at if all fits into one range.
    """
    sums = [0, *accumulate(sizes)]
    if len(sizes) <= 1 or sums[-1] <= limit:
        if sizes:
            yield 0, len(sizes)
        return
    left, right, root = _cartesian(list(order))
    waiting = [(0, len(sizes), root)]
    while waiting:
        low, high, split = waiting.pop()
        if high - low == 1 or sums[high] - sums[low] <= limit:
            yield low, high
            continue
        waiting.append((split, high, right[split]))
        waiting.append((low, split, left[split]))


def _cartesian(order: Sequence[int]) -> tuple[list[int], list[int], int]:
    """Return the tree of least items over order[1:]: left and right child of each, and the root.

    In linear time: the recursion of `cut` would look at every item once a level.
    """
    left, right = [0] * len(order), [0] * len(order)
    spine: list[int] = []
    for item in range(1, len(order)):
        last = 0
        while spine and order[spine[-1]] > order[item]:
            last = spine.pop()
        left[item] = last
        if spine:
            right[spine[-1]] = item
        spine.append(item)
    return left, right, spine[0] if spine else 0


def place(units: Sequence[Unit], load_percent: int, steps: int = 1) -> tuple[int, list[int]]:
    """Return the clusters of a zone that holds the units, and where each begins.

    Of all sizes from one power of two to the next, a zone may have `steps`, a power of two too.
    """
    total = sum(unit.clusters for unit in units)
    if total == 0:
        return 0, [0] * len(units)
    size = _zone(-(-total * 100 // load_percent), steps)
    ranks = sorted(range(len(units)), key=lambda number: _rank(units[number]))
    while (starts := _try_place(units, ranks, size)) is None:
        size = _zone(size + 1, steps)
    return size, starts


def _zone(least: int, steps: int) -> int:
    """Return the size of a zone that has at least so many clusters."""
    step = 1 << max(0, (least - 1).bit_length() - steps.bit_length())
    return -(-least // step) * step


def _rank(unit: Unit) -> tuple[int, int]:
    """Long units first, then in an order that has nothing to do with their names."""
    return -unit.clusters.bit_length(), unit.hash * STRIDE & MASK


def _try_place(units: Sequence[Unit], ranks: Sequence[int], size: int) -> list[int] | None:
    taken = bytearray(size)
    starts = [0] * len(units)
    for number in ranks:
        unit = units[number]
        start = _probe(taken, unit)
        if start < 0:
            return None
        taken[start : start + unit.clusters] = b"\1" * unit.clusters
        starts[number] = start
    return starts


def _probe(taken: bytearray, unit: Unit) -> int:
    """Return where a unit goes: by its hash, else the first gap after it; -1 if there is none."""
    length, places = unit.clusters, len(taken) - unit.clusters + 1
    if places <= 0:
        return -1
    at, x = 0, unit.hash
    for _ in range(PROBES):
        at = x % places
        if taken.find(1, at, at + length) < 0:
            return at
        x = _mix(x + STRIDE & MASK)
    gap = bytes(length)
    after = taken.find(gap, at)
    return after if after >= 0 else taken.find(gap)


def _mix(x: int) -> int:
    x = (x ^ x >> 33) * MIX_1 & MASK
    x = (x ^ x >> 33) * MIX_2 & MASK
    return x ^ x >> 33


def name_hash(key: bytes) -> int:
    """Return the number by which a key finds its place."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def cut_order(name: bytes) -> int:
    """Return the order in which a sequence is cut before an entry of this name."""
    return name_hash(name) % 2**56
