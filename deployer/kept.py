"""Connections that a look at the fleet leaves open for the work behind it: one login a host.

Bounded on purpose. A rollout to thousands of hosts holds no more of them open, while the admin
reads its plan, than it will work on at once: those of its first hosts. And not for long: who thinks
about a plan for more than KEPT_S has the hosts logged in to again, so that nothing is begun on a
connection that something on the way has forgotten.
"""

import threading
import time
from collections.abc import Callable, Iterable

from deployer.connection import Connection

KEPT_S = 60.0


class Kept:
    """The open connections of some hosts, until each is taken or its time is over."""

    def __init__(
        self, hosts: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep those of these hosts alone."""
        self._hosts = frozenset(hosts)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Connection]] = {}

    def keep(self, host: str, connection: Connection) -> bool:
        """Take over an open connection; False: its owner closes it."""
        if host not in self._hosts:
            return False
        with self._lock:
            _, earlier = self._kept.get(host, (0.0, None))
            self._kept[host] = self._clock(), connection
        if earlier is not None:
            earlier.close()
        return True

    def take(self, host: str) -> Connection | None:
        """Give a host's connection away, if there is one that may be worked on."""
        with self._lock:
            since, connection = self._kept.pop(host, (0.0, None))
        if connection is None or (connection.alive and self._clock() - since <= KEPT_S):
            return connection
        connection.close()
        return None

    def close(self) -> None:
        """Hang up all that nobody took."""
        with self._lock:
            left, self._kept = self._kept, {}
        for _, connection in left.values():
            connection.close()
