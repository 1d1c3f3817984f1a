"""One frontend within reach: a verb goes there as a script, its answer comes back."""

import gzip
import secrets
import time
from dataclasses import dataclass
from itertools import chain

from deployer.connection import Connection, Payload, Session
from deployer.inventory import Host
from slots import answers, calls, scripts
from slots.actions import HostAction
from slots.errors import LockedError, UnreachableError
from slots.events import Emit, Notice
from slots.platform import PLATFORMS, Platform
from slots.slot import SlotSet

READ_BYTES_PER_S = 4 << 20  # the slowest disk that we wait for
LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Frontend:
    """A host, the set of slots that is worked on, and the open connection."""

    host: Host
    slots: SlotSet
    connection: Connection
    platform: Platform | None  # None: not yet probed
    emit: Emit

    @property
    def library(self) -> Platform:
        """The platform, once it is known: a frontend is probed before anything is done there."""
        assert self.platform is not None, "a frontend is probed first"  # noqa: S101
        return self.platform

    def do(
        self,
        action: HostAction,
        token: str,
        payload: Payload = (),
        *,
        timeout_s: float | None = None,
    ) -> answers.Answer:
        """Run the verb of an action under the lock of this token; see `ask`."""
        return self.ask(calls.call(self.library, action, token), payload, timeout_s=timeout_s)

    def ask(
        self, call: str, payload: Payload = (), *, timeout_s: float | None = None
    ) -> answers.Answer:
        """Run a verb; its refusal or failure is raised as the error that it is."""
        answer = self.try_(call, payload, timeout_s=timeout_s)
        error = answers.error_of(answer, self.host.name)
        if error is not None:
            raise error
        return answer

    def try_(
        self, call: str, payload: Payload = (), *, timeout_s: float | None = None
    ) -> answers.Answer:
        """Run a verb and return what it answers, be it a failure."""
        nonce = secrets.token_hex(8)
        script = scripts.script(self.platform, self.slots, call, nonce)
        timeout_s = timeout_s or self.host.ssh.command_timeout_s
        starter, body = self._packed(script)
        completed = self.connection.run(starter, chain(body, payload), timeout_s=timeout_s)
        answer = answers.answer(completed.stdout, nonce)
        if not answer.complete:
            last = completed.stderr.decode(errors="replace").strip().splitlines()[-1:]
            said = f": {last[0][:200]}" if last else ""
            raise UnreachableError(
                f"{self.host.name}: broke off before it had answered "
                f"(status {completed.status}){said}"
            )
        for notice in answer.all("notice"):
            self.emit(Notice(notice, self.host.name))
        return answer

    def lock(self, holder: str) -> "HeldLock":
        """Take the set's lock and hold it until the returned lock is released."""
        token, nonce = secrets.token_hex(8), secrets.token_hex(8)
        script = scripts.script(self.platform, self.slots, calls.lock_call(holder, token), nonce)
        session = self.connection.start(*self._packed(script))
        try:
            self._await_lock(session, token, nonce)
        except BaseException:
            session.close()
            raise
        return HeldLock(token, session)

    def _packed(self, script: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a short script, and the script itself, gzipped, as what it reads and runs.

        `dd bs=1` is what a verb costs most: a quarter of the bytes is a quarter of that. A host of
        which nothing is known yet may lack gzip: its probe travels as it is.
        """
        if self.platform is None:
            return script, ()
        body = gzip.compress(script, mtime=0)
        return f'eval "$(dd bs=1 count={len(body)} 2>/dev/null | gzip -dc)"'.encode(), (body,)

    def _await_lock(self, session: Session, token: str, nonce: str) -> None:
        heard = b""
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while ("locked", token) not in answers.begun(heard, nonce):
            line = session.readline(max(0.1, deadline - time.monotonic()))
            heard += line
            answer = answers.answer(heard, nonce)
            if line and not answer.complete:
                continue
            error = answers.error_of(answer, self.host.name)
            raise error or LockedError(f"{self.host.name}: the lock was let go at once")
        for key, value in answers.begun(heard, nonce):
            if key == "notice":
                self.emit(Notice(value, self.host.name))


@dataclass(frozen=True, slots=True)
class HeldLock:
    """The lock of a set on a frontend, as long as its session lives."""

    token: str
    session: Session

    def release(self) -> None:
        """Let it go."""
        self.session.close()


def read_timeout_s(host: Host, size_bytes: int) -> float:
    """Return how long reading or flushing so many bytes may take."""
    return host.ssh.command_timeout_s + size_bytes / READ_BYTES_PER_S


def platform_of(host: Host) -> Platform | None:
    """Return the platform that the inventory names; None: the probe finds it."""
    return PLATFORMS[host.platform] if host.platform is not None else None
