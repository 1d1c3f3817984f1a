"""How bytes get to a host: pushed through its connection, or pulled by the host from mirrors.

A way is a row of `WAYS`. Control stays with the connection; an object is known by its digest, so
that nothing on the way of its bytes needs to be trusted.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO, RawIOBase
from pathlib import Path

from deployer.connection import Payload
from deployer.frontend import Frontend, Heard, read_timeout_s
from deployer.inventory import TransferSettings
from deployer.releases import FoundRelease, packed_head
from slots import answers, calls
from slots.actions import Erase, Fill, Seal, Stage
from slots.errors import HostError, ProductError, VerificationError
from slots.events import Progress
from slots.manifest import HEAD_BYTES, Artefact
from slots.slot import FrontendState

READ_BYTES = 32_704 * 8
TELL_EVERY_S = 0.1
PIECES_PER_S = 4  # at least so often a limited stream goes on, and looks whether to stop
SLOWEST_BYTES_PER_S = 128 << 10  # of a mirror; one that is slower is given up
MIRROR_TIMEOUT_S = 60


class Bucket:
    """Lets so many bytes through in a second, for all together who send through it."""

    def __init__(
        self,
        bytes_per_s: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock, self._sleep = clock, sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> None:
        """Wait until so many bytes may go."""
        with self._lock:
            now = self._clock()
            wait_s = max(0.0, self._free_at - now)
            self._free_at = max(self._free_at, now) + n_bytes / self.bytes_per_s
        self._sleep(wait_s)


@dataclass(slots=True)
class Tally:
    """What travelled to one host: image, head and pack, whichever way."""

    sent_bytes: int = 0  # through its connection
    pulled_bytes: int = 0  # by itself, from mirrors

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.sent_bytes + self.pulled_bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What a host needs besides its plan: the files to send, and a way to be stopped."""

    found: FoundRelease | None  # None: a rollback sends nothing
    stop: threading.Event
    packs: Mapping[str, Path] = field(default_factory=dict)  # where each lies, by its digest
    total: Bucket | None = None  # what all hosts share
    tally: Tally = field(default_factory=Tally)
    wanted_failed: list[str] = field(default_factory=list)  # by the checks that came last

    def stop_point(self) -> None:
        """End the work here if the admin has asked for it."""
        if self.stop.is_set():
            raise HostError("stopped by the admin; what served before still serves")


@dataclass(frozen=True, slots=True)
class Job:
    """One host under its lock, and what is to be brought there."""

    frontend: Frontend
    token: str  # of the lock
    work: Work
    state: FrontendState  # as it was found under the lock

    @property
    def settings(self) -> TransferSettings:
        """What the inventory says of the way to this host."""
        return self.frontend.host.transfer

    def release(self, action: Fill | Seal) -> FoundRelease:
        """Return where the file of an artefact is."""
        if self.work.found is None:
            raise HostError(f"there is no file of {action.artefact.file} to send")
        return self.work.found

    def pack(self, action: Stage) -> Path:
        """Return the file of a pack."""
        path = self.work.packs.get(action.pack_sha256)
        if path is None:
            raise HostError(f"there is no pack {action.pack_sha256[:16]}… to send")
        return path


@dataclass(frozen=True, slots=True)
class Errand:
    """What an action is on its host: the call of a verb, its payload, and what its answer says.

    `heard` is told each value of the answer as the verb says it, `told` and `failed` the whole.
    """

    call: str
    timeout_s: float  # from the end of the payload on
    payload: Payload = ()
    payload_bytes: int = 0
    told: Callable[[answers.Answer], list[str]] = lambda _: []
    failed: Callable[[answers.Answer, ProductError], ProductError] = lambda _, error: error
    heard: Heard = lambda *_: None
    pulls: bool = False  # from mirrors; if none has it, this and what follows is begun again


@dataclass(frozen=True, slots=True)
class Way:
    """How a pack gets into staging, and an image into its slot, which is erased before."""

    erase: Callable[[Job, Erase, Artefact], Errand]
    pack: Callable[[Job, Stage], Errand]
    image: Callable[[Job, Fill, int], Errand]  # the number: bytes that are in the slot already


