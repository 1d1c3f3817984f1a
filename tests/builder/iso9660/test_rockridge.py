import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.iso9660 import rockridge
from tests.builder.iso9660.trees import TARGETS
from tests.judges.iso_judge import _components


def read_target(target: bytes) -> bytes:
    out: list[bytes] = []
    cont = True
    for entry in rockridge.sl(target):
        assert entry[2] == len(entry) <= 255
        cont = _components(entry[5:], out, cont)
    return b"".join(out)


@given(TARGETS)
@example(b"a//b/")
@example(b"//")
@example(b"../." * 200)
@example(b"/" + b"x" * 1000)
@example(b"/" * 1023)
def test_a_target_reads_as_it_was(target: bytes) -> None:
    assert read_target(target) == (b"/." if target == b"/" else target)


def test_the_root_alone_is_written_as_root_and_current() -> None:
    assert rockridge.sl(b"/") == [b"SL\x09\x01\x00\x08\x00\x02\x00"]


def test_dots_are_components_of_their_own_kind() -> None:
    assert rockridge.sl(b"../a/.") == [b"SL\x0c\x01\x00\x04\x00\x00\x01a\x02\x00"]


def test_only_the_last_of_several_entries_is_not_continued() -> None:
    assert [entry[4] for entry in rockridge.sl(b"x" * 1000)] == [1, 1, 1, 1, 0]
    assert [entry[4] for entry in rockridge.nm(b"x" * 255)] == [1, 0]
    assert [entry[4] for entry in rockridge.nm(b"x" * 250)] == [0]


@given(st.lists(st.integers(5, 255).map(bytes), max_size=30), st.integers(28, 220))
def test_entries_are_divided_without_loss_and_fit_their_places(
    entries: list[bytes], room: int
) -> None:
    parts = rockridge.split(entries, room)
    sizes = rockridge.part_sizes(parts)
    assert b"".join(parts) == b"".join(entries)
    assert sizes[0] <= room
    assert all(size <= rockridge.BLOCK_BYTES for size in sizes)


@given(st.integers(0, 10**6), st.integers(1, 2048))
def test_what_is_fitted_crosses_no_block(offset: int, length: int) -> None:
    at = rockridge.fit(offset, length)
    assert offset <= at < offset + 2048
    assert at // 2048 == (at + length - 1) // 2048


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, (70, 1, 1, 0, 0, 0, 0)),
        (0, (70, 1, 1, 0, 0, 0, 0)),
        (951_827_696, (100, 2, 29, 12, 34, 56, 0)),
        (2**31 - 1, (138, 1, 19, 3, 14, 7, 0)),
        (2**40, (138, 1, 19, 3, 14, 7, 0)),
    ],
)
def test_times_are_held_within_what_kernels_show(seconds: int, expected: tuple[int, ...]) -> None:
    assert tuple(rockridge.short_time(seconds)) == expected
