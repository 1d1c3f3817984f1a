import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import packing
from builder.clusters import Cluster, ZeroRun
from builder.uzip import writer
from builder.uzip.codecs import CODECS, codec_of
from slots.errors import ConfigError
from slots.index import piece_digest
from tests.builder.uzip.images import SIZE, image, noise, text, zeros
from tests.judges.uzip_judge import Image, bound

ALL_CODECS = pytest.mark.parametrize("codec", list(CODECS))
CASES = st.sampled_from(
    [(codec, size) for codec in CODECS for size in (16_384, 4096) if codec != "lzma" or size > 4096]
)
ITEMS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([text, noise]), st.integers(0, 3)),
        st.just((zeros, 0)),
        st.integers(1, 5).map(ZeroRun),
    ),
    min_size=1,
    max_size=24,
)


def volume(items: list[Cluster], size: int) -> bytes:
    return b"".join(bytes(size * one.count) if isinstance(one, ZeroRun) else one for one in items)


def judged(data: bytes) -> Image:
    """The image as the judge sees it, every cluster decoded, no rule broken."""
    found = Image(data)
    found.volume()
    assert found.violations == []
    return found


@given(ITEMS, CASES)
@settings(max_examples=120, deadline=None)
def test_any_clusters_decode_to_themselves_and_break_no_rule(
    made: list[ZeroRun | tuple[Callable[[int, int], bytes], int]], case: tuple[str, int]
) -> None:
    codec, size = case
    items = [one if isinstance(one, ZeroRun) else one[0](one[1], size) for one in made]
    data, written = image(items, codec, size)
    found = judged(data)
    assert found.volume() == volume(items, size)
    assert written.clusters == found.count
    assert written.references == len(found.references)
    assert written.elided == found.lengths.count(0)
    assert written.stored + written.elided + written.references == written.clusters


@ALL_CODECS
@pytest.mark.parametrize("size", [16_384, 17_408, 65_536, 131_072])
def test_all_cluster_sizes_decode(codec: str, size: int) -> None:
    items: list[Cluster] = [text(1, size), noise(1, size), ZeroRun(3), text(2, size)]
    data, _ = image(items, codec, size)
    found = judged(data)
    assert found.volume() == text(1, size) + noise(1, size) + bytes(3 * size) + text(2, size)


@ALL_CODECS
def test_the_pieces_cover_the_file_and_the_digests_are_those_of_its_bytes(codec: str) -> None:
    items: list[Cluster] = [text(1), noise(1), ZeroRun(9), text(1), noise(2), text(3)]
    data, written = image(items, codec)
    assert written.size_bytes == len(data)
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    assert written.head_sha256 == hashlib.sha256(data[:65_536]).hexdigest()
    end = 0
    for piece in written.pieces:
        assert piece.offset == end
        assert piece.digest == piece_digest(data[end : end + piece.length])
        end += piece.length
    assert end == len(data)


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
@pytest.mark.parametrize("size", [512, 1536])
def test_small_clusters_decode(codec: str, size: int) -> None:
    items: list[Cluster] = [text(1, size), noise(1, size), ZeroRun(3), text(2, size)]
    data, _ = image(items, codec, size)
    assert judged(data).volume() == volume(items, size)


@pytest.mark.parametrize(
    ("codec", "size"),
    [("zstd", 0), ("zstd", 513), ("zstd", 1 << 20), ("zlib", 2 << 20), ("lzma", 8192)],
)
def test_cluster_sizes_that_the_kernel_refuses_are_refused(codec: str, size: int) -> None:
    with pytest.raises(ConfigError, match=f"clusters of {size} bytes"):
        image([ZeroRun(2)], codec, size)


def test_an_image_is_whole_sectors_and_no_shorter_than_its_head() -> None:
    small, _ = image([text(1)])
    large, _ = image([noise(seed) for seed in range(40)])
    assert len(small) == 65_536
    assert len(large) % 4096 == 0
    assert len(large) > 65_536


def test_the_image_does_not_depend_on_the_number_of_threads() -> None:
    items: list[Cluster] = [text(n % 7) if n % 3 else noise(n) for n in range(60)]
    assert image(items, threads=1)[0] == image(items, threads=7)[0]


@ALL_CODECS
@pytest.mark.parametrize("end", [bytes(SIZE), ZeroRun(1), ZeroRun(4)])
def test_the_last_cluster_is_stored_even_if_it_holds_zeros(codec: str, end: Cluster) -> None:
    data, written = image([text(1), end], codec)
    found = judged(data)
    assert found.lengths[-1] > 0
    assert written.stored == 2


@ALL_CODECS
def test_the_last_cluster_is_never_a_reference(codec: str) -> None:
    data, written = image([text(1), text(2), text(1)], codec)
    judged(data)
    assert written.references == 0


