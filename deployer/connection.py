"""The seam to a frontend: run a script there, or keep one running."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from slots.errors import UnreachableError

Payload = Iterable[bytes | memoryview]

STDOUT_LIMIT_BYTES = 1 << 20
STDERR_LIMIT_BYTES = 1 << 16


class AnotherKeyError(UnreachableError):
    """A host shows another key than the one that is known of it: no word is spoken with it."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a script left: its status (negative: ended by a signal), and what it wrote.

    `stdout` and `stderr` hold at most the limits above; `cut` says that more was written.
    """

    status: int
    stdout: bytes
    stderr: bytes
    cut: bool = False


class Session(Protocol):
    """A script that was started, and is fed and heard while it runs."""

    def send(self, payload: Payload) -> None:
        """Feed it more; the rest is dropped if it has ended."""

    def end_input(self) -> None:
        """End its stdin."""

    def completed(self, timeout_s: float) -> Completed:
        """Wait for its end, when its output has ended; what was read of stdout is not in it."""

    def readline(self, timeout_s: float) -> bytes:
        """Return the next line of its output with its newline; empty when it has ended.

        Raises UnreachableError if no line comes in time.
        """

    def close(self, timeout_s: float = 10.0) -> None:
        """End its stdin, wait for it, forget it. May be called twice; raises nothing."""


class Connection(Protocol):
    """One open way to a frontend. Everything raises UnreachableError when the way is gone."""

    def run(self, script: bytes, payload: Payload = (), *, timeout_s: float) -> Completed:
        """Run a script of POSIX sh, feed it the payload as stdin, and wait for its end.

        `timeout_s` counts from the payload's end; a payload that stalls has a deadline of its own.
        A script may end before it has read the payload: the rest is then dropped.
        """

    def start(self, script: bytes, payload: Payload = ()) -> Session:
        """Start a script, feed it the payload, and leave its stdin open."""

    @property
    def alive(self) -> bool:
        """Whether it is open, as far as that is known without asking."""

    def close(self) -> None:
        """Hang up. May be called twice; raises nothing."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
