"""The command `image` in this process: what it said, and how it ended."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from builder.cli import run


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    exit_code: int
    stdout_bytes: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        """Return its result as text."""
        return self.stdout_bytes.decode()

    @property
    def output(self) -> str:
        """Return all that it said."""
        return self.stdout + self.stderr


def image(*arguments: str | Path) -> Ran:
    """Run `image` with these arguments."""
    out, err = (io.TextIOWrapper(io.BytesIO(), errors="backslashreplace") for _ in "oe")
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(one) for one in arguments])
    said = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        said.append(stream.buffer.getvalue())
    return Ran(status, said[0], said[1].decode())
