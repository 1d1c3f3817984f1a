"""How a build looks: live on a terminal, JSON lines without one; the command's error boundary.

The only place of `image` that writes to stdout and stderr. Events go to stderr, results to stdout.
"""

import errno
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
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

from builder import documents
from builder.documents import Document
from slots import events
from slots.errors import Exit, ProductError
from slots.events import Emit

_INTERVAL_S = 1.0
_STDERR = 2
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_UNUSABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR}
)
_INTERRUPTED = 130
_TERMINATED = 143
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


def prepare_streams() -> None:
    """Let no stream fail a command: one that is closed (`>&-`) is /dev/null, odd names are escaped.

    Were it left closed, the next file that is opened would be the stdout of every tool we start.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def run(command: Callable[[], None], *, as_json: bool) -> int:
    """Run a command; an expected failure is one line and a hint, anything else is a bug."""
    with _ending_softly():
        try:
            command()
            sys.stdout.flush()
        except ProductError as error:
            _say_error(error, as_json=as_json)
            return int(error.exit_code)
        except KeyboardInterrupt:
            sys.stderr.write("image: interrupted, nothing is left behind\n")
            return _INTERRUPTED
        except _Terminated:
            sys.stderr.write("image: terminated, nothing is left behind\n")
            return _TERMINATED
        except OSError as error:
            return _fail_on_disk(error)
        except Exception:  # noqa: BLE001 - the boundary: a bug keeps its traceback
            sys.stderr.write(traceback.format_exc())
            return int(Exit.INTERNAL)
    return int(Exit.DONE)


def _fail_on_disk(error: OSError) -> int:
    """Tell of a stdout that takes no more, of a path that cannot be; the rest is a bug."""
    if isinstance(error, BrokenPipeError):  # who reads us has gone (`| head`)
        _forget_stdout()
        return int(Exit.DONE)
    if error.filename is None and error.errno in _UNWRITABLE:
        _forget_stdout()
        sys.stderr.write(f"image: the output cannot be written: {error.strerror}\n")
        return int(Exit.INTERNAL)
    if error.filename is not None and error.errno in _UNUSABLE:
        sys.stderr.write(f"image: {os.fsdecode(error.filename)}: {error.strerror}\n")
        return int(Exit.REFUSED)
    sys.stderr.write("".join(traceback.format_exception(error)))
    return int(Exit.INTERNAL)


def _forget_stdout() -> None:
    """Let what is still buffered not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(BaseException):
    """SIGTERM or SIGHUP came."""


@contextmanager
def _ending_softly() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a build as Ctrl-C does: children too, nothing left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    kept = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _say_error(error: ProductError, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(documents.error(error)) + "\n")
    sys.stderr.write(f"image: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {error.hint}\n")


def _json_lines() -> Emit:
    """Return a sink that writes one JSON object per event, of progress one a second."""
    told_at: dict[tuple[str, str], float] = {}
    lock = threading.Lock()

    def emit(event: events.Event) -> None:
        with lock:
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
