"""IMAGE OUT: a file system image that is there already → uzip of 64 KiB clusters, zstd 9.

The second half of the peer "xorriso, then a uzip writer": there is no mkuzip on Linux, so the
product's own writer, with its threads, stands for it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from builder.build import default_threads
from builder.uzip import writer
from builder.uzip.codecs import codec_of

CLUSTER_BYTES = 65_536
LEVEL = 9


def _clusters(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CLUSTER_BYTES):
            yield data.ljust(CLUSTER_BYTES, b"\0")


def main(image: Path, out: Path) -> None:
    """Compress an image."""
    count = -(-image.stat().st_size // CLUSTER_BYTES)
    codec, level = codec_of("zstd", LEVEL)
    with out.open("w+b") as file:
        writer.write(
            _clusters(image), count, file, codec=codec, level=level, cluster_bytes=CLUSTER_BYTES,
            threads=default_threads(),
        )  # fmt: skip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
