"""A uzip image as a seekable file: docs/formats/uzip.md.

Nothing that an image says of itself is believed before it is checked, and nothing is allocated by
it beyond the TOC that the file really has and a few clusters. What lies behind the image (a slot
is longer) is not looked at.
"""

import io
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO

from builder.uzip.codecs import CODECS, Codec, Decompress
from builder.uzip.header import (
    COUNTS,
    COUNTS_END,
    MAGIC_BYTES,
    OFFSET_BYTES,
    SECTOR_BYTES,
    head_bytes,
    unpack_toc,
)
from slots.errors import VerificationError

MAX_CLUSTER_BYTES = 16 << 20
"""Kernels take clusters below 1 MiB; a reader that is asked to may look at more."""

BATCH_BYTES = 512 << 10
"""What one task decodes: a task for each cluster would cost more than many of them."""

AHEAD_BYTES = 8 << 20
"""What may wait decoded."""

TAG = slice(0x0B, 0x0E)
"""Letter, version, and the dot behind it."""


def _tags() -> dict[bytes, Codec]:
    return {
        magic[: TAG.stop]: codec
        for codec in CODECS.values()
        for magic in (codec.magic, codec.reference_magic)
    }


def is_uzip(head: bytes) -> bool:
    """Whether these first bytes of a file are those of a uzip image."""
    return head[: TAG.stop] in _tags()


def _descriptor(file: BinaryIO) -> int | None:
    try:
        return file.fileno()
    except io.UnsupportedOperation:  # a file in memory
        return None


