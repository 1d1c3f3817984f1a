"""A proxy in front of a frontend's sshd, that cuts connections as a network does."""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from tests.lab.frontends import Lab

PORT, SSHD_PORT = 2222, 22
PIECE_BYTES = 1 << 16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset


@dataclass(slots=True)
class Pair:
    """A connection through the proxy. `silent`: the server is not told that its client is gone."""

    client: socket.socket
    server: socket.socket
    silent: bool = False
    sent_bytes: int = 0  # to the server
    pumps: list[threading.Thread] = field(default_factory=list)


class Proxy:
    """Passes on what arrives at PORT of a frontend's own addresses."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name
        self._listener = lab.from_box(
            name,
            lambda: socket.create_server(("", PORT), family=socket.AF_INET6, dualstack_ipv6=True),
        )
        self._pairs: list[Pair] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._lab.from_box(
                    self._name, lambda: socket.create_connection(("127.0.0.1", SSHD_PORT))
                )
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            for way in ((client, server), (server, client)):
                pair.pumps.append(threading.Thread(target=_pump, args=(pair, *way), daemon=True))
            self._pairs.append(pair)
            for pump in pair.pumps:
                pump.start()

    @property
    def sent_bytes(self) -> int:
        """What all clients have sent so far."""
        return sum(pair.sent_bytes for pair in self._pairs)

    def cut(self, *, silent: bool) -> None:
        """Reset every connection that is open; `silent`: towards the client alone."""
        for pair in self._pairs:
            pair.silent = pair.silent or silent
            _reset(pair.client)
            if not silent:
                _reset(pair.server)

    def close(self) -> None:
        """End it, and all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for pair in self._pairs:
            for one in (pair.client, pair.server):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for pump in pair.pumps:
                pump.join()
            pair.client.close()
            pair.server.close()


def _reset(one: socket.socket) -> None:
    """Wake the pump that reads here; it closes, and that is a reset."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.shutdown(socket.SHUT_RD)


def _pump(pair: Pair, source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            sink.sendall(data)
            if source is pair.client:
                pair.sent_bytes += len(data)
    if pair.silent:
        if source is pair.client:
            source.close()
        return
    source_cut = (
        source.fileno() >= 0
        and source.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(RESET)) == RESET
    )
    if source_cut:
        source.close()
    else:
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
