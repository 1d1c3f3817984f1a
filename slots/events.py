"""What happens, as data: code emits events, only a sink knows terminals.

A sink is any callable that takes an event: a live display, JSON lines, `list.append` in a test.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A step began. `subject` is the thing it works on (a host, a file; empty: the whole)."""

    step: str
    subject: str = ""
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A step went on: `done_bytes` so far, of the total that its start named."""

    step: str
    done_bytes: int
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A step ended well. `detail` is what a reader wants to know of it, in one phrase."""

    step: str
    subject: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A step failed."""

    step: str
    message: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user should know that stops nothing."""

    message: str
    subject: str = ""


Event = Started | Progress | Finished | Failed | Notice
Emit = Callable[[Event], None]


@contextmanager
def step(
    emit: Emit, name: str, subject: str = "", total_bytes: int | None = None
) -> Iterator[list[str]]:
    """Emit the start and the end of what happens inside.

    Yields a list: what is appended to it becomes the detail of the end.
    """
    emit(Started(name, subject, total_bytes))
    detail: list[str] = []
    try:
        yield detail
    except BaseException as error:
        emit(Failed(name, str(error) or type(error).__name__, subject))
        raise
    emit(Finished(name, subject, ", ".join(detail)))
