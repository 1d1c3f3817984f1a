"""How `image` ends: with its exit code, whatever it met, and whoever went away meanwhile.

`deploy` ends likewise (deployer/ending.py); docs/image.md lists the codes.
"""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from builder import console
from builder.documents import Document
from slots import failure
from slots.errors import ConfigError, Exit, ProductError

BROKEN_PIPE = 141  # as a shell tells of who was ended by SIGPIPE
_INTERRUPTED = "interrupted, nothing is left behind"
_STDERR = 2
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_UNUSABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR}
)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: a Ctrl-C with another number."""

    def __init__(self, number: int) -> None:
        super().__init__("terminated")
        self.number = number


def run(command: Callable[[], int], *, as_json: bool) -> int:
    """Run a command line and return its exit code; an expected error is one line and a hint."""
    try:
        code = command()
        sys.stdout.flush()  # what cannot be written is told here, not at the interpreter's end
    except ProductError as error:
        return _fail(error, as_json=as_json)
    except KeyboardInterrupt as cause:
        code = 128 + (cause.number if isinstance(cause, Terminated) else signal.SIGINT)
        _complain(_INTERRUPTED, "")
        return _tell(failure.interruption(_INTERRUPTED, code), code, as_json=as_json)
    except OSError as error:
        return _fail_on_disk(error, as_json=as_json)
    except Exception:  # noqa: BLE001 - a bug: its traceback is what we want to see
        return _bug()
    return code


def _fail(error: ProductError, *, as_json: bool) -> int:
    _complain(error.message, error.hint)
    return _tell(failure.error(error), int(error.exit_code), as_json=as_json)


def _fail_on_disk(error: OSError, *, as_json: bool) -> int:
    """Tell of a stdout that takes no more, of a path that cannot be; the rest is a bug."""
    if error.errno == errno.EPIPE:  # who reads us has gone (`| head`)
        _forget_stdout()
        return BROKEN_PIPE
    if error.filename is None and error.errno in _UNWRITABLE:
        _forget_stdout()
        _complain(f"the output cannot be written: {error.strerror}", "")
        return int(Exit.INTERNAL)
    if error.filename is not None and error.errno in _UNUSABLE:
        refusal = ConfigError(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return _fail(refusal, as_json=as_json)
    return _bug()


def _bug() -> int:
    with suppress(OSError):
        traceback.print_exc()
    _complain("internal error; the traceback above is a bug", "")
    return int(Exit.INTERNAL)


def _tell(document: Document, code: int, *, as_json: bool) -> int:
    """Tell a failed command's end to who reads JSON; return its exit code."""
    try:
        if as_json:
            console.say_json(document)
        sys.stdout.flush()
    except OSError:
        _forget_stdout()
    return code


def _complain(message: str, hint: str) -> None:
    with suppress(OSError):  # nobody listens
        console.complain(message, hint)


def _forget_stdout() -> None:
    """Let what is still buffered not fail again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_softly() -> None:
    """Let SIGTERM and SIGHUP end a build as Ctrl-C does; nohup's choice is respected."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


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
