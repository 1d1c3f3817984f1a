"""CODECS: what Linux can decompress in a squashfs, one row each (fs/squashfs).

| codec | number | a block is |
|---|---|---|
| zstd | 6 | one frame, without a checksum |
| zlib | 1 | one zlib stream |
| lzma | 4 | one .xz stream: LZMA2 alone, CRC32, a dictionary of one block |
| none | 1 | stored as it is |
"""

from collections.abc import Callable
from dataclasses import dataclass

from builder import streams
from builder.squashfs.records import STORED_BLOCKS, STORED_FRAGMENTS
from builder.streams import Transforms

_LZMA_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressor: its number in the superblock, and how it is made for a level and a block size.

    `stored` are the flags of the superblock that tell of what is not compressed.
    """

    number: int
    packer: Callable[[int, int], Transforms]
    stored: int = 0
    versions: Callable[[], dict[str, str]] = dict  # of the libraries


CODECS = {
    # With all bytes out and a checksum yet to come, on another page, the kernel wants room for
    # more and gives up: an input/output error for one block in some thousand (zstd_wrapper.c).
    "zstd": Codec(
        6,
        lambda level, _: streams.zstd(level, checksum=False),
        versions=streams.zstd_versions,
    ),
    "zlib": Codec(1, lambda level, _: streams.zlib_(level), versions=streams.zlib_versions),
    # The kernel sets aside a dictionary of one block, and refuses a stream that asks for more.
    "lzma": Codec(4, lambda _, block_bytes: streams.xz(_LZMA_LEVEL, block_bytes)),
    "none": Codec(1, lambda *_: streams.as_they_are, STORED_BLOCKS | STORED_FRAGMENTS),
}
