"""The path of an image's bytes into a slot: read from the release, streamed into the verb."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from slots.errors import VerificationError
from slots.events import Emit, Progress

READ_BYTES = 32_704 * 8
TELL_EVERY_S = 0.1


def stream(
    path: Path,
    start: int,
    end: int,
    *,
    step: str,
    subject: str,
    emit: Emit,
    stop: Callable[[], None],
) -> Iterator[memoryview]:
    """Yield the bytes of a file from `start` to `end`, and tell how far the work is.

    `stop` is called between pieces; it raises to end the work.
    """
    told_at, done = 0.0, 0
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while done < end - start:
                stop()
                piece = file.read(min(READ_BYTES, end - start - done))
                if not piece:
                    raise VerificationError(f"{path} became shorter while it was sent")
                yield memoryview(piece)
                done += len(piece)
                if time.monotonic() - told_at >= TELL_EVERY_S:
                    told_at = time.monotonic()
                    emit(Progress(step, done, subject))
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}") from error
    emit(Progress(step, done, subject))
