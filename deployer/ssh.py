"""A Connection over paramiko: what runs through a login (deployer/login.py makes it).

Each wait has a deadline: a frontend that is half dead costs seconds, not the rollout. One
connection per host carries the lock's session and every script after it.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import paramiko

from deployer.connection import (
    STDERR_LIMIT_BYTES,
    STDOUT_LIMIT_BYTES,
    Completed,
    Payload,
    Session,
)
from deployer.inventory import Host, SshSettings
from deployer.login import log_in, phrase, resolve
from slots.errors import UnreachableError
from slots.events import Emit
from slots.scripts import command_line

PIECE_BYTES = 32_704  # the largest that fits one SSH packet of 32 KiB with its head
POLL_S = 0.2
LAST_WORDS_S = 1.0


def connect(host: Host, emit: Emit) -> "SshConnection":
    """Log in to a host; UnreachableError says in one line why that failed."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs what we raise
    transports = log_in(resolve(host, emit), host.ssh, emit)
    return SshConnection(host.name, transports, host.ssh)


class SshConnection:
    """One login on a frontend. See Connection for what its methods promise."""

    def __init__(
        self, name: str, transports: tuple[paramiko.Transport, ...], settings: SshSettings
    ) -> None:
        self._name = name
        self._transports = transports  # the last one is the host's, those before are jump hosts
        self._settings = settings
        self._ahead: paramiko.Channel | None = None

    def run(self, script: bytes, payload: Payload = (), *, timeout_s: float) -> Completed:
        """Run a script, feed it the payload, wait for its end."""
        running = self._begin(script)
        try:
            running.send(payload)
            running.end_input()
            return running.completed(timeout_s)
        finally:
            running.hang_up()

    def start(self, script: bytes, payload: Payload = ()) -> Session:
        """Start a script, feed it the payload, leave its stdin open."""
        running = self._begin(script)
        running.send(payload)
        self._open_ahead()
        return running

    @property
    def alive(self) -> bool:
        """Whether no transport on the way has ended."""
        return all(transport.is_active() for transport in self._transports)

    def close(self) -> None:
        """Hang up."""
        for transport in reversed(self._transports):
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, script: bytes) -> "_Running":
        channel, self._ahead = self._ahead, None
        try:
            if channel is None or channel.closed:
                channel = self._opened()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._lost(f"opens no further session: {phrase(error)}") from error
        channel.settimeout(self._settings.connect_timeout_s)
        try:
            channel.exec_command(command_line(len(script)))
        except (paramiko.SSHException, OSError, EOFError) as error:
            channel.close()
            raise self._lost(f"refuses to run a command: {phrase(error)}") from error
        running = _Running(self._name, self._transports[-1], channel, self._settings)
        running.send((script,))
        return running

    def _open_ahead(self) -> None:
        """Open the next script's channel while the host is busy with this one.

        It saves a round trip. An sshd that has no further session for us is asked when it must.
        """
        if self._ahead is None:
            with suppress(paramiko.SSHException, OSError, EOFError):
                self._ahead = self._opened()

    def _opened(self) -> paramiko.Channel:
        return self._transports[-1].open_session(timeout=self._settings.connect_timeout_s)

    def _lost(self, what: str) -> UnreachableError:
        return UnreachableError(f"{self._name}: {what}")


