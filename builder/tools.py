"""Other programs as children: found or named with their package, fed, watched, ended with us."""

import fcntl
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from slots.errors import BuildError, ConfigError, ProductError

_PIPE_BYTES = 1 << 20
_DISK_FULL = "No space left on device"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, and the packages that bring it."""

    name: str
    debian: str
    freebsd: str

    def path(self) -> str:
        """Return where it is installed, or say which package to install."""
        found = shutil.which(self.name)
        if found is None:
            raise ConfigError(
                f"{self.name} is not installed",
                hint=f"Debian: apt-get install {self.debian}; FreeBSD: pkg install {self.freebsd}",
            )
        return found


def words(tool: Tool, *arguments: str) -> str:
    """Return all that a tool says when asked about itself, whatever its exit status."""
    done = subprocess.run(
        [tool.path(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def version(text: str) -> tuple[int, ...]:
    """Return the first version number in a text: (4, 5, 1)."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def feed(
    tool: Tool,
    arguments: Sequence[str],
    chunks: Iterable[bytes],
    count: Callable[[int], None],
    environment: Mapping[str, str],
) -> None:
    """Run a tool with these bytes on its stdin; a failure shows what the tool said."""
    with _child(tool, arguments, subprocess.PIPE, subprocess.DEVNULL, environment) as (child, said):
        stdin = child.stdin
        if stdin is None:
            raise AssertionError("a pipe was asked for")
        try:
            for chunk in chunks:
                stdin.write(chunk)
                count(len(chunk))
            stdin.close()
        except BrokenPipeError:
            child.wait()
        _raise_failure(tool, child.wait(), said)


def run(tool: Tool, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a tool to its end; a failure shows what the tool said."""
    with _child(tool, arguments, subprocess.DEVNULL, subprocess.DEVNULL, environment) as (
        child,
        said,
    ):
        _raise_failure(tool, child.wait(), said)


@contextmanager
def output(
    tool: Tool, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[IO[bytes]]:
    """Run a tool and read its stdout; leaving early ends it, the end of stdout checks it.

    Who finds that the stdout of a tool that failed makes no sense is told why it failed.
    """
    with _child(tool, arguments, subprocess.DEVNULL, subprocess.PIPE, environment) as (child, said):
        stdout = child.stdout
        if stdout is None:
            raise AssertionError("a pipe was asked for")
        _widen(stdout)
        try:
            yield stdout
        except ProductError:
            if not stdout.read(1):
                _raise_failure(tool, child.wait(), said)
            raise
        if not stdout.read(1):
            _raise_failure(tool, child.wait(), said)


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold as much as an ordinary user may have: fewer turns of writer and reader."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


@contextmanager
def _child(
    tool: Tool,
    arguments: Sequence[str],
    stdin: int,
    stdout: int,
    environment: Mapping[str, str],
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start a child in a session of its own: Ctrl-C reaches us, and we end it."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [tool.path(), *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=said,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            yield child, said
        finally:
            if child.poll() is None:
                child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    _close(pipe)
            child.wait()


def _close(pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()


def _raise_failure(tool: Tool, status: int, said: IO[bytes]) -> None:
    if status == 0:
        return
    said.seek(0)
    lines = said.read().decode(errors="replace").replace("\r", "\n").splitlines()
    told = "; ".join(line.strip() for line in lines if line.strip())[:800] or "it said nothing"
    if _DISK_FULL in told:
        raise BuildError(f"{tool.name}: no space left on the device of the image")
    how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    raise BuildError(f"{tool.name} failed ({how}): {told}")
