import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.streams import Buffers
from builder.uzip.codecs import CODECS, SECTOR_BYTES, Codec, codec_of, pad
from slots.errors import ConfigError
from tests.builder.uzip.images import noise, text
from tests.judges.uzip_judge import bound

ALL_CODECS = pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))


@given(st.sampled_from(list(CODECS.values())), st.integers(1, 511))
def test_what_fills_a_gap_ends_on_a_sector_and_is_skipped(codec: Codec, gap: int) -> None:
    filler = codec.filler(gap)
    assert len(filler) in {gap, gap + SECTOR_BYTES}
    data = text(1)
    stored = codec.compressor(codec.default_level)(data)
    assert codec.decompressor()(stored + filler, len(data)) == data


@given(st.sampled_from(list(CODECS.values())), st.integers(0, 511), st.integers(0, 9))
@settings(deadline=None)
def test_padding_ends_on_a_sector_or_is_not_done(codec: Codec, start: int, seed: int) -> None:
    for data in (noise(seed, 65_536), text(seed, 65_536)):
        stored = codec.compressor(1)(data)
        padded = pad(codec, stored, start, 65_536)
        assert padded.startswith(stored)
        assert (start + len(padded)) % SECTOR_BYTES == 0 or padded == stored
        assert len(padded) <= codec.bound(65_536)


@ALL_CODECS
@pytest.mark.parametrize("size", [16_384, 65_536, 131_072, 524_288])
def test_bounds_are_the_kernels(codec: Codec, size: int) -> None:
    assert codec.bound(size) == bound(codec.name, size)
    assert len(codec.compressor(codec.default_level)(noise(1, size))) <= codec.bound(size)


@ALL_CODECS
def test_levels_work_from_the_least_to_the_highest(codec: Codec) -> None:
    for level in (codec.levels[0], codec.levels[-1]):
        assert codec.decompressor()(codec.compressor(level)(text(3)), len(text(3))) == text(3)
    assert codec.default_level in codec.levels


@ALL_CODECS
def test_many_clusters_compress_to_the_bytes_of_each_alone(codec: Codec) -> None:
    many: Buffers = [noise(1), bytearray(text(2)), text(3), memoryview(text(4, 1000))]
    alone = codec.compressor(codec.default_level)
    packed = codec.packer(codec.default_level)
    assert packed(many) == [alone(bytes(one)) for one in many]
    if codec.name == "zstd":
        library = zstandard.ZstdCompressor(level=codec.default_level, write_checksum=True)
        assert packed(many) == [library.compress(one) for one in many]
    assert packed([]) == []


@ALL_CODECS
def test_a_cluster_that_ends_early_is_an_error(codec: Codec) -> None:
    stored = codec.compressor(1)(noise(1))
    for cut in (1, 5, 100):
        with pytest.raises(ValueError, match=r"."):
            codec.decompressor()(stored[:-cut], len(noise(1)))


def test_behind_a_zstd_frame_only_skippable_frames_are_taken() -> None:
    codec = CODECS["zstd"]
    stored = codec.compressor(1)(text(1))
    for rest in (b"\0", bytes(8), bytes(512), codec.filler(100)[:-1], stored):
        with pytest.raises(ValueError, match=r"not a skippable frame"):
            codec.decompressor()(stored + rest, len(text(1)))


def test_lzma_clusters_have_what_the_kernels_decoder_knows() -> None:
    stored = CODECS["lzma"].compressor(6)(text(1))
    assert stored[6:8] == b"\0\x01"  # CRC32
    assert stored[13] & 3 == 0  # one filter
    assert stored[14] == 0x21  # LZMA2


def test_an_unknown_codec_or_level_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"'lz4'.*one of lzma, zlib, zstd"):
        codec_of("lz4")
    with pytest.raises(ConfigError, match=r"zlib has no level 10.*1 to 9"):
        codec_of("zlib", 10)
    assert codec_of("zstd") == (CODECS["zstd"], 9)
    assert codec_of("lzma", 0)[1] == 0