def test_repeated_clusters_are_references_but_never_to_the_one_stored_last() -> None:
    a, b = text(1), text(2)
    data, written = image([a, a, a, b, a, a, b, b, ZeroRun(2), b, noise(1)])
    found = judged(data)
    # a is stored twice, as the second would hide the length of the first; b twice likewise
    assert found.references == {2: 0, 4: 0, 5: 0, 7: 3, 10: 3}
    assert written.stored == 5


@pytest.mark.parametrize(
    ("codec", "plain", "with_references"),
    [("zlib", b"V2.0", b"v3.0"), ("zstd", b"Z4.0", b"z4.0"), ("lzma", b"L3.0", b"l3.0")],
)
def test_the_magic_says_codec_and_references(
    codec: str, plain: bytes, with_references: bytes
) -> None:
    without, _ = image([text(1), text(2)], codec)
    having, _ = image([text(1), text(2), text(1), text(3)], codec)
    assert without[:16] == b"#!/bin/sh\n#" + plain + having[15:16]
    assert having[11:15] == with_references
    judged(without)
    judged(having)


@ALL_CODECS
def test_an_image_that_stores_all_has_neither_holes_nor_references(codec: str) -> None:
    items: list[Cluster] = [text(1), text(1), ZeroRun(3), bytes(SIZE), text(2), text(1), text(3)]
    data, written = image(items, codec, store_all=True)
    assert judged(data).volume() == volume(items, SIZE)
    assert (written.stored, written.elided, written.references) == (9, 0, 0)


def test_references_stop_when_their_search_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "SEARCH_STEPS", 3)
    data, written = image([text(1), text(2), *[text(1)] * 5, noise(1)])
    judged(data)
    assert written.references == 3


@ALL_CODECS
def test_what_does_not_compress_stays_within_the_bound(codec: str) -> None:
    size = 65_536
    data, written = image([noise(n, size) for n in range(4)], codec, size)
    found = judged(data)
    assert max(found.lengths[:-1]) <= bound(codec, size)
    assert written.unpadded > 0 or codec != "zstd"


def test_behind_an_unpadded_cluster_the_next_one_meets_the_sectors_again() -> None:
    size = 65_536
    data, written = image([noise(1, size), text(1, size), text(2, size)], "zstd", size)
    found = judged(data)
    assert written.unpadded == 1
    assert found.toc[1] % 512 != 0
    assert found.toc[2] % 512 == 0


@ALL_CODECS
def test_every_cluster_that_can_be_padded_begins_and_ends_on_a_sector(codec: str) -> None:
    data, written = image([text(n, 16_384) for n in range(30)], codec, 16_384)
    found = judged(data)
    assert written.unpadded == 0
    assert all(offset % 512 == 0 for offset in found.toc)
    assert all(a < b for a, b in pairwise(found.toc))


class Unfilled(NamedTuple):
    """A cluster that is read when its turn comes."""

    data: bytes
    size: int = SIZE

    def key(self) -> bytes:
        return b""

    def fill(self, buffer: memoryview) -> int:
        buffer[: len(self.data)] = self.data
        return len(self.data)


def test_memory_that_is_used_again_keeps_nothing_of_the_cluster_before() -> None:
    lengths = [SIZE, 10, 0, 5000, 1, 0, SIZE - 1, 2, SIZE] * 20
    items = [Unfilled(noise(n, length)) for n, length in enumerate(lengths)]
    out = io.BytesIO()
    codec, level = codec_of("zstd")
    writer.write(
        items, len(items), out, codec=codec, level=level, cluster_bytes=SIZE, threads=2
    )  # fmt: skip
    found = judged(out.getvalue())
    assert found.volume() == b"".join(one.data.ljust(SIZE, b"\0") for one in items)


def test_no_more_clusters_are_taken_than_are_under_way() -> None:
    taken = done = most = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield noise(number)

    def on_progress(done_bytes: int) -> None:
        nonlocal done, most
        done = done_bytes // SIZE
        most = max(most, taken - done)

    chosen, level = codec_of("zstd")
    writer.write(
        source(),
        1000,
        io.BytesIO(),
        codec=chosen,
        level=level,
        cluster_bytes=SIZE,
        threads=3,
        on_progress=on_progress,
    )
    assert done == 1000
    assert most <= (3 * packing.AHEAD + 1) * packing.JOB_CLUSTERS


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_clusters_than_said_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match="2 clusters came"):
        image([text(1), text(2)], count=count)


def test_a_cluster_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="cluster 1 has 3 bytes"):
        image([b"abc", text(1)])


def test_an_error_of_the_source_ends_the_write_and_its_threads() -> None:
    def failing() -> Iterator[bytes]:
        yield text(1)
        raise OSError("gone")

    chosen, level = codec_of("zstd")
    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        writer.write(
            failing(), 9, io.BytesIO(), codec=chosen, level=level, cluster_bytes=SIZE, threads=2
        )
    assert threading.active_count() == before
