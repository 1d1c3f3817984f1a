"""One frontend within reach: a verb goes there as a script, its answer comes back."""

import gzip
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from deployer.connection import Completed, Connection, Payload, Session
from deployer.inventory import Host
from slots import answers, calls, scripts
from slots.actions import HostAction
from slots.errors import UnreachableError
from slots.events import Emit, Notice
from slots.platform import PLATFORMS, Platform
from slots.slot import SlotSet

READ_BYTES_PER_S = 4 << 20  # the slowest disk that we wait for
LOCK_TIMEOUT_S = 30.0
END_TIMEOUT_S = 10.0  # of a script that says no more

Heard = Callable[[str, str], None]


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
            raise _broken_off(self.host.name, completed)
        self.tell_notices(answer)
        return answer

    def set_out(self, verbs: Sequence[str]) -> "Trip":
        """Start several verbs as one script; each is run if those before it did their work."""
        nonce = secrets.token_hex(8)
        script = scripts.script(self.platform, self.slots, calls.trip(verbs), nonce)
        session = self.connection.start(*self._packed(script))
        return Trip(self.host.name, session, answers.Hearing(nonce))

    def lock(self, holder: str) -> "HeldLock":
        """Take the set's lock and hold it until the returned lock is released."""
        token = secrets.token_hex(8)
        call = calls.lock_and_probe_call(holder, token, self.slots.services)
        trip = self.set_out((call,))
        try:
            self.tell_notices(trip.done(LOCK_TIMEOUT_S))
            probed = trip.done(self.host.ssh.command_timeout_s)
        except BaseException:
            trip.close()
            raise
        return HeldLock(token, probed, trip)

    def tell_notices(self, answer: answers.Answer) -> None:
        """Pass on what the host notes."""
        for notice in answer.all("notice"):
            self.emit(Notice(notice, self.host.name))

    def _packed(self, script: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a short script, and the script itself, gzipped, as what it reads and runs.

        Read byte by byte, as the command line does, it would cost the host more than most verbs
        do; a dd that cannot gather a block says so before it reads. A host of which nothing is
        known yet may lack gzip: its probe travels as it is.
        """
        body = script if self.platform is None else gzip.compress(script, mtime=0)
        size_bytes = len(body)
        read = f"dd bs={size_bytes} count=1 iflag=fullblock || dd bs=1 count={size_bytes}"
        unpack = "" if self.platform is None else " | gzip -dc"
        return f'eval "$({{ {read}; }} 2>/dev/null{unpack})"'.encode(), (body,)


@dataclass(frozen=True, slots=True)
class Trip:
    """Verbs on their way in one script: it is fed their payloads, and each answers in turn."""

    host: str
    session: Session
    hearing: answers.Hearing

    def done(self, timeout_s: float) -> answers.Answer:
        """Return the answer of the next verb; its refusal or failure is raised."""
        answer = self.answer(timeout_s)
        error = answers.error_of(answer, self.host)
        if error is not None:
            raise error
        return answer

    def answer(self, timeout_s: float, heard: Heard = lambda *_: None) -> answers.Answer:
        """Return the answer of the next verb, be it a failure: then it was the last.

        `heard` is told each value of it at once: a verb may say how far it is.
        """
        deadline = time.monotonic() + timeout_s
        while line := self.session.readline(max(0.1, deadline - time.monotonic())):
            match self.hearing.hear(line):
                case answers.Answer() as answer:
                    return answer
                case (key, value):
                    heard(key, value)
                case None:
                    pass
        raise _broken_off(self.host, self.session.completed(END_TIMEOUT_S))

    def send(self, payload: Payload) -> None:
        """Send a payload; it is dropped if the verbs have ended."""
        self.session.send(payload)

    def end_payload(self) -> None:
        """Say that no further payload comes."""
        self.session.end_input()

    def close(self) -> None:
        """Let it come to its end, and forget it."""
        self.session.close()


@dataclass(frozen=True, slots=True)
class HeldLock:
    """The lock of a set on a frontend, as long as its script lives; and a probe behind it."""

    token: str
    probed: answers.Answer
    trip: Trip

    def release(self) -> None:
        """Let it go."""
        self.trip.close()


def _broken_off(host: str, completed: Completed) -> UnreachableError:
    last = completed.stderr.decode(errors="replace").strip().splitlines()[-1:]
    said = f": {last[0][:200]}" if last else ""
    return UnreachableError(
        f"{host}: broke off before it had answered (status {completed.status}){said}"
    )


def read_timeout_s(host: Host, size_bytes: int) -> float:
    """Return how long reading or flushing so many bytes may take."""
    return host.ssh.command_timeout_s + size_bytes / READ_BYTES_PER_S


def platform_of(host: Host) -> Platform | None:
    """Return the platform that the inventory names; None: the probe finds it."""
    return PLATFORMS[host.platform] if host.platform is not None else None
