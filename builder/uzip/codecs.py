"""CODECS: what geom_uzip can decompress, one row each (sys/geom/uzip, usr.bin/mkuzip).

| codec | magic | cluster is | may follow it | longest stored form |
|---|---|---|---|---|
| zlib | V2.0, with references v3.0 | one zlib stream | anything | compressBound |
| lzma | L3.0, l3.0 | one .xz stream: LZMA2 alone, CRC32 | anything | n + n/255 + 16 |
| zstd | Z4.0, z4.0 | one frame | skippable frames | ZSTD_compressBound |
"""

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from builder import streams
from builder.streams import Transforms
from slots.errors import ConfigError

SECTOR_BYTES = 512
MAX_STORED_BYTES = 1 << 20
"""The longest read of a kernel of 64 bit (MAXPHYS); kernels of 32 bit take 128 KiB."""

MOUNT_LINES = (
    b"(kldstat -qm g_uzip||kldload geom_uzip)>&-&&"
    b"mount_cd9660 /dev/`mdconfig -af $0`.uzip $1\nexit $?\n"
)
SKIPPABLE = b"\x50\x2a\x4d\x18"
SKIPPABLE_MAGICS = range(0x184D2A50, 0x184D2A60)
SKIPPABLE_HEAD_BYTES = 8
XZ_MEMORY_BYTES = 80 << 20
"""Decoding level 9 takes 65 MiB; a stream that asks for more is not one of ours."""

Transform = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]


@dataclass(frozen=True, slots=True)
class Codec:
    """One compressor as the kernel knows it.

    `magic` is the text at the start of an image, `reference_magic` that of one with references.
    `bound` tells the longest stored form of a cluster that the kernel takes, `filler` makes bytes
    that may follow a cluster, to fill a gap of 1 to 511 to the next sector (or one more sector).
    `packer` makes a function that one thread may use to compress many clusters, `decompressor` one
    that takes the stored bytes and the size of a cluster, and raises ValueError.
    """

    name: str
    magic: bytes
    reference_magic: bytes
    levels: range
    default_level: int
    least_cluster_bytes: int
    bound: Callable[[int], int]
    filler: Callable[[int], bytes]
    decompressor: Callable[[], Decompress]
    packer: Callable[[int], Transforms]
    versions: Callable[[], dict[str, str]] = dict  # of the libraries

    def compressor(self, level: int) -> Transform:
        """Return what compresses one cluster."""
        pack = self.packer(level)
        return lambda data: pack([data])[0]


def codec_of(name: str, level: int | None = None) -> tuple[Codec, int]:
    """Return a codec and the level to use; None: its default."""
    codec = CODECS.get(name)
    if codec is None:
        raise ConfigError(f"unknown codec {name!r}", hint=f"one of {', '.join(sorted(CODECS))}")
    chosen = codec.default_level if level is None else level
    if chosen not in codec.levels:
        raise ConfigError(
            f"{name} has no level {chosen}",
            hint=f"{codec.levels.start} to {codec.levels.stop - 1}",
        )
    return codec, chosen


def check_cluster_bytes(codec: Codec, cluster_bytes: int) -> None:
    """Refuse a cluster size that the kernel would refuse."""
    least = codec.least_cluster_bytes
    whole = cluster_bytes % SECTOR_BYTES == 0
    if not (whole and least <= cluster_bytes and codec.bound(cluster_bytes) <= MAX_STORED_BYTES):
        raise ConfigError(
            f"{codec.name} cannot have clusters of {cluster_bytes} bytes",
            hint=f"a multiple of {SECTOR_BYTES} from {least} to less than {MAX_STORED_BYTES}",
        )


def pad(codec: Codec, stream: bytes, start: int, cluster_bytes: int) -> bytes:
    """Return a stream that starts at `start` filled up to the end of a sector.

    A cluster that is longer than the codec's bound is refused by the kernel, and padding counts:
    such a one stays as it is.
    """
    gap = -(start + len(stream)) % SECTOR_BYTES
    if gap == 0:
        return stream
    padded = stream + codec.filler(gap)
    return padded if len(padded) <= codec.bound(cluster_bytes) else stream


# --- zlib ----------------------------------------------------------------------------------


