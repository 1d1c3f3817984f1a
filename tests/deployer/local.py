"""A Connection without a network: each script is a child of this process. The fake of the suite."""

import os
import select
import subprocess
import threading
import time
from types import TracebackType
from typing import IO, Self

from deployer.connection import STDERR_LIMIT_BYTES, STDOUT_LIMIT_BYTES, Completed, Payload
from slots.errors import UnreachableError
from slots.scripts import command_line


class LocalConnection:
    """Runs scripts here, by the very command line that goes over SSH."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}

    def run(self, script: bytes, payload: Payload = (), *, timeout_s: float) -> Completed:
        with self._popen(script) as process:
            pumps = [
                _Pump(process.stdout, STDOUT_LIMIT_BYTES),
                _Pump(process.stderr, STDERR_LIMIT_BYTES),
            ]
            assert process.stdin is not None
            try:
                process.stdin.write(script)
                for piece in payload:
                    process.stdin.write(piece)
                process.stdin.close()
            except BrokenPipeError:
                pass  # the script has ended: the rest of the payload is dropped
            except BaseException:
                process.kill()
                raise
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise UnreachableError(f"did not answer within {timeout_s:g} s") from error
            for pump in pumps:
                pump.thread.join(0.5)
            out, err = pumps
            return Completed(
                process.returncode, bytes(out.kept), bytes(err.kept), out.cut or err.cut
            )

    def start(self, script: bytes, payload: Payload = ()) -> "LocalSession":
        process = self._popen(script)
        assert process.stdin is not None
        for piece in (script, *payload):
            process.stdin.write(piece)
        process.stdin.flush()
        return LocalSession(process)

    @property
    def alive(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _popen(self, script: bytes) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["/bin/sh", "-c", command_line(len(script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            bufsize=0,
        )


class _Pump:
    """Takes a stream's bytes, keeping no more than a limit."""

    def __init__(self, stream: IO[bytes] | None, limit: int) -> None:
        assert stream is not None
        self.kept = bytearray()
        self.cut = False
        self._stream, self._limit = stream, limit
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self) -> None:
        try:
            while data := self._stream.read(65_536):
                room = self._limit - len(self.kept)
                self.kept += data[:room]
                self.cut = self.cut or len(data) > room
        except (OSError, ValueError):
            pass  # closed: a child of the script had kept it open


class LocalSession:
    """A script that runs as long as its stdin is open."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._buffer = b""

    def send(self, payload: Payload) -> None:
        assert self._process.stdin is not None
        try:
            for piece in payload:
                self._process.stdin.write(piece)
        except BrokenPipeError:
            pass  # the script has ended: the rest of the payload is dropped

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def completed(self, timeout_s: float) -> Completed:
        assert self._process.stderr is not None
        status = self._process.wait(timeout_s)
        os.set_blocking(self._process.stderr.fileno(), False)
        return Completed(status, b"", self._process.stderr.read(STDERR_LIMIT_BYTES) or b"")

    def readline(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise UnreachableError(f"did not answer within {timeout_s:g} s")
            data = os.read(self._process.stdout.fileno(), 65_536)
            if not data:
                line, self._buffer = self._buffer, b""
                return line
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def close(self, timeout_s: float = 10.0) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
