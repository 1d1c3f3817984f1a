"""Actions on their way to a frontend: several verbs in one script, where none waits for our word.

Over a long line a script costs three round trips and the library's bytes, so that what needs no
decision in between goes together. Each verb answers by itself as soon as it is done, so that steps
are told as they happen, and a failing one ends the script. What is safe to cut between two actions
is safe to cut here: the lock ends with our connection, and then the next verb refuses.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

from deployer.connection import Connection
from deployer.errands import OnHost, errand, on_host, total_bytes
from deployer.frontend import Trip
from deployer.health import Health
from deployer.transfer import WAYS, Errand, Job, MirrorsError
from slots import answers, calls
from slots.actions import (
    Action,
    Arm,
    Baseline,
    Check,
    Confirm,
    Drain,
    Fill,
    Flip,
    Judge,
    Patch,
    Unmount,
)
from slots.errors import ProductError
from slots.events import Notice, step
from slots.manifest import HEAD_BYTES

EAGER_BYTES = 1 << 20  # payloads so small go ahead of their turn: the channel's window holds them

Again = Callable[[], AbstractContextManager[Connection]]


def together(action: OnHost, following: Sequence[Action]) -> tuple[OnHost, ...]:
    """Return which actions go in one script, this one first.

    The switch is begun by our word alone, and what a drain leaves decides what comes behind it.
    """
    group = [action]
    for one in following:
        begins = isinstance(one, Arm | Confirm)
        begins = begins or (isinstance(one, Flip) and not isinstance(group[-1], Arm))
        verb = on_host(one)
        # What a drain leaves is ours to judge, but for an unmount: that refuses by itself.
        drained = isinstance(group[-1], Drain) and not isinstance(one, Unmount)
        if verb is None or begins or drained:
            break
        group.append(verb)
    return tuple(group)


class Trips:
    """Runs the actions of one host: each is told by itself, whatever goes together."""

    def __init__(self, job: Job, health: Health, again: Again) -> None:
        """`again` connects once more, as anybody would: what is confirmed is within reach."""
        self._job, self._health, self._again = job, health, again
        self._ways = ExitStack()
        self._trip: Trip | None = None
        self._ahead: deque[Errand] = deque()  # of the trip: those that were not yet heard of
        self._unsent: deque[Errand] = deque()  # those whose payload was not yet sent
        self._wrote = False

    def stop_point(self) -> None:
        """End the work here if the admin has asked for it: between two trips."""
        if self._trip is None:
            self._job.work.stop_point()

    def run(self, action: Action, following: Sequence[Action]) -> None:
        """Run one action, and let those that follow go with it."""
        frontend, name = self._job.frontend, type(action).__name__.lower()
        with step(frontend.emit, name, frontend.host.name, total_bytes(action)) as detail:
            detail.extend(self._run(action, following))

    def probe(self) -> answers.Answer:
        """Ask the frontend what it is now; the last trip has brought the answer, if it could."""
        if self._trip is None:
            self._set_out([self._probe()])
        return self._heard()[0]

    def close(self) -> None:
        """Let what is on its way come to its end."""
        self._end()
        self._ways.close()

    def _run(self, action: Action, following: Sequence[Action]) -> list[str]:
        match action:
            case Check():
                return [self._health.check()]
            case Baseline():
                return [self._health.before()]
            case _:
                pass
        if self._trip is None:
            self._begin(action, following, self._job.settings.source)
        try:
            return self._done()
        except MirrorsError as error:
            if not self._job.settings.fallback_to_ssh:
                raise
            self._job.work.stop_point()
            name = self._job.frontend.host.name
            self._job.frontend.emit(Notice(f"{error.message}; it travels through ssh", name))
            self._begin(action, following, "ssh")
            return self._done()

    def _begin(self, action: OnHost, following: Sequence[Action], source: str) -> None:
        if isinstance(action, Confirm):
            anew = self._ways.enter_context(self._again())
            self._job = replace(self._job, frontend=replace(self._job.frontend, connection=anew))
        group = together(action, following)
        errands = [errand(self._job, one, WAYS[source], self._have_bytes(one)) for one in group]
        whole = len(group) > len(following) and isinstance(group[-1], Judge)
        self._set_out([*errands, self._probe()] if whole else errands)
        self._wrote = self._wrote or any(isinstance(one, Fill | Patch) for one in group)

    def _have_bytes(self, action: OnHost) -> int:
        """Return up to where a cut transfer of an image got, if nothing was written since."""
        if not isinstance(action, Fill) or self._wrote:
            return HEAD_BYTES
        written = self._job.state.status(action.slot).written
        same = written is not None and written.sha256 == action.artefact.sha256
        return written.size_bytes if written is not None and same else HEAD_BYTES

    def _probe(self) -> Errand:
        frontend = self._job.frontend
        call = calls.probe_call(frontend.slots.services)
        return Errand(call, frontend.host.ssh.command_timeout_s)

    def _set_out(self, errands: Sequence[Errand]) -> None:
        self._trip = self._job.frontend.set_out([one.call for one in errands])
        self._ahead.extend(errands)
        self._unsent.extend(one for one in errands if one.payload_bytes)
        if not self._unsent:
            self._trip.end_payload()

    def _done(self) -> list[str]:
        answer, one = self._heard()
        self._job.frontend.tell_notices(answer)
        try:
            return one.told(answer)
        except ProductError:
            self._end()
            raise

    def _heard(self) -> tuple[answers.Answer, Errand]:
        """Return the answer of the next verb; what it refused or failed at is raised."""
        assert self._trip is not None, "a trip has begun"  # noqa: S101
        one = self._ahead.popleft()
        try:
            self._feed(self._trip, one)
            answer = self._trip.answer(one.timeout_s, one.heard)
        except BaseException:
            self._end()
            raise
        error = answers.error_of(answer, self._job.frontend.host.name)
        if error is not None or not self._ahead:
            self._end()
        if error is not None:
            self._job.frontend.tell_notices(answer)
            raise one.failed(answer, error)
        return answer, one

    def _feed(self, trip: Trip, turn: Errand) -> None:
        """Send the payload of whose turn it is, and small ones behind it.

        None goes ahead of what is pulled: if no mirror has that, it would travel twice.
        """
        if not self._unsent or any(one.pulls for one in (turn, *self._ahead)):
            return
        due = any(one is turn for one in self._unsent)
        while self._unsent and (due or self._unsent[0].payload_bytes <= EAGER_BYTES):
            one = self._unsent.popleft()
            trip.send(one.payload)
            due = due and one is not turn
        if not self._unsent:
            trip.end_payload()

    def _end(self) -> None:
        trip, self._trip = self._trip, None
        self._ahead.clear()
        self._unsent.clear()
        if trip is not None:
            trip.close()
