"""What a process says, read as it comes."""

import threading
import time
from collections.abc import Callable
from typing import IO


class Heard:
    """The lines of a stream so far, and when each was heard."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self.lines: list[str] = []
        self.at: list[float] = []  # of each line, in seconds of the monotonic clock
        self._stream = stream
        self._said = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._said:
                self.lines.append(line)
                self.at.append(time.monotonic())
                self._said.notify_all()
        with self._said:
            self._over = True
            self._said.notify_all()

    def wait_for(self, enough: Callable[[], bool], within_s: float) -> bool:
        """Wait until what was said is enough; False if it ended, or the time was up, before."""
        with self._said:
            self._said.wait_for(lambda: self._over or enough(), timeout=within_s)
            return enough()

    def close(self) -> None:
        """Read what is left of a process that has ended."""
        self._reader.join(timeout=10)
        self._stream.close()
