"""How a command ends: with its exit code, whatever it met, and whoever went away meanwhile."""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from stat import S_ISCHR
from types import FrameType
from typing import NoReturn, TextIO

from deployer.console import complain, print_json
from deployer.documents import Document
from deployer.rollout import Terminated, interruption_code
from slots import failure
from slots.errors import Exit, ProductError

BROKEN_PIPE = 141  # as a shell tells of who was ended by SIGPIPE
_STDERR = 2
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def run(name: str, command: Callable[[], int], *, as_json: bool = False) -> int:
    """Run a command line and return its exit code; an expected error is one line and a hint."""
    try:
        code = command()
        sys.stdout.flush()  # what cannot be written is told here, not at the interpreter's end
    except ProductError as error:
        return _fail(name, error, as_json=as_json)
    except KeyboardInterrupt as cause:
        code = interruption_code(cause)
        _complain(name, "interrupted", "")
        return _tell(failure.interruption("interrupted", code), code, as_json=as_json)
    except OSError as error:
        return _fail_on_disk(name, error)
    except Exception:  # noqa: BLE001 - a bug: its traceback is what we want to see
        return _bug(name)
    return code


def _fail(name: str, error: ProductError, *, as_json: bool) -> int:
    _complain(name, error.message, error.hint)
    return _tell(failure.error(error), int(error.exit_code), as_json=as_json)


def _fail_on_disk(name: str, error: OSError) -> int:
    """Tell of an output that fails; the rest is a bug."""
    if error.errno == errno.EPIPE:
        _forget(sys.stdout)
        return BROKEN_PIPE
    if error.errno not in UNWRITABLE:
        return _bug(name)
    _forget(sys.stdout)
    _complain(name, f"the output cannot be written: {error.strerror}", "")
    return int(Exit.INTERNAL)


def _bug(name: str) -> int:
    with suppress(OSError):
        traceback.print_exc()
    _complain(name, "internal error; the traceback above is a bug", "")
    return int(Exit.INTERNAL)


def _tell(document: Document, code: int, *, as_json: bool) -> int:
    """Tell a failed command's end to who reads JSON; return its exit code."""
    try:
        if as_json:
            print_json(document)
        sys.stdout.flush()
    except OSError:
        _forget(sys.stdout)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once, whatever other threads do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def end_softly() -> None:
    """Let SIGTERM and SIGHUP end a rollout as Ctrl-C does; nohup's choice is respected."""

    def end(number: int, _frame: FrameType | None) -> None:
        _forget_lost_terminals()
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _forget_lost_terminals() -> None:
    """Turn to /dev/null what was a terminal and has hung up: no summary may fail on it."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed already
            if S_ISCHR(os.fstat(stream.fileno()).st_mode) and not stream.isatty():
                _forget(stream)


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


def _forget(stream: TextIO) -> None:
    """Let nothing that is still buffered fail again at the interpreter's end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream.fileno())


def _complain(name: str, message: str, hint: str) -> None:
    try:
        complain(name, message, hint)
        sys.stderr.flush()
    except OSError:
        _forget(sys.stderr)
