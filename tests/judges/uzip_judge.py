"""A second decoder of uzip images, as the kernel reads them, that names every broken rule.

Written from docs/formats/uzip.md and geom_uzip's own steps, without a line of builder/uzip.
"""

import lzma
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

LETTERS = {b"V": "zlib", b"L": "lzma", b"Z": "zstd"}
LEAST_VERSION = {"zlib": 2, "lzma": 3, "zstd": 4}
SHELL = (
    b"(kldstat -qm g_uzip||kldload geom_uzip)>&-&&"
    b"mount_cd9660 /dev/`mdconfig -af $0`.uzip $1\nexit $?\n"
)
TEXTS = {
    b"V": (b"#V2.0 Format\n", SHELL),
    b"v": (b"#v3.0 Format\n", SHELL),
    b"Z": (b"#Z4.0 Format\n", SHELL),
    b"z": (b"#z4.0 Format\n", SHELL),
    b"L": (b"#L3.0\n", b""),
    b"l": (b"#l3.0\n", b""),
}


class RefusedByKernelError(Exception):
    """The kernel would not make a device of this image, or not read this cluster."""


def bound(codec: str, size: int) -> int:
    """The longest cluster that the kernel takes."""
    if codec == "zlib":
        return size + (size >> 12) + (size >> 14) + (size >> 25) + 13
    if codec == "lzma":
        return size + size // 255 + 16
    return size + (size >> 8) + ((0x20000 - size) >> 11 if size < 0x20000 else 0)


