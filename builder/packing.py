"""Clusters → as they are stored: recalled from an earlier build, or read and compressed.

Threads read and compress. A job is several clusters, for handing over costs more than a small one
is worth; no more are under way than the threads need, so that memory does not grow with the image.
A cluster whose stream an earlier build left is neither read nor compressed.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

from builder.clusters import Recall, Recalled, Unread, ZeroRun, nothing_known
from builder.streams import Buffers, Transforms
from slots.index import piece_digest

AHEAD = 3
"""Jobs under way per thread."""

JOB_CLUSTERS = 32
JOB_BYTES = 2 << 20
"""The most of a job."""

Item = bytes | ZeroRun | Unread
Buffer = bytes | bytearray | memoryview


class Packed(NamedTuple):
    """A cluster as it is stored, and the digest of that.

    What is behind `stream_bytes` of it is padding. A cluster of zeros that need not be stored has
    none.
    """

    stream_bytes: int
    stored: bytes | memoryview
    digest: str
    key: bytes = b""
    is_recalled: bool = False


class _Todo(NamedTuple):
    """A cluster that is yet to be compressed."""

    item: bytes | Unread
    key: bytes
    must_store: bool


_Job = list[ZeroRun | Packed | _Todo]
_Done = list[ZeroRun | Packed]


class Work(NamedTuple):
    """How clusters are compressed, and what is stored of a stream and of what it was made of.

    `transforms` makes what one thread needs: a context of zstd serves one.
    """

    transforms: Callable[[], Transforms]
    stored: Callable[[bytes, Buffer], bytes]
    zeros: bytes  # a whole cluster
    recall: Recall
    store_all: bool  # those of zeros too


def pack(
    work: Work, items: Iterable[Item], last: int, threads: int
) -> Iterator[Sequence[ZeroRun | Packed]]:
    """Recall, or read and compress in threads; yield in order.

    The cluster that is number `last`, from 1, is stored even if it holds zeros; 0: none is.
    """
    local = threading.local()

    def start() -> None:
        local.packer = _Packer(work)

    def packed(job: _Job) -> _Done:
        done: _Done = local.packer.pack(job)
        return done

    waiting: deque[_Done | Future[_Done]] = deque()
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        try:
            for job in _jobs(work, items, last):
                done = [one for one in job if not isinstance(one, _Todo)]
                waiting.append(done if len(done) == len(job) else pool.submit(packed, job))
                while len(waiting) > AHEAD * threads or (waiting and _is_done(waiting[0])):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Packer:
    """What one thread needs: a context of the codec, and memory for a job that is used again."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._compress = work.transforms()
        self._buffers: list[_Buffer] = []

    def pack(self, job: _Job) -> _Done:
        """Read and compress what is to be."""
        data = self._read([one for one in job if isinstance(one, _Todo)])
        streams = iter(self._compress([one for one in data if one]))
        filled = iter(data)
        return [
            self._packed(one, next(filled), streams) if isinstance(one, _Todo) else one
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
            found.append(_cut(data, todo.item) if is_stored else b"")
        return found

    def _packed(self, todo: _Todo, data: Buffer, streams: Iterator[bytes]) -> Packed:
        if not data:
            return Packed(0, b"", "", todo.key)
        stream = next(streams)
        stored = self._work.stored(stream, data)
        return Packed(len(stream), stored, piece_digest(stored), todo.key)


def _cut(data: bytes | bytearray, item: bytes | Unread) -> Buffer:
    """Return what there is of a cluster: the last one of a file may be short."""
    if isinstance(item, bytes) or item.size == len(data):
        return data
    return memoryview(data)[: item.size]


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


def _jobs(work: Work, items: Iterable[Item], last: int) -> Iterator[_Job]:
    """Gather clusters for a thread."""
    most = max(1, min(JOB_CLUSTERS, JOB_BYTES // len(work.zeros)))
    gathered: list[ZeroRun | _Todo] = []
    held = 0
    for one in _marked(work, items, last):
        gathered.append(one)
        held += not isinstance(one, ZeroRun)
        if held == most:
            yield _recalled(work, gathered)
            gathered, held = [], 0
    if gathered:
        yield _recalled(work, gathered)


def _recalled(work: Work, items: list[ZeroRun | _Todo]) -> _Job:
    """Put what an earlier build stored in the place of what is yet to be compressed."""
    if work.recall is nothing_known:
        return list(items)
    keys = [b"" if isinstance(one, ZeroRun) else one.key for one in items]
    found = work.recall(keys)
    return [
        one if isinstance(one, ZeroRun) or known is None else _as_packed(one, known)
        for one, known in zip(items, found, strict=True)
    ]


def _as_packed(todo: _Todo, known: Recalled) -> _Todo | Packed:
    if todo.must_store and not known.stored:
        return todo
    return Packed(known.stream_bytes, known.stored, known.digest, todo.key, is_recalled=True)


def _is_done(job: "_Done | Future[_Done]") -> bool:
    return not isinstance(job, Future) or job.done()


def _result(job: "_Done | Future[_Done]") -> _Done:
    return job.result() if isinstance(job, Future) else job


def _marked(work: Work, items: Iterable[Item], last: int) -> Iterator[ZeroRun | _Todo]:
    """Yield each cluster with its key, and whether it is stored even if it holds zeros."""
    has_keys = work.recall is not nothing_known
    at = 0
    for item in items:
        if not isinstance(item, ZeroRun):
            at += 1
            key = item.key() if has_keys and not isinstance(item, bytes) else b""
            yield _Todo(item, key, work.store_all or at == last)
            continue
        at += item.count
        stored = item.count if work.store_all else int(at == last)
        if run := item.count - stored:
            yield ZeroRun(run)
        yield from repeat(_Todo(work.zeros, b"", must_store=True), stored)
