from hypothesis import given
from hypothesis import strategies as st

from builder.placing import Unit, cut, place, quantised

SIZES = st.lists(st.integers(1, 40), max_size=60)


def slow_cut(
    sizes: list[int], order: list[int], limit: int, low: int, high: int
) -> list[tuple[int, int]]:
    """The definition, word by word."""
    if high - low == 1 or sum(sizes[low:high]) <= limit:
        return [(low, high)]
    split = min(range(low + 1, high), key=lambda item: (order[item], item))
    return slow_cut(sizes, order, limit, low, split) + slow_cut(sizes, order, limit, split, high)


@given(SIZES, st.data(), st.integers(1, 200))
def test_cutting_is_as_defined(sizes: list[int], data: st.DataObject, limit: int) -> None:
    order = [data.draw(st.integers(0, 20)) for _ in sizes]
    expected = slow_cut(sizes, order, limit, 0, len(sizes)) if sizes else []
    assert list(cut(sizes, order, limit)) == expected


def test_cutting_a_long_descent_is_not_a_deep_recursion() -> None:
    count = 20_000
    ranges = list(cut([1] * count, list(range(count)), 10))
    assert sum(high - low for low, high in ranges) == count
    assert len(ranges) == count - 9


@given(st.integers(1, 2**40), st.sampled_from([65_536, 131_072]))
def test_lengths_are_raised_by_an_eighth_at_most(size: int, cluster: int) -> None:
    clusters = -(-size // cluster)
    assert clusters <= quantised(size, cluster) <= clusters * 9 / 8


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2**64 - 1)), max_size=80),
    st.integers(1, 95),
)
def test_no_two_units_overlap_and_all_lie_in_the_zone(
    rows: list[tuple[int, int]], load: int
) -> None:
    units = [Unit(length, key, 0, 0) for length, key in rows]
    size, starts = place(units, load)
    cells = [
        cell
        for unit, start in zip(units, starts, strict=True)
        for cell in range(start, start + unit.clusters)
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= cell < size for cell in cells)
    assert size == 0 or size & (size - 1) == 0


def test_units_that_all_want_one_place_are_placed_all_the_same() -> None:
    units = [Unit(3, 42, 0, 0)] * 200
    size, starts = place(units, 90)
    assert len(set(starts)) == 200
    assert max(starts) + 3 <= size


def test_no_order_is_sought_where_all_fits_into_one_range() -> None:
    sought = iter([5, 3])
    assert list(cut([2, 1], sought, 3)) == [(0, 2)]
    assert list(sought) == [5, 3]
    assert list(cut([2, 1], iter([5, 3]), 2)) == [(0, 1), (1, 2)]