class Image:
    """An image that the kernel accepted; `violations` are the rules it breaks nevertheless."""

    def __init__(self, data: "bytes | mmap.mmap") -> None:
        self.count: int
        self.cluster_bytes: int
        self.data = data
        self.violations: list[str] = []
        self.letter = bytes(data[11:12])
        self.codec = LETTERS.get(self.letter.upper(), "")
        self.cluster_bytes, self.count = struct.unpack_from(">II", data, 128)
        self._check_head()
        self.toc = tuple(map(int, struct.unpack_from(f">{self.count + 1}Q", data, 136)))
        self.top = max(self.toc[:-1])
        self.references: dict[int, int] = {}
        self.lengths = self._parse_toc()
        self._check_ends()

    @classmethod
    def open(cls, path: Path) -> "Image":
        with path.open("rb") as file:
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _break(self, rule: str) -> None:
        self.violations.append(rule)

    def _check_head(self) -> None:
        if not self.codec or self.data[:11] != b"#!/bin/sh\n#":
            raise RefusedByKernelError("no magic")
        if self.data[12] - ord("0") < LEAST_VERSION[self.codec]:
            raise RefusedByKernelError("version too low")
        if self.cluster_bytes == 0 or self.cluster_bytes % 512:
            raise RefusedByKernelError(f"cluster size {self.cluster_bytes}")
        if self.count == 0 or 136 + 8 * (self.count + 1) > len(self.data):
            raise RefusedByKernelError(f"{self.count} clusters")
        if self.cluster_bytes >= 1 << 20:
            self._break("clusters that FreeBSD does not read: 1 MiB or more")
        first, rest = TEXTS[self.letter]
        if self.data[:128] != (b"#!/bin/sh\n" + first + rest).ljust(128, b"\0"):
            self._break("the magic is not mkuzip's")

    def _parse_toc(self) -> list[int]:
        """g_uzip_parse_toc(), step by step."""
        media, least = len(self.data), 136 + 8 * (self.count + 1)
        ends = [*self.toc]
        if self.codec != "zstd" or not ends[self.count]:
            ends[self.count] = media
        first: dict[int, int] = {}  # the linear search of the kernel finds the first
        lengths: list[int] = []
        largest, last = ends[0] - 1, 0
        for i in range(self.count):
            if not least <= ends[i] <= media:
                raise RefusedByKernelError(f"cluster {i}: offset {ends[i]}")
            if ends[i] < largest:
                if ends[i] not in first:
                    raise RefusedByKernelError(f"cluster {i}: reference to nothing")
                self.references[i] = first[ends[i]]
                lengths.append(lengths[first[ends[i]]])
                continue
            last = i
            j = i + 1
            while j < self.count and not ends[j] > largest:
                j += 1
            lengths.append(ends[j] - ends[i])
            largest = ends[j] - 1
            if lengths[i]:
                first.setdefault(ends[i], i)
        self._check_lengths(lengths, last)
        return lengths

    def _check_lengths(self, lengths: list[int], last: int) -> None:
        longest = bound(self.codec, self.cluster_bytes)
        for at, length in enumerate(lengths):
            if length < 0 or (length > longest and at != last):
                raise RefusedByKernelError(f"cluster {at}: {length} bytes, more than {longest}")

    def _check_ends(self) -> None:
        last = self.count - 1
        end = self.toc[self.count]
        if self.lengths[last] == 0 or end == self.toc[last]:
            self._break("the last cluster is elided")
        if last in self.references:
            self._break("the last cluster is a reference")
        if not end:
            self._break("no true end as offset n + 1")
        stored = [at for at in range(self.count) if self.lengths[at] and at not in self.references]
        if len(self.data) % 4096:
            self._break("the file is no multiple of 4,096")
        if any(self.data[end:]):
            self._break("what lies behind the image is not zeros")
        if self.references and not self.letter.islower():
            self._break("references, but the letter is upper case")
        if self.letter.islower() and not self.references:
            self._break("no references, but the letter is lower case")
        for at in stored:
            self._check_padding(at, self.toc[at], self._true_length(at))

    def _true_length(self, at: int) -> int:
        if at == self.count - 1 or self.toc[at] == self.top:
            return (self.toc[self.count] or len(self.data)) - self.toc[at]
        return self.lengths[at]

    def _check_padding(self, at: int, start: int, length: int) -> None:
        longest = bound(self.codec, self.cluster_bytes)
        if length > longest:
            self._break(f"cluster {at}: stored in {length} bytes, more than {longest}")
        gap = -(start + length) % 512
        if not gap:
            return
        if self.codec == "zstd" and gap < 8:
            gap += 512
        if length + gap <= longest:
            self._break(f"cluster {at}: not padded to 512, though it might be")

    def cluster(self, at: int) -> bytes:
        """Decode one cluster; what surrounds its stream is held against the rules."""
        length = self.lengths[at] if at < self.count - 1 else self._true_length(at)
        if not length:
            return bytes(self.cluster_bytes)
        stored = bytes(self.data[self.toc[at] : self.toc[at] + length])
        try:
            decode = {"zlib": self._zlib, "lzma": self._lzma, "zstd": self._zstd}[self.codec]
            data, rest = decode(stored)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
            raise RefusedByKernelError(f"cluster {at}: {error}") from error
        if len(data) != self.cluster_bytes:
            raise RefusedByKernelError(f"cluster {at}: decodes to {len(data)} bytes")
        if self.codec != "zstd" and any(rest):
            self._break(f"cluster {at}: its padding is not zeros")
        if len(rest) > (511 if self.codec != "zstd" else 519):
            self._break(f"cluster {at}: padding of more than a sector")
        return data

    def clusters(self) -> Iterator[bytes]:
        return (self.cluster(at) for at in range(self.count))

    def volume(self) -> bytes:
        return b"".join(self.clusters())

    def _zlib(self, stored: bytes) -> tuple[bytes, bytes]:
        decoder = zlib.decompressobj()
        data = decoder.decompress(stored)
        if not decoder.eof:
            raise EOFError("no end of the stream")
        return data, decoder.unused_data

    def _lzma(self, stored: bytes) -> tuple[bytes, bytes]:
        # Stream header: magic, flags (check type 1 = CRC32); block header: one filter, LZMA2.
        if stored[:8] != b"\xfd7zXZ\0\0\x01":
            self._break("an .xz stream without CRC32")
        if stored[13] & 3 or stored[14] != 0x21:
            self._break("an .xz stream with another filter than LZMA2 alone")
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        data = decoder.decompress(stored)
        if not decoder.eof:
            raise EOFError("no end of the stream")
        return data, decoder.unused_data

    def _zstd(self, stored: bytes) -> tuple[bytes, bytes]:
        decoder = zstandard.ZstdDecompressor().decompressobj()
        data = decoder.decompress(stored)
        if not decoder.eof:
            raise EOFError("no end of the frame")
        behind = rest = decoder.unused_data
        while rest:  # only skippable frames may follow
            magic, length = struct.unpack_from("<II", rest.ljust(8, b"\0"))
            if magic >> 4 != 0x184D2A5 or len(rest) < 8 + length:
                raise EOFError("the frame is followed by something else")
            rest = rest[8 + length :]
        return data, behind


def judge(path: Path) -> Image:
    """Decode every cluster of an image; the rules broken are in `violations`."""
    image = Image.open(path)
    for at in range(image.count):
        if image.lengths[at] and at not in image.references:
            image.cluster(at)
    return image
