"""Bytes → compressed streams, by the libraries that make them: many in one call.

A function is made for a level, and serves one thread. It compresses each piece by itself: the
same piece, the same stream.
"""

import hashlib
import lzma
import zlib
from collections.abc import Callable

import zstandard

Buffers = list[bytes | bytearray | memoryview]
Transforms = Callable[[Buffers], list[bytes]]


def zstd(level: int, *, checksum: bool = True) -> Transforms:
    """Make zstd frames (RFC 8878).

    All pieces in one call: threads that wait for the interpreter in between lose time.
    """
    context = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
    if "multi_compress_to_buffer" not in zstandard.backend_features:
        return lambda pieces: list(map(context.compress, pieces))

    def pack(pieces: Buffers) -> list[bytes]:
        if not pieces:
            return []
        packed = context.multi_compress_to_buffer(pieces, threads=1)
        return [packed[number].tobytes() for number in range(len(pieces))]

    return pack


def zstd_versions() -> dict[str, str]:
    """Return what makes zstd frames."""
    number = ".".join(map(str, zstandard.ZSTD_VERSION))
    return {"zstandard": zstandard.__version__, "libzstd": number}


def zlib_(level: int) -> Transforms:
    """Make zlib streams (RFC 1950)."""
    return lambda pieces: [zlib.compress(piece, level) for piece in pieces]


def zlib_versions() -> dict[str, str]:
    """Return what makes zlib streams."""
    return {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def xz(level: int, dictionary_bytes: int | None = None) -> Transforms:
    """Make .xz streams: LZMA2 alone, CRC32, the dictionary of the level if no other is named."""
    filters: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": level}]
    if dictionary_bytes is not None:
        filters[0]["dict_size"] = dictionary_bytes

    def compress(piece: bytes | bytearray | memoryview) -> bytes:
        return lzma.compress(piece, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)

    return lambda pieces: list(map(compress, pieces))


def as_they_are(pieces: Buffers) -> list[bytes]:
    """Make nothing else of the pieces."""
    return list(map(bytes, pieces))


def fingerprint(transforms: Transforms) -> str:
    """Return what changes when a library compresses in another way: a digest of a sample."""
    sample = b"".join(hashlib.sha256(bytes((n,))).digest()[: n % 32] * (n % 5) for n in range(256))
    sample += b"".join(b"%d entries of a table, line %d\n" % (n * n, n) for n in range(2000))
    return hashlib.sha256(transforms([sample])[0]).hexdigest()[:16]