def _zlib_bound(size: int) -> int:
    return size + (size >> 12) + (size >> 14) + (size >> 25) + 13


def _zlib_decompress(stored: bytes, size: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(stored, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not decoder.eof:
        raise ValueError("the stream has no end, or is longer than a cluster")
    return data


# --- lzma ----------------------------------------------------------------------------------


def _lzma_bound(size: int) -> int:
    return size + size // 255 + 16


def _lzma_decompress(stored: bytes, size: int) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    try:
        data = decoder.decompress(stored, size + 1)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    if not decoder.eof:
        raise ValueError("the stream has no end, or is longer than a cluster")
    return data


def _zeros(gap: int) -> bytes:
    return bytes(gap)


# --- zstd ----------------------------------------------------------------------------------


def _zstd_bound(size: int) -> int:
    return size + (size >> 8) + ((((128 << 10) - size) >> 11) if size < 128 << 10 else 0)


def _zstd_decompressor() -> Decompress:
    context = zstandard.ZstdDecompressor()  # to make one costs as much as to decode a little

    def decompress(stored: bytes, size: int) -> bytes:
        try:
            about = zstandard.get_frame_parameters(stored)
            if about.content_size not in {size, zstandard.CONTENTSIZE_UNKNOWN}:
                raise ValueError(f"the frame says {about.content_size} bytes")
            data = context.decompress(stored, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        _check_skippable(stored, _zstd_blocks_end(stored) + (4 if about.has_checksum else 0))
        return data

    return decompress


def _zstd_blocks_end(stored: bytes) -> int:
    """Return where the blocks of the first frame end, by their heads (RFC 8878, 3.1.1.2)."""
    at, last = zstandard.frame_header_size(stored), False
    while not last:
        head = int.from_bytes(stored[at : at + 3], "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == 1 else length)
    return at


def _check_skippable(stored: bytes, at: int) -> None:
    """Refuse what the kernel's decoder would stumble over behind the frame."""
    while at < len(stored):
        head = stored[at : at + SKIPPABLE_HEAD_BYTES]
        length = int.from_bytes(head[4:], "little")
        known = int.from_bytes(head[:4], "little") in SKIPPABLE_MAGICS
        at += SKIPPABLE_HEAD_BYTES + length
        if not known or len(head) < SKIPPABLE_HEAD_BYTES or at > len(stored):
            raise ValueError("what follows the frame is not a skippable frame")


def _skippable(gap: int) -> bytes:
    length = gap if gap >= SKIPPABLE_HEAD_BYTES else gap + SECTOR_BYTES
    inner = length - SKIPPABLE_HEAD_BYTES
    return SKIPPABLE + inner.to_bytes(4, "little") + bytes(inner)


CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            name="zstd",
            magic=b"#!/bin/sh\n#Z4.0 Format\n" + MOUNT_LINES,
            reference_magic=b"#!/bin/sh\n#z4.0 Format\n" + MOUNT_LINES,
            levels=range(1, 23),
            default_level=9,
            least_cluster_bytes=SECTOR_BYTES,
            bound=_zstd_bound,
            filler=_skippable,
            decompressor=_zstd_decompressor,
            # With a checksum, as mkuzip does: a worn disk then gives an error and not wrong bytes.
            packer=streams.zstd,
            versions=streams.zstd_versions,
        ),
        Codec(
            name="zlib",
            magic=b"#!/bin/sh\n#V2.0 Format\n" + MOUNT_LINES,
            reference_magic=b"#!/bin/sh\n#v3.0 Format\n" + MOUNT_LINES,
            levels=range(1, 10),
            default_level=9,
            least_cluster_bytes=SECTOR_BYTES,
            bound=_zlib_bound,
            filler=_zeros,
            decompressor=lambda: _zlib_decompress,
            packer=streams.zlib_,
            versions=streams.zlib_versions,
        ),
        Codec(
            name="lzma",
            magic=b"#!/bin/sh\n#L3.0\n",
            reference_magic=b"#!/bin/sh\n#l3.0\n",
            levels=range(10),
            default_level=6,
            least_cluster_bytes=16_384,
            bound=_lzma_bound,
            filler=_zeros,
            decompressor=lambda: _lzma_decompress,
            packer=streams.xz,
        ),
    )
}
