"""Where events go while a command works: a live table on a terminal, JSON lines without one."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deployer.console import colours
from deployer.wording import megabytes
from slots.events import Emit, Event, Failed, Finished, Notice, Progress, Started

TELL_EVERY_S = 1.0


@contextmanager
def sink(*, quiet: bool = False, looks: bool = False) -> Iterator[Emit]:
    """Return where events go: a live table if stderr is a terminal, else JSON lines.

    A command that only `looks` writes no line for each step of its looking, only notices.
    """
    if quiet:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield JsonLines(notices_only=looks)
        return
    table = LiveTable()
    console = Console(stderr=True, color_system=colours())
    with Live(
        get_renderable=table.render, console=console, refresh_per_second=8, transient=True
    ) as live:
        table.live = live
        yield table


class JsonLines:
    """One JSON object per event on stderr; progress at most once a second for each host."""

    def __init__(self, *, notices_only: bool = False) -> None:
        self._notices_only = notices_only
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write one event; a reader who has gone does not end the work."""
        if self._notices_only and not isinstance(event, Notice):
            return
        if isinstance(event, Failed) and threading.current_thread() is threading.main_thread():
            return  # a step of the whole: its error ends the command, which tells it
        with self._lock, suppress(OSError):
            if isinstance(event, Progress):
                now = time.monotonic()
                if now - self._told.get(event.subject, 0.0) < TELL_EVERY_S:
                    return
                self._told[event.subject] = now
            kind = type(event).__name__.lower()
            line = json.dumps({"event": kind, **asdict(event)}, separators=(",", ":"))
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - a sink


@dataclass(slots=True)
class Row:
    """What the live table shows of one host."""

    step: str = ""
    since: float = field(default_factory=time.monotonic)
    total_bytes: int | None = None
    done_bytes: int = 0
    detail: str = ""
    failed: bool = False


class LiveTable:
    """A row per host: step, bytes, rate, time left."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._rows: dict[str, Row] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            match event:
                case Started(step, subject, total):
                    self._rows[subject] = Row(step, total_bytes=total)
                case Progress(_, done, subject):
                    self._rows.setdefault(subject, Row()).done_bytes = done
                case Finished(_, subject, detail):
                    self._rows.setdefault(subject, Row()).detail = detail or "done"
                case Failed(_, message, subject):
                    row = self._rows.setdefault(subject, Row())
                    row.detail, row.failed = message, True
                case Notice(message, subject):
                    self._notice(message, subject)

    def _notice(self, message: str, subject: str) -> None:
        if self.live is None:
            return
        with suppress(OSError):  # the terminal has gone
            self.live.console.print(Text(f"{subject}: {message}" if subject else message))

    def render(self) -> Group:
        """Return the table as it is now."""
        table = Table(box=None, pad_edge=False, show_header=True)
        for name in ("host", "step", "", "rate", "left", ""):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        with self._lock:
            for subject, row in self._rows.items():
                table.add_row(*_cells(subject, row))
        return Group(table)


def _cells(subject: str, row: Row) -> tuple[Text, ...]:
    spent = max(0.001, time.monotonic() - row.since)
    amount, rate, left = "", "", ""
    if row.total_bytes:
        speed = row.done_bytes / spent
        amount = f"{megabytes(row.done_bytes)} of {megabytes(row.total_bytes)}"
        rate = f"{megabytes(int(speed))}/s" if row.done_bytes else ""
        left = f"{(row.total_bytes - row.done_bytes) / speed:.0f} s" if row.done_bytes else ""
    style = "red" if row.failed else ""
    words = (subject, row.step, amount, rate, left, row.detail)
    return tuple(Text(word, style=style) for word in words)
