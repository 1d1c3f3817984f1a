import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.clusters import Cluster, ZeroRun
from builder.uzip.codecs import CODECS
from builder.uzip.reader import UzipReader, is_uzip
from slots.errors import VerificationError
from tests.builder.uzip.images import SIZE, image, noise, text

ALL_CODECS = pytest.mark.parametrize("codec", list(CODECS))
ITEMS: list[Cluster] = [text(1), noise(2), ZeroRun(3), text(1), noise(3), text(4), text(1), text(5)]
VOLUME = b"".join(bytes(SIZE * i.count) if isinstance(i, ZeroRun) else i for i in ITEMS)


def reader(data: bytes, cache_clusters: int = 16) -> UzipReader:
    return UzipReader(io.BytesIO(data), "image.uzip", cache_clusters)


@ALL_CODECS
def test_the_whole_is_read_back(codec: str) -> None:
    found = reader(image(ITEMS, codec)[0])
    assert found.readall() == VOLUME
    assert (found.codec.name, found.size_bytes) == (codec, len(VOLUME))


@given(st.lists(st.tuples(st.integers(0, len(VOLUME) + 9), st.integers(0, 3 * SIZE)), max_size=9))
@settings(deadline=None, max_examples=50)
def test_any_place_is_read_back(reads: list[tuple[int, int]]) -> None:
    file = io.BufferedReader(reader(DATA, cache_clusters=1))
    for at, length in reads:
        file.seek(at)
        assert file.read(length) == VOLUME[at : at + length]


def test_it_is_a_seekable_file() -> None:
    found = reader(image(ITEMS)[0])
    assert found.seek(-5, io.SEEK_END) == len(VOLUME) - 5
    assert found.read(99) == VOLUME[-5:]
    assert found.seek(10) == 10
    assert found.seek(3, io.SEEK_CUR) == found.tell() == 13
    assert found.readable()
    assert found.seekable()
    assert not found.writable()
    with pytest.raises(ValueError, match="no place -1"):
        found.seek(-1)


def test_a_cluster_is_decoded_once_while_it_is_remembered() -> None:
    class Counting(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counting(image(ITEMS)[0])
    found = UzipReader(file, "image.uzip", 2)
    before = file.reads
    for index in (0, 1, 0, 1, 0):
        found.cluster(index)
    assert file.reads == before + 2
    found.cluster(6)
    found.cluster(1)
    assert file.reads == before + 4


@ALL_CODECS
def test_what_lies_behind_the_image_does_not_matter(codec: str) -> None:
    data, written = image(ITEMS, codec)
    found = reader(data + noise(1, 100_000))
    found.verify()
    assert found.readall() == VOLUME
    assert found.end_bytes <= written.size_bytes


def test_images_as_mkuzip_ends_them_are_read() -> None:
    data, _ = image(ITEMS)
    count = reader(data).cluster_count
    mine = data[: reader(data).end_bytes]
    toc_end = 136 + 8 * count
    theirs = mine[:toc_end] + bytes(8) + mine[toc_end + 8 :]
    assert reader(theirs).readall() == VOLUME


def test_verify_tells_how_far_it_is() -> None:
    found, seen = reader(image(ITEMS)[0]), list[int]()
    found.verify(seen.append)
    assert seen == [SIZE * (at + 1) for at in range(found.cluster_count)]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def toc_entry(index: int, offset: int) -> tuple[int, bytes]:
    return 136 + 8 * index, struct.pack(">Q", offset)


DATA = image(ITEMS)[0]
TOC = reader(DATA).toc
COUNT = len(TOC) - 1


@pytest.mark.parametrize(
    ("at", "new", "said"),
    [
        (0, b"?", "byte 0: no uzip magic"),
        (11, b"Q", "byte 0: no uzip magic"),
        (12, b"9", "byte 0: no uzip magic"),
        (128, struct.pack(">I", 0), "byte 128: a cluster size of 0"),
        (128, struct.pack(">I", 513), "byte 128: a cluster size of 513"),
        (128, struct.pack(">I", 0xFFFFFE00), "byte 128: a cluster size of 4294966784"),
        (132, struct.pack(">I", 0), "byte 132: a count of 0"),
        (132, struct.pack(">I", 0xFFFFFFFF), "byte 132: a count of 4294967295"),
        (*toc_entry(0, 8), "byte 136: cluster 0 lies at 8"),
        (*toc_entry(5, 2**63), "byte 176: cluster 5 lies at"),
        (*toc_entry(COUNT, 2**63), f"byte {136 + 8 * COUNT}: the image ends at"),
        (*toc_entry(5, TOC[0] + 1), "byte 176: cluster 5 refers to nothing"),
        (*toc_entry(0, TOC[1]), "byte 176: cluster 5 refers to nothing"),
        (*toc_entry(7, TOC[7] + 100_000), "byte 192: cluster 7 lies at"),
        (TOC[1] + 2, b"\0\0\0\0", f"byte {TOC[1]}: cluster 1 does not decode"),
        (TOC[1] + 300, b"\0\0\0\0", f"byte {TOC[1]}: cluster 1 does not decode"),
    ],
)
def test_damage_is_named_with_its_place(at: int, new: bytes, said: str) -> None:
    with pytest.raises(VerificationError, match=rf"^image\.uzip: {said}"):
        reader(changed(DATA, at, new)).verify()


GOOD = {codec: image(ITEMS, codec)[0] for codec in CODECS}


@ALL_CODECS
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_damaged_image_is_refused_or_read_right_in_all_but_its_holes(
    codec: str, data: st.DataObject
) -> None:
    good = GOOD[codec]
    at = data.draw(st.integers(0, reader(good).end_bytes - 1))
    bad = changed(good, at, bytes([good[at] ^ data.draw(st.integers(1, 255))]))
    try:
        found = reader(bad)
        found.verify()
    except VerificationError:
        return
    read = found.readall()
    harmless = read == VOLUME
    # A changed offset may turn a cluster into a hole or a reference: that has no checksum.
    assert harmless or at < 136 + 8 * (COUNT + 1)


@pytest.mark.parametrize("length", [0, 127, 135, 140, 300])
def test_a_cut_image_is_refused(length: int) -> None:
    with pytest.raises(VerificationError, match=r"image\.uzip: byte"):
        reader(DATA[:length])


def test_a_cluster_that_unpacks_to_more_than_a_cluster_is_refused() -> None:
    for codec in CODECS:
        bomb = CODECS[codec].compressor(1)(bytes(4 << 20))
        data = image(ITEMS, codec)[0]
        with pytest.raises(VerificationError, match="cluster 0 does not decode"):
            reader(changed(data, reader(data).toc[0], bomb)).verify()


def test_an_image_is_known_by_its_first_bytes() -> None:
    for codec in CODECS:
        assert is_uzip(image(ITEMS, codec)[0][:128])
        assert is_uzip(image([text(1)], codec)[0][:128])
    assert not is_uzip(b"#!/bin/sh\necho hello\n")
    assert not is_uzip(b"")