class MirrorsError(HostError):
    """No mirror gave an object; each says why."""


def head(job: Job, action: Seal) -> Errand:
    """Send the head of an image, which is no part of a pack, and comes from no mirror."""
    call = calls.call(job.frontend.library, action, job.token)
    data = packed_head(job.release(action), action.artefact)
    pieces = paced(BytesIO(data), len(data), _buckets(job), job.work.stop_point)
    timeout_s = read_timeout_s(job.frontend.host, len(data))
    return Errand(call, timeout_s, _counted(job, pieces), len(data))


# --- pushed through the connection ---


def _erase(job: Job, action: Erase, _awaited: Artefact) -> Errand:
    call = calls.call(job.frontend.library, action, job.token)
    return Errand(call, job.frontend.host.ssh.command_timeout_s)


def _push_pack(job: Job, action: Stage) -> Errand:
    """Send a pack; what is there already does not travel again."""
    have = dict(job.state.staged).get(action.pack_sha256, 0)
    have = have if have <= action.size_bytes else 0
    call = calls.stage_call(job.token, action.pack_sha256, action.size_bytes, have)
    told = ["the pack is there"] if have == action.size_bytes else _went_on(have)
    return _pushed(job, call, job.pack(action), (have, action.size_bytes), "stage", told)


def _push_image(job: Job, action: Fill, have: int) -> Errand:
    artefact = action.artefact
    call = calls.fill_call(job.token, action.slot, artefact, have)
    told = _went_on(have - HEAD_BYTES)
    path = job.release(action).path(artefact)
    return _pushed(job, call, path, (have, artefact.size_bytes), "fill", told)


def _went_on(have: int) -> list[str]:
    return [f"went on behind {have} bytes of a cut transfer"] if have else []


def _pushed(  # noqa: PLR0917 - a stream and where it goes
    job: Job, call: str, path: Path, span: tuple[int, int], step: str, told: Sequence[str] = ()
) -> Errand:
    size_bytes = span[1] - span[0]
    told_from = HEAD_BYTES if step == "fill" else 0
    pieces = stream(path, *span, _buckets(job), job.work.stop_point)
    return Errand(
        call,
        read_timeout_s(job.frontend.host, size_bytes),
        _told(job, _counted(job, pieces), span[0] - told_from, step) if size_bytes else (),
        size_bytes,
        told=lambda _: list(told),
    )


def _buckets(job: Job) -> tuple[Bucket, ...]:
    own = job.settings.host_bandwidth
    both = (Bucket(own) if own else None, job.work.total)
    return tuple(bucket for bucket in both if bucket is not None)


