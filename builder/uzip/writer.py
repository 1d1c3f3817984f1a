"""Clusters → a uzip image that geom_uzip reads: docs/formats/uzip.md.

Threads make them what is stored (builder/packing.py), the caller's thread writes. The place of the
TOC is kept free, and it is written last.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from builder.clusters import Recall, Stored, ZeroRun, nothing_known
from builder.packing import Item, Packed, Work, pack
from builder.uzip.codecs import Codec, check_cluster_bytes, pad
from builder.uzip.header import SECTOR_BYTES, head_bytes, pack_head
from slots.index import Piece, piece_digest
from slots.manifest import ALIGNMENT_BYTES, HEAD_BYTES

SEARCH_STEPS = 1 << 28
"""The kernel finds what a reference means by a walk over the TOC: so many steps (a fraction of a
second) are spent on references, the clusters that repeat beyond are stored again."""

READ_BYTES = 1 << 20


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
    work = Work(
        transforms=lambda: codec.packer(level),
        stored=lambda stream, data: pad(codec, stream, 0, len(data)),
        zeros=bytes(cluster_bytes),
        recall=recall,
        store_all=store_all,
    )
    whole = _whole(clusters, count, cluster_bytes)
    # The last one is stored: the kernel reads an elided last cluster as an error.
    for items in pack(work, whole, count, threads):
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

    def add(self, packed: Packed) -> None:
        """Store a cluster, or refer to an earlier one."""
        self.recalled += packed.is_recalled
        if not packed.stored:
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

    def _store(self, packed: Packed) -> None:
        data, digest = packed.stored, packed.digest
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
