"""An SSH server inside the process, for machines without an sshd that an ordinary user may start.

It lets one key in and runs commands as the user that runs it: `exec` only, no pty, no forwarding.
"""

import contextlib
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

PIECE_BYTES = 32 * 1024
LOG = logging.getLogger(__name__)  # a client that hangs up is nothing to tell
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


class _Rules(paramiko.ServerInterface):
    """Who may log in, and what for."""

    def __init__(
        self, allowed: paramiko.PKey, run: Callable[[paramiko.Channel, str], None]
    ) -> None:
        self.allowed = allowed
        self.run = run

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - the base's signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002
        same = key.asbytes() == self.allowed.asbytes()
        return AUTH_SUCCESSFUL if same else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        arguments = (channel, command.decode())
        threading.Thread(target=self.run, args=arguments, daemon=True).start()
        return True


class EmbeddedSsh:
    """One server; `close` ends it and every command that it started."""

    def __init__(
        self, address: str, host_key: Path, allowed: Path, environment: Mapping[str, str]
    ) -> None:
        self._host_key = paramiko.Ed25519Key.from_private_key_file(str(host_key))
        self._allowed = paramiko.Ed25519Key.from_private_key_file(str(allowed))
        self._environment = {**os.environ, **environment}
        self._transports: list[paramiko.Transport] = []
        self._commands: list[subprocess.Popen[bytes]] = []
        self._listener = socket.create_server((address, 0), backlog=50)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            transport = paramiko.Transport(client)
            transport.set_log_channel(LOG.name)
            transport.add_server_key(self._host_key)
            self._transports.append(transport)
            try:
                transport.start_server(
                    event=threading.Event(), server=_Rules(self._allowed, self._run)
                )
            except (paramiko.SSHException, OSError):
                transport.close()

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            bufsize=0,
        ) as process:
            self._commands.append(process)
            assert process.stdout is not None
            assert process.stderr is not None
            pumps = [
                threading.Thread(target=_feed, args=(channel, process), daemon=True),
                threading.Thread(
                    target=_drain, args=(process.stdout, channel.sendall), daemon=True
                ),
                threading.Thread(
                    target=_drain, args=(process.stderr, channel.sendall_stderr),
                    daemon=True,
                ),
            ]  # fmt: skip
            for pump in pumps:
                pump.start()
            status = process.wait()
            # A daemon that the command left behind may keep its output open: do not wait for it.
            for pump in pumps[1:]:
                pump.join(timeout=0.5)
            _finish(channel, status if status >= 0 else 128 - status)

    def close(self) -> None:
        """End the server, its connections and its commands."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()
        for process in self._commands:
            if process.poll() is None:
                process.kill()
        self._thread.join(timeout=5)


def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    # OSError: the command reads no more, or the connection is gone
    with contextlib.suppress(OSError, ValueError):
        while data := channel.recv(PIECE_BYTES):
            _write_all(process.stdin, data)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _write_all(stream: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _drain(stream: IO[bytes], send: Callable[[bytes], object]) -> None:
    # ValueError: the stream was closed because the command ended
    with contextlib.suppress(OSError, ValueError):
        while data := stream.read(PIECE_BYTES):
            send(data)


def _finish(channel: paramiko.Channel, status: int) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        channel.send_exit_status(status)
        channel.shutdown_write()
        channel.close()
