"""Clusters → a uzip image that geom_uzip reads: docs/formats/uzip.md.

Threads read and compress, the caller's thread writes. A job is several clusters, for handing over
costs more than a small one is worth; no more are under way than the threads need, so that memory
does not grow with the image. The place of the TOC is kept free, and
it is written last. A cluster whose stream an earlier build left is neither read nor compressed.
"""

import hashlib
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import BinaryIO, NamedTuple

from builder.clusters import Recall, Recalled, Stored, Unread, ZeroRun, nothing_known
from builder.uzip.codecs import Buffers, Codec, check_cluster_bytes
from builder.uzip.header import SECTOR_BYTES, head_bytes, pack_head
from slots.index import Piece, piece_digest
from slots.manifest import ALIGNMENT_BYTES, HEAD_BYTES

AHEAD = 3
"""Jobs under way per thread."""

JOB_CLUSTERS = 32
JOB_BYTES = 2 << 20
"""The most of a job."""

SEARCH_STEPS = 1 << 28
"""The kernel finds what a reference means by a walk over the TOC: so many steps (a fraction of a
second) are spent on references, the clusters that repeat beyond are stored again."""

READ_BYTES = 1 << 20

Item = bytes | ZeroRun | Unread


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. The pieces cover the file; the counts are those of its clusters."""

    size_bytes: int
    sha256: str
    head_sha256: str
    pieces: tuple[Piece, ...]
    clusters: int
    stored: int
    elided: int
    references: int
    unpadded: int
    recalled: int
    kept: tuple[Stored, ...]


def write(
    clusters: Iterable[Item],
    count: int,
    out: BinaryIO,
    *,
    codec: Codec,
    level: int,
    cluster_bytes: int,
    threads: int,
    store_all: bool = False,
    recall: Recall = nothing_known,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write `count` clusters to `out`, which is empty and can be read and sought.

    `store_all` leaves no holes and makes no references, for readers that know neither (qemu's
    cloop). `recall` finds what is stored already. `on_progress` is told how many bytes of the
    volume are done.
    """
    check_cluster_bytes(codec, cluster_bytes)
    image = _Image(out, codec, cluster_bytes, count, 0 if store_all else SEARCH_STEPS)
    out.seek(image.end)
    work = _Work(codec, level, bytes(cluster_bytes), recall, store_all)
    whole = _whole(clusters, count, cluster_bytes)
    for items in _packed(work, whole, count, threads):
        for item in items:
            if isinstance(item, ZeroRun):
                image.elide(item.count)
            else:
                image.add(item)
        on_progress(len(image.toc) * cluster_bytes)
    image.finish()
    out.flush()
    sha256, head_sha256 = _digests(out)
    return Written(
        size_bytes=image.size,
        sha256=sha256,
        head_sha256=head_sha256,
        pieces=tuple(image.pieces),
        clusters=count,
        stored=image.stored,
        elided=image.elided,
        references=image.references,
        unpadded=image.unpadded,
        recalled=image.recalled,
        kept=tuple(image.kept),
    )


class _Packed(NamedTuple):
    """A cluster as it is stored at the start of a sector, and the digest of that.

    The first `stream_bytes` of it are no padding. A cluster of zeros that need not be stored has
    none.
    """

    stream_bytes: int
    padded: bytes | memoryview
    digest: str
    key: bytes = b""
    is_recalled: bool = False


class _Todo(NamedTuple):
    """A cluster that is yet to be compressed."""

    item: bytes | Unread
    key: bytes
    must_store: bool


_Job = list[ZeroRun | _Packed | _Todo]
_Done = list[ZeroRun | _Packed]


class _Work(NamedTuple):
    """How clusters are compressed."""

    codec: Codec
    level: int
    zeros: bytes
    recall: Recall
    store_all: bool


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