class UzipReader(io.RawIOBase):
    """The volume inside an image, read only; give it to io.BufferedReader for small reads."""

    def __init__(self, file: BinaryIO, name: str, cache_clusters: int = 16) -> None:
        super().__init__()
        self._file, self._name, self._descriptor = file, name, _descriptor(file)
        self._reading = threading.Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cache_clusters = cache_clusters
        self._at = 0
        self._file_bytes = file.seek(0, io.SEEK_END)
        self.codec, self.cluster_bytes, self.cluster_count = self._read_head()
        self.size_bytes = self.cluster_bytes * self.cluster_count
        toc_bytes = OFFSET_BYTES * (self.cluster_count + 1)
        self.toc = unpack_toc(self._bytes_at(COUNTS_END, toc_bytes, "the TOC"))
        self._lengths = self._measure()
        self._zeros = bytes(self.cluster_bytes)
        self._decompress = self.codec.decompressor()  # for cluster(), which one thread asks for

    def _bad(self, reason: str, offset: int) -> VerificationError:
        return VerificationError(f"{self._name}: byte {offset}: {reason}", hint="not a good image")

    def _bytes_at(self, offset: int, length: int, what: str) -> bytes:
        if self._descriptor is not None:  # one call, and threads need not wait for each other
            data = os.pread(self._descriptor, length, offset)
        else:
            with self._reading:
                self._file.seek(offset)
                data = self._file.read(length)
        if len(data) != length:
            raise self._bad(f"the file ends within {what}", offset + len(data))
        return data

    def _read_head(self) -> tuple[Codec, int, int]:
        head = self._bytes_at(0, COUNTS_END, "the head")
        codec = _tags().get(head[: TAG.stop])
        if codec is None:
            raise self._bad("no uzip magic of a known codec", 0)
        cluster_bytes, count = COUNTS.unpack_from(head, MAGIC_BYTES)
        if not 0 < cluster_bytes <= MAX_CLUSTER_BYTES or cluster_bytes % SECTOR_BYTES:
            raise self._bad(f"a cluster size of {cluster_bytes}", MAGIC_BYTES)
        if count == 0 or head_bytes(count) > self._file_bytes:
            raise self._bad(f"a count of {count} clusters", MAGIC_BYTES + 4)
        return codec, cluster_bytes, count

    def _measure(self) -> list[int]:
        """Return the stored length of each cluster, 0 for one of zeros; check the TOC on the way.

        In the kernel's words: an offset at or after the end so far is a new cluster that reaches
        to the next larger offset, a smaller one refers to an earlier cluster.
        """
        toc, count = self.toc, self.cluster_count
        true_end = toc[count] or self._file_bytes
        self.end_bytes = true_end
        if not head_bytes(count) <= true_end <= self._file_bytes:
            raise self._bad(f"the image ends at {true_end}", COUNTS_END + OFFSET_BYTES * count)
        lengths, known = [0] * count, dict[int, int]()
        following, bound = true_end, self.codec.bound(self.cluster_bytes)
        news = self._news()
        for index in reversed(news):
            length = following - toc[index]
            if length > bound and index != news[-1]:
                raise self._bad(f"cluster {index} is {length} bytes long", self._toc_at(index))
            lengths[index], following = length, toc[index]
            if length:
                known[toc[index]] = length
        new = set(news)
        for index in range(count):
            if index not in new:
                length = known.get(toc[index], 0)
                if length == 0:
                    raise self._bad(f"cluster {index} refers to nothing", self._toc_at(index))
                lengths[index] = length
        return lengths

    def _news(self) -> list[int]:
        """Return the clusters that are no references."""
        news, largest, least = [], 0, head_bytes(self.cluster_count)
        for index in range(self.cluster_count):
            offset = self.toc[index]
            if not least <= offset <= self.end_bytes:
                raise self._bad(f"cluster {index} lies at {offset}", self._toc_at(index))
            if offset >= largest:
                news.append(index)
                largest = offset
        return news

    @staticmethod
    def _toc_at(index: int) -> int:
        return COUNTS_END + OFFSET_BYTES * index

    def _decode(self, index: int, decompress: Decompress) -> bytes:
        stored, offset = self.stored(index), self.toc[index]
        if not stored:
            return self._zeros
        try:
            data = decompress(stored, self.cluster_bytes)
        except ValueError as error:
            raise self._bad(f"cluster {index} does not decode: {error}", offset) from error
        if len(data) != self.cluster_bytes:
            raise self._bad(f"cluster {index} decodes to {len(data)} bytes", offset)
        return data

    @property
    def packing(self) -> str:
        """Under which equal stored bytes are equal clusters."""
        return f"{self.codec.name} {self.cluster_bytes}"

    def is_zero(self, index: int) -> bool:
        """Tell whether a cluster is one of zeros, of which nothing is stored."""
        return not self._lengths[index]

    def stored(self, index: int) -> bytes:
        """Return a cluster as it is stored; empty for one of zeros."""
        length = self._lengths[index]
        if length == 0:
            return b""
        longest = self.codec.bound(self.cluster_bytes) + SECTOR_BYTES
        return self._bytes_at(self.toc[index], min(length, longest), f"cluster {index}")

    def decoded(self, indexes: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield clusters in the order asked for, decoded by threads a bounded way ahead."""
        wanted = iter(indexes)
        each = max(1, BATCH_BYTES // self.cluster_bytes)
        threads = os.cpu_count() or 1
        most = max(1, min(2 * threads, AHEAD_BYTES // (each * self.cluster_bytes)))
        waiting: deque[tuple[list[int], Future[list[bytes]]]] = deque()
        pool = ThreadPoolExecutor(min(threads, most))
        try:
            while batch := list(islice(wanted, each)):
                waiting.append((batch, pool.submit(self._decode_all, batch)))
                if len(waiting) > most:
                    numbers, data = waiting.popleft()
                    yield from zip(numbers, data.result(), strict=True)
            for numbers, data in waiting:
                yield from zip(numbers, data.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode_all(self, indexes: Iterable[int]) -> list[bytes]:
        decompress = self.codec.decompressor()
        return [self._decode(index, decompress) for index in indexes]

    def cluster(self, index: int) -> bytes:
        """Return one cluster of the volume."""
        data = self._cache.pop(index, None)
        if data is None:
            data = self._decode(index, self._decompress)
            while len(self._cache) >= self._cache_clusters:
                self._cache.popitem(last=False)
        self._cache[index] = data
        return data

    def verify(self, on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Decode every cluster; raises VerificationError at the first that is damaged."""
        for index, _ in self.decoded(range(self.cluster_count)):
            on_progress((index + 1) * self.cluster_bytes)

    # --- io.RawIOBase ----------------------------------------------------------------------

    def readable(self) -> bool:  # noqa: D102 - as in io
        return True

    def seekable(self) -> bool:  # noqa: D102 - as in io
        return True

    def tell(self) -> int:  # noqa: D102 - as in io
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102 - as in io
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size_bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"no place {start + offset} in a file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read within one cluster, as a raw file may read less than it is asked for."""
        if self._at >= self.size_bytes:
            return 0
        index, start = divmod(self._at, self.cluster_bytes)
        part = self.cluster(index)[start : start + len(buffer)]
        memoryview(buffer).cast("B")[: len(part)] = part
        self._at += len(part)
        return len(part)
