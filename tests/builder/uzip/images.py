"""Images for the tests of the container."""

import io
import random
from collections.abc import Sequence

from builder.clusters import Cluster
from builder.uzip.codecs import codec_of
from builder.uzip.writer import Written, write

SIZE = 16_384


def text(seed: int, size: int = SIZE) -> bytes:
    """Content that compresses."""
    return (b"line %d of a file\n" % seed * (size // 8))[:size]


def noise(seed: int, size: int = SIZE) -> bytes:
    """Content that does not."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same in every run


def zeros(_: int, size: int = SIZE) -> bytes:
    return bytes(size)


def image(
    clusters: Sequence[Cluster],
    codec: str = "zstd",
    size: int = SIZE,
    count: int | None = None,
    threads: int = 2,
    *,
    store_all: bool = False,
) -> tuple[bytes, Written]:
    """Write an image; the count is that of the clusters unless it is given."""
    chosen, level = codec_of(codec)
    out = io.BytesIO()
    total = sum(1 if isinstance(one, bytes) else one.count for one in clusters)
    written = write(
        iter(clusters),
        total if count is None else count,
        out,
        codec=chosen,
        level=level,
        cluster_bytes=size,
        threads=threads,
        store_all=store_all,
    )
    return out.getvalue(), written