def _counted(job: Job, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """Yield the pieces, and count what was sent."""
    for piece in pieces:
        yield piece
        job.work.tally.sent_bytes += len(piece)


def _told(
    job: Job, pieces: Iterable[memoryview], done_bytes: int, step: str
) -> Iterator[memoryview]:
    """Yield the pieces, and tell how far the work is."""
    told_at, name = 0.0, job.frontend.host.name
    for piece in pieces:
        yield piece
        done_bytes += len(piece)
        if time.monotonic() - told_at >= TELL_EVERY_S:
            told_at = time.monotonic()
            job.frontend.emit(Progress(step, done_bytes, name))
    job.frontend.emit(Progress(step, done_bytes, name))


def stream(
    path: Path,
    start: int,
    end: int,
    buckets: tuple[Bucket, ...] = (),
    stop: Callable[[], None] = lambda: None,
) -> Iterator[memoryview]:
    """Yield the bytes of a file from `start` to `end`.

    `stop` is called between pieces; it raises to end the work.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            yield from paced(file, end - start, buckets, stop)
    except EOFError as error:
        raise VerificationError(f"{path} became shorter while it was sent") from error
    except OSError as error:
        raise VerificationError(f"{path} cannot be read: {error.strerror}") from error


def paced(
    file: RawIOBase | BytesIO, n_bytes: int, buckets: Sequence[Bucket], stop: Callable[[], None]
) -> Iterator[memoryview]:
    """Yield so many bytes as fast as the buckets let them; EOFError if there are fewer."""
    slowest = min((bucket.bytes_per_s for bucket in buckets), default=PIECES_PER_S * READ_BYTES)
    piece_bytes = max(1, min(READ_BYTES, slowest // PIECES_PER_S))
    while n_bytes:
        stop()
        piece = file.read(min(piece_bytes, n_bytes))
        if not piece:
            raise EOFError
        for bucket in buckets:
            bucket.take(len(piece))
        yield memoryview(piece)
        n_bytes -= len(piece)


# --- pulled from mirrors ---


def _erase_for_what_is_offered(job: Job, action: Erase, awaited: Artefact) -> Errand:
    """Erase a slot only if the image that shall come lies on a mirror: it may be the way back."""
    reach = _reach(job, awaited.sha256, HEAD_BYTES)
    return _pulled(job, calls.erase_call(job.token, action.slot, awaited, reach), reach)


def _pull_pack(job: Job, action: Stage) -> Errand:
    sha256, size_bytes = action.pack_sha256, action.size_bytes
    reach = _reach(job, sha256, size_bytes)
    pulled = _pulled(job, calls.fetch_call(job.token, sha256, size_bytes, reach), reach)
    return replace(pulled, heard=_hearing(job, "stage", 0))


def _pull_image(job: Job, action: Fill, have: int) -> Errand:
    artefact = action.artefact
    reach = _reach(job, artefact.sha256, artefact.size_bytes)
    pulled = _pulled(job, calls.pull_call(job.token, action.slot, artefact, reach, have), reach)
    return replace(pulled, heard=_hearing(job, "fill", HEAD_BYTES))


def _hearing(job: Job, step: str, from_bytes: int) -> Heard:
    """Return what tells how far a verb is that says how much is written."""

    def heard(key: str, value: str) -> None:
        if key == "written" and value.isdigit():
            done_bytes = int(value) - from_bytes
            job.frontend.emit(Progress(step, done_bytes, job.frontend.host.name))

    return heard


def _reach(job: Job, sha256: str, size_bytes: int) -> calls.MirrorReach:
    rate = job.settings.host_bandwidth or 0
    slowest = min(rate or SLOWEST_BYTES_PER_S, SLOWEST_BYTES_PER_S)
    urls = tuple(f"{mirror.rstrip('/')}/{sha256}" for mirror in job.settings.mirrors)
    return calls.MirrorReach(urls, MIRROR_TIMEOUT_S + 2 * size_bytes // slowest, rate)


def _pulled(job: Job, call: str, reach: calls.MirrorReach) -> Errand:
    def count(answer: answers.Answer) -> None:
        pulled = answer.first("pulled", "0")
        job.work.tally.pulled_bytes += int(pulled) if pulled.isdigit() else 0

    def told(answer: answers.Answer) -> list[str]:
        count(answer)
        if answer.first("erased"):
            return []
        from_ = [f"from {answer.first('mirror')}"] if answer.first("mirror") else ["it is there"]
        behind = answer.first("went_on", "0")
        behind_bytes = int(behind) - HEAD_BYTES if behind.isdigit() else 0
        not_from = [f"not from {why}" for why in answer.all("failed_mirror")]
        return [*from_, *_went_on(max(0, behind_bytes)), *not_from]

    def failed(answer: answers.Answer, error: ProductError) -> ProductError:
        count(answer)
        reasons = answer.all("failed_mirror")
        if not reasons:
            return error
        return MirrorsError(f"{error.message}: {'; '.join(reasons)}", hint=error.hint)

    timeout_s = job.frontend.host.ssh.command_timeout_s + 2 * reach.timeout_s * len(reach.urls)
    return Errand(call, timeout_s, told=told, failed=failed, pulls=True)


WAYS: dict[str, Way] = {
    "ssh": Way(_erase, _push_pack, _push_image),
    "http": Way(_erase_for_what_is_offered, _pull_pack, _pull_image),
}
