"""The index of an image that is no uzip: content-defined pieces of about 4 KiB (FastCDC).

A change of the image moves the borders around it alone, so that two indexes tell what changed even
where everything behind it has moved.
"""

from collections.abc import Callable
from pathlib import Path

from pyfastcdc import FastCDC

from slots.index import Piece, piece_digest

AVERAGE_BYTES = 4096
MIN_BYTES = 1024
MAX_BYTES = 16384


def cut(image: Path, count: Callable[[int], None]) -> tuple[Piece, ...]:
    """Cut an image into pieces."""
    chunker = FastCDC(AVERAGE_BYTES, min_size=MIN_BYTES, max_size=MAX_BYTES, normalized_chunking=1)
    pieces: list[Piece] = []
    with image.open("rb", buffering=0) as file:
        for chunk in chunker.cut_stream(file):
            pieces.append(Piece(chunk.offset, chunk.length, piece_digest(chunk.data)))
            count(chunk.length)
    return tuple(pieces)