class _Running:
    """A running script. See Session."""

    def __init__(
        self,
        name: str,
        transport: paramiko.Transport,
        channel: paramiko.Channel,
        settings: SshSettings,
    ) -> None:
        self._name, self._transport, self._channel = name, transport, channel
        self._settings = settings
        self._output = _Output()
        self._ended_at: float | None = None

    def send(self, payload: Payload) -> None:
        for piece in payload:
            if not self._send(piece):
                break

    def end_input(self) -> None:
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError):
            self._ended_early()

    def readline(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        goes_on = True
        while (line := self._output.line()) is None:
            if not goes_on:
                return self._output.rest()
            goes_on = self._read(deadline, timeout_s)
        return line

    def completed(self, timeout_s: float) -> Completed:
        """Take output until it ends; a child that keeps it open does not outstay its script."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline, timeout_s):
            pass
        self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        self._output.take(self._channel)
        if self._channel.exit_status == -1 and not self._transport.is_active():
            raise self._lost("lost the connection")
        return self._output.completed(self._channel.exit_status)

    def close(self, timeout_s: float = 10.0) -> None:
        try:
            self._channel.shutdown_write()
            self._channel.status_event.wait(timeout_s)
        except (OSError, EOFError):
            pass  # it is gone already
        self.hang_up()

    def hang_up(self) -> None:
        """Let it go, whether it has ended or not."""
        self._channel.close()

    def _send(self, piece: bytes | memoryview) -> bool:
        """Send one piece whole while taking what comes back; False: the script has ended."""
        rest = memoryview(piece)
        deadline = time.monotonic() + self._settings.stall_timeout_s
        self._channel.settimeout(POLL_S)
        while rest:
            self._output.take(self._channel)
            if self._channel.closed or self._channel.exit_status_ready():
                return self._ended_early()
            try:
                sent = self._channel.send(bytes(rest[:PIECE_BYTES]))
            except TimeoutError:
                if time.monotonic() > deadline:
                    stall_s = self._settings.stall_timeout_s
                    raise self._lost(f"took no bytes for {stall_s:g} s") from None
                continue
            except (OSError, EOFError):
                return self._ended_early()
            rest = rest[sent:]
            deadline = time.monotonic() + self._settings.stall_timeout_s
        return True

    def _ended_early(self) -> bool:
        if not self._transport.is_active():
            raise self._lost("lost the connection")
        return False

    def _read(self, deadline: float, timeout_s: float) -> bool:
        """Take what has come, or wait for more; False: there will be no more."""
        self._output.take(self._channel)
        self._channel.settimeout(min(POLL_S, max(0.01, deadline - time.monotonic())))
        try:
            data = self._channel.recv(PIECE_BYTES)
        except TimeoutError:
            if self._outstays():
                return False
            if time.monotonic() > deadline:
                raise self._lost(f"did not answer within {timeout_s:g} s") from None
            return True
        self._output.add(data)
        return bool(data)

    def _outstays(self) -> bool:
        """Tell whether the script ended a while ago: sshd may say that before its last words."""
        if not self._channel.exit_status_ready():
            return False
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() - self._ended_at > LAST_WORDS_S

    def _lost(self, what: str) -> UnreachableError:
        return UnreachableError(f"{self._name}: {what}")


@dataclass(slots=True)
class _Output:
    """What a script wrote, within limits."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    cut: bool = False

    def take(self, channel: paramiko.Channel) -> None:
        while channel.recv_ready():
            self.add(channel.recv(PIECE_BYTES))
        while channel.recv_stderr_ready():
            self._append(self.stderr, channel.recv_stderr(PIECE_BYTES), STDERR_LIMIT_BYTES)

    def add(self, data: bytes) -> None:
        self._append(self.stdout, data, STDOUT_LIMIT_BYTES)

    def line(self) -> bytes | None:
        """Give the first line away, if all of it is there."""
        line, newline, _ = self.stdout.partition(b"\n")
        if not newline:
            return None
        del self.stdout[: len(line) + 1]
        return bytes(line + newline)

    def rest(self) -> bytes:
        """Give away what is left."""
        left = bytes(self.stdout)
        self.stdout.clear()
        return left

    def _append(self, kept: bytearray, data: bytes, limit: int) -> None:
        room = limit - len(kept)
        kept += data[:room]
        self.cut = self.cut or len(data) > room

    def completed(self, status: int) -> Completed:
        return Completed(status, bytes(self.stdout), bytes(self.stderr), self.cut)
