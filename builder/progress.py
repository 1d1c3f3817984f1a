"""Bytes done, counted by several threads and told a few times a second."""

import threading
import time
from collections.abc import Iterable, Iterator

from builder.tree import Node
from slots.events import Emit, Progress

INTERVAL_S = 0.1
_LARGE_BYTES = 8 << 20


class Meter:
    """Counts the bytes of one step; safe to use from threads."""

    def __init__(self, emit: Emit, step: str, subject: str = "") -> None:
        self._emit, self._step, self._subject = emit, step, subject
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._told_at = 0.0

    def add(self, count: int) -> None:
        """Count bytes that were done."""
        with self._lock:
            self._tell(self._done_bytes + count)

    def reach(self, done_bytes: int) -> None:
        """Say how many bytes are done in all."""
        with self._lock:
            self._tell(done_bytes)

    def _tell(self, done_bytes: int) -> None:
        self._done_bytes = done_bytes
        now = time.monotonic()
        if now - self._told_at >= INTERVAL_S:
            self._told_at = now
            self._emit(Progress(self._step, done_bytes, self._subject))


def counted(
    contents: Iterable[tuple[Node, Iterator[bytes]]], meter: Meter
) -> Iterator[tuple[Node, Iterator[bytes]]]:
    """Count the bytes of files that pass: of large ones as they come, of others in one go."""
    for node, chunks in contents:
        if node.size > _LARGE_BYTES:
            yield node, _counted(chunks, meter)
        else:
            yield node, chunks
            meter.add(node.size)


def _counted(chunks: Iterator[bytes], meter: Meter) -> Iterator[bytes]:
    for chunk in chunks:
        meter.add(len(chunk))
        yield chunk
