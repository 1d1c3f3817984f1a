"""The seam between a file system and its container: a volume as a run of whole clusters.

The file system yields them in order, the container stores them; neither knows the other. A hole
is an item of its own, so that a volume of which most is empty costs nothing to pass on. A cluster
that is not read yet is one too, so that several threads can read, and what an earlier build
stored need not be read at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class ZeroRun:
    """So many clusters that hold zeros alone."""

    count: int


class Unread(Protocol):
    """A cluster that can be read, from any thread."""

    @property
    def size(self) -> int:
        """Its bytes: a container may allow that one is shorter than others."""

    def key(self) -> bytes:
        """Return a digest of what it is made of, KEY_BYTES long: the same key, the same bytes."""

    def fill(self, buffer: memoryview) -> int:
        """Put its bytes at the start of a buffer, and return how many: zeros follow them.

        The buffer has room for a whole cluster. 0: nothing but zeros lies there.
        """


Cluster = bytes | ZeroRun
"""One whole cluster of data, or a hole of whole clusters."""


class Stored(NamedTuple):
    """Where a container keeps a cluster: `stream_bytes` of the `length` are no padding.

    A length of 0 is a cluster that turned out to hold zeros. Only what does not depend on where
    it lies can be stored elsewhere again.
    """

    key: bytes
    offset: int
    length: int
    stream_bytes: int
    digest: str


class Recalled(NamedTuple):
    """What an earlier build stored of a cluster: the stream and what pads it, and their digest.

    None of it is there for a cluster that turned out to hold zeros.
    """

    stored: bytes | memoryview
    stream_bytes: int
    digest: str


Recall = Callable[[Sequence[bytes]], Sequence[Recalled | None]]
"""Returns what is stored already of the clusters of some keys; b"" is no key."""


def nothing_known(keys: Sequence[bytes]) -> Sequence[Recalled | None]:
    """Know no cluster, and want to know none: who stores them need not make keys."""
    return [None] * len(keys)
