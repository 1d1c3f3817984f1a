"""How a build looks: live on a terminal, JSON lines without one.

The only place of `image` that writes to stdout and stderr. Events go to stderr, results to stdout.
"""

import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import BinaryIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from builder.documents import Document
from slots import events
from slots.events import Emit

_INTERVAL_S = 1.0
_STEPS = {
    "scan": "reading the tree",
    "digest": "digests of the files",
    "uzip": "writing",
    "iso9660": "writing",
    "squashfs": "writing",
    "erofs": "writing",
    "index": "index",
    "verify": "verifying",
    "extract": "extracting",
}


@contextmanager
def progress() -> Iterator[Emit]:
    """Give a sink for events: live on a terminal, JSON lines otherwise."""
    if sys.stderr.isatty():
        with _live() as emit:
            yield emit
    else:
        yield _json_lines()


def say(lines: Iterable[str]) -> None:
    """Write the lines of the result."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def say_json(document: Document) -> None:
    """Write the result as JSON."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def raw_output() -> BinaryIO:
    """Return where bytes of a file go."""
    return sys.stdout.buffer


def complain(message: str, hint: str) -> None:
    """Say on stderr why a command failed."""
    sys.stderr.write(f"image: {message}\n")
    if hint:
        sys.stderr.write(f"    {hint}\n")
    sys.stderr.flush()


def _json_lines() -> Emit:
    """Return a sink that writes one JSON object per event, of progress one a second."""
    told_at: dict[tuple[str, str], float] = {}
    lock = threading.Lock()

    def emit(event: events.Event) -> None:
        if isinstance(event, events.Failed):
            return  # its error ends the command, which tells it
        with lock, suppress(OSError):  # a reader who has gone does not end the work
            if isinstance(event, events.Progress):
                key, now = (event.step, event.subject), time.monotonic()
                if now - told_at.setdefault(key, now) < _INTERVAL_S:
                    return
                told_at[key] = now
            line = {"event": type(event).__name__.lower()} | asdict(event)
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()

    return emit


@contextmanager
def _live() -> Iterator[Emit]:
    """Show what is being done, bytes, rate and time left."""
    console = Console(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as display:
        yield _painter(display)


def _painter(display: Progress) -> Emit:
    tasks: dict[tuple[str, str], tuple[TaskID, float]] = {}

    def emit(event: events.Event) -> None:
        match event:
            case events.Started(step, subject, total_bytes):
                task = display.add_task(_title(step, subject), total=total_bytes)
                tasks[step, subject] = (task, time.monotonic())
            case events.Progress(step, done_bytes, subject):
                display.update(tasks[step, subject][0], completed=done_bytes)
            case events.Finished(step, subject, detail):
                task, since = tasks.pop((step, subject))
                display.remove_task(task)
                seconds = f"{time.monotonic() - since:.1f} s"
                told = ", ".join(part for part in (detail, seconds) if part)
                display.print(Text(f"✓ {_title(step, subject)}: {told}"))
            case events.Failed(step, _, subject):
                display.remove_task(tasks.pop((step, subject))[0])
            case events.Notice(message, subject):
                place = f"{subject}: " if subject else ""
                display.print(Text(f"! {place}{message}", style="yellow"))

    return emit


def _title(step: str, subject: str) -> str:
    return " ".join(part for part in (_STEPS.get(step, step), subject) if part)