def _packed(
    work: _Work, items: Iterable[Item], count: int, threads: int
) -> Iterator[Sequence[ZeroRun | _Packed]]:
    """Recall, or read and compress in threads; yield in order."""
    local = threading.local()

    def start() -> None:
        local.packer = _Packer(work)  # a zstd context serves one thread

    def pack(job: _Job) -> _Done:
        done: _Done = local.packer.pack(job)
        return done

    waiting: deque[_Done | Future[_Done]] = deque()
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        try:
            for job in _jobs(work, items, count):
                done = [one for one in job if not isinstance(one, _Todo)]
                waiting.append(done if len(done) == len(job) else pool.submit(pack, job))
                while len(waiting) > AHEAD * threads or (waiting and _is_done(waiting[0])):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Packer:
    """What one thread needs: a context of the codec, and memory for a job that is used again."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._compress = work.codec.packer(work.level)
        self._buffers: list[_Buffer] = []

    def pack(self, job: _Job) -> _Done:
        """Read and compress what is to be."""
        data = self._read([one for one in job if isinstance(one, _Todo)])
        streams = iter(self._compress([one for one in data if one]))
        filled = iter(data)
        return [
            self._stored(one, next(streams) if next(filled) else b"")
            if isinstance(one, _Todo)
            else one
            for one in job
        ]

    def _read(self, todos: Sequence[_Todo]) -> Buffers:
        """Return the bytes of clusters; none for one of zeros that need not be stored."""
        while len(self._buffers) < len(todos):
            self._buffers.append(_Buffer(len(self._work.zeros)))
        found: Buffers = []
        for todo, buffer in zip(todos, self._buffers, strict=False):
            data = todo.item if isinstance(todo.item, bytes) else buffer.read(todo.item)
            is_stored = todo.must_store or data != self._work.zeros
            found.append(data if is_stored else b"")
        return found

    def _stored(self, todo: _Todo, stream: bytes) -> _Packed:
        if not stream:
            return _Packed(0, b"", "", todo.key)
        padded = pad(self._work.codec, stream, 0, len(self._work.zeros))
        return _Packed(len(stream), padded, piece_digest(padded), todo.key)


class _Buffer:
    """A cluster in memory. What is behind `used` holds zeros."""

    def __init__(self, cluster_bytes: int) -> None:
        self._data = bytearray(cluster_bytes)
        self._view = memoryview(self._data)
        self._used = 0

    def read(self, item: Unread) -> bytearray:
        """Return a cluster; valid until the next is read."""
        end = item.fill(self._view)
        if end < self._used:
            self._view[end : self._used] = bytes(self._used - end)
        self._used = end
        return self._data


def _jobs(work: _Work, items: Iterable[Item], count: int) -> Iterator[_Job]:
    """Gather clusters for a thread."""
    most = max(1, min(JOB_CLUSTERS, JOB_BYTES // len(work.zeros)))
    gathered: list[ZeroRun | _Todo] = []
    held = 0
    for one in _marked(work, items, count):
        gathered.append(one)
        held += not isinstance(one, ZeroRun)
        if held == most:
            yield _recalled(work, gathered)
            gathered, held = [], 0
    if gathered:
        yield _recalled(work, gathered)


def _recalled(work: _Work, items: list[ZeroRun | _Todo]) -> _Job:
    """Put what an earlier build stored in the place of what is yet to be compressed."""
    if work.recall is nothing_known:
        return list(items)
    keys = [b"" if isinstance(one, ZeroRun) else one.key for one in items]
    found = work.recall(keys)
    return [
        one if isinstance(one, ZeroRun) or known is None else _as_packed(one, known)
        for one, known in zip(items, found, strict=True)
    ]


def _as_packed(todo: _Todo, known: Recalled) -> _Todo | _Packed:
    if todo.must_store and not known.stored:
        return todo
    return _Packed(known.stream_bytes, known.stored, known.digest, todo.key, is_recalled=True)


def _is_done(job: "_Done | Future[_Done]") -> bool:
    return not isinstance(job, Future) or job.done()


def _result(job: "_Done | Future[_Done]") -> _Done:
    return job.result() if isinstance(job, Future) else job


def _whole(clusters: Iterable[Item], count: int, cluster_bytes: int) -> Iterator[Item]:
    """Pass on what comes, if it is what was said."""
    at = 0
    for item in clusters:
        at += item.count if isinstance(item, ZeroRun) else 1
        if isinstance(item, bytes) and len(item) != cluster_bytes:
            raise ValueError(f"cluster {at} has {len(item)} bytes, not {cluster_bytes}")
        yield item
    if at != count:
        raise ValueError(f"{at} clusters came, not {count}")


def _marked(work: _Work, items: Iterable[Item], count: int) -> Iterator[ZeroRun | _Todo]:
    """Yield each cluster with its key, and whether it is stored even if it holds zeros.

    The last cluster is: the kernel reads an elided last cluster as an error
    (docs/formats/uzip.md).
    """
    has_keys = work.recall is not nothing_known
    at = 0
    for item in items:
        if not isinstance(item, ZeroRun):
            at += 1
            key = item.key() if has_keys and not isinstance(item, bytes) else b""
            yield _Todo(item, key, work.store_all or at == count)
            continue
        at += item.count
        stored = item.count if work.store_all else int(at == count)
        if run := item.count - stored:
            yield ZeroRun(run)
        yield from repeat(_Todo(work.zeros, b"", must_store=True), stored)


class _Image:
    """The image as far as it is written."""

    def __init__(
        self, out: BinaryIO, codec: Codec, cluster_bytes: int, count: int, search_steps: int
    ) -> None:
        head = head_bytes(count)
        self._out, self._codec, self._cluster_bytes, self._count = out, codec, cluster_bytes, count
        self._first: dict[str, int] = {}  # digest -> the first cluster stored with it
        self._last_offset = 0
        self._steps_left = search_steps
        self.end = head + -head % SECTOR_BYTES
        self.toc = array("Q")
        self.pieces: list[Piece] = []
        self.kept: list[Stored] = []
        self.recalled = 0
        self.stored = self.elided = self.references = self.unpadded = self.size = 0

    def elide(self, run: int) -> None:
        """Note clusters of zeros: their offset is where the next stored one will lie."""
        self.toc.extend(array("Q", (self.end,)) * run)
        self.elided += run

    def add(self, packed: _Packed) -> None:
        """Store a cluster, or refer to an earlier one."""
        self.recalled += packed.is_recalled
        if not packed.padded:
            self.elide(1)
            if packed.key:
                self.kept.append(Stored(packed.key, 0, 0, 0, ""))
            return
        first = self._first.setdefault(packed.digest, len(self.toc))
        if self._may_refer(first):
            self.toc.append(self.toc[first])
            self.references += 1
            self._steps_left -= first + 1
        else:
            self._store(packed)

    def _may_refer(self, first: int) -> bool:
        """Whether the next cluster may be a reference to cluster `first`.

        Not to the one stored last: its length is the distance to the next larger offset, which a
        reference to it would hide. Nor may the last cluster be one, as the end of the one stored
        last would then be sought in the offset that zlib and lzma images do not read.
        """
        return (
            first < len(self.toc) < self._count - 1
            and self.toc[first] != self._last_offset
            and first < self._steps_left
        )

    def _store(self, packed: _Packed) -> None:
        data, digest = packed.padded, packed.digest
        if self.end % SECTOR_BYTES:  # behind one that could not be padded: meet the sectors again
            stream = bytes(data[: packed.stream_bytes])
            data = pad(self._codec, stream, self.end, self._cluster_bytes)
            digest = piece_digest(data)
        self.toc.append(self.end)
        self.pieces.append(Piece(self.end, len(data), digest))
        if packed.key and digest == packed.digest:  # as it would be at the start of a sector
            row = Stored(packed.key, self.end, len(data), packed.stream_bytes, digest)
            self.kept.append(row)
        self._out.write(data)
        self._last_offset = self.end
        self.end += len(data)
        self.stored += 1
        self.unpadded += self.end % SECTOR_BYTES != 0

    def finish(self) -> None:
        """Write the true end, what fills the file up, and the head."""
        self.toc.append(self.end)
        self.size = max(self.end + -self.end % ALIGNMENT_BYTES, HEAD_BYTES)
        if filling := bytes(self.size - self.end):
            self._out.write(filling)
            self.pieces.append(Piece(self.end, len(filling), piece_digest(filling)))
        magic = self._codec.reference_magic if self.references else self._codec.magic
        head = pack_head(magic, self._cluster_bytes, self.toc)
        head += bytes(-len(head) % SECTOR_BYTES)
        self.pieces.insert(0, Piece(0, len(head), piece_digest(head)))
        self._out.seek(0)
        self._out.write(head)


def _digests(out: BinaryIO) -> tuple[str, str]:
    """Read the image back: its head was written last, and a digest goes from front to end."""
    out.seek(0)
    head = out.read(HEAD_BYTES)
    whole = hashlib.sha256(head)
    while data := out.read(READ_BYTES):
        whole.update(data)
    return whole.hexdigest(), hashlib.sha256(head).hexdigest()
