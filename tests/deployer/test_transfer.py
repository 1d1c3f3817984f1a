"""The way of bytes to a host: streams, limits, mirrors."""

import os
import shlex
import threading
from pathlib import Path

import pytest

from deployer.frontend import Frontend
from deployer.inventory import Host, SshSettings, TransferSettings
from deployer.releases import find
from deployer.transfer import (
    MIRROR_TIMEOUT_S,
    SLOWEST_BYTES_PER_S,
    WAYS,
    Bucket,
    Job,
    Work,
    head,
    stream,
)
from slots.actions import Erase, Fill, Seal, Stage
from slots.errors import HostError, VerificationError
from slots.events import Emit, Event, Progress
from slots.manifest import HEAD_BYTES
from slots.sandbox import Sandbox
from slots.slot import SlotName
from tests.deployer.conftest import described
from tests.deployer.local import LocalConnection
from tests.deployer.simulator import release, serving


class Clock:
    """A clock that stands, but for those who sleep by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def test_a_stream_is_the_part_of_the_file_that_is_asked_for(file: Path) -> None:
    pieces = list(stream(file, 1000, 900_000))
    assert b"".join(pieces) == file.read_bytes()[1000:900_000]


def test_a_file_that_becomes_shorter_ends_the_stream(file: Path) -> None:
    with pytest.raises(VerificationError, match="became shorter"):
        list(stream(file, 0, (1 << 20) + 1))


def test_a_stop_takes_effect_between_two_pieces(file: Path) -> None:
    def stop() -> None:
        raise HostError("stopped")

    with pytest.raises(HostError, match="stopped"):
        list(stream(file, 0, 1 << 20, (), stop))


def test_a_limited_stream_takes_as_long_as_its_limit_says(file: Path) -> None:
    clock = Clock()
    bucket = Bucket(100_000, clock, clock.sleep)
    list(stream(file, 0, 1 << 20, (bucket,)))
    assert clock.now - 100 == pytest.approx((1 << 20) / 100_000, rel=0.05)
    assert max(clock.slept) <= 0.3  # it looks often enough whether to stop


def test_the_slower_of_two_limits_holds(file: Path) -> None:
    clock = Clock()
    own, total = (Bucket(rate, clock, clock.sleep) for rate in (500_000, 50_000))
    list(stream(file, 0, 1 << 20, (own, total)))
    assert clock.now - 100 == pytest.approx((1 << 20) / 50_000, rel=0.05)


def test_hosts_share_what_is_limited_for_all() -> None:
    clock, lock = Clock(), threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.slept.append(seconds)

    bucket = Bucket(1_000_000, clock, sleep)
    threads = [threading.Thread(target=bucket.take, args=(100_000,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # All came at the same moment: each waits until those before it have gone.
    assert sorted(clock.slept) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def job(settings: TransferSettings, work: Work | None = None, emit: Emit = lambda _: None) -> Job:
    """Return what a host of these settings is under its lock."""
    simulated = serving("a")
    host = Host("www1", "www1", SshSettings(), frozenset(), None, {}, {}, settings)
    frontend = Frontend(host, simulated.slots, LocalConnection(), Sandbox(), emit)
    return Job(frontend, "12345678", work or Work(None, threading.Event()), simulated.state())


MIRRORS = ("http://one/slots/", "file:/stick it")
PACK = Stage("9" * 64, 50_000_000)


@pytest.mark.parametrize("rate", [None, 50_000, 10_000_000])
def test_a_host_pulls_within_its_limit_and_each_mirror_has_a_time(rate: int | None) -> None:
    pulling = job(TransferSettings("http", MIRRORS, rate))
    errand = WAYS["http"].pack(pulling, PACK)
    verb, *_, size, seconds, said_rate, one, other = shlex.split(errand.call)
    assert (verb, size, said_rate) == ("verb_fetch", "50000000", str(rate or 0))
    assert (one, other) == (f"http://one/slots/{'9' * 64}", f"file:/stick it/{'9' * 64}")
    slowest = min(rate or SLOWEST_BYTES_PER_S, SLOWEST_BYTES_PER_S)
    assert int(seconds) == MIRROR_TIMEOUT_S + 2 * PACK.size_bytes // slowest
    # A mirror may be asked twice; the answer is awaited as long as all of them may take.
    assert errand.timeout_s > 2 * len(MIRRORS) * int(seconds)
    assert errand.payload_bytes == 0


def test_to_see_whether_a_mirror_has_an_image_takes_no_longer_than_its_head(tmp_path: Path) -> None:
    described(os.urandom(300_000), tmp_path / "cgi-1", "1")
    artefact = find("cgi-1", tmp_path).release.artefacts[0]
    pulling = job(TransferSettings("http", MIRRORS))
    errand = WAYS["http"].erase(pulling, Erase(SlotName.B, artefact), artefact)
    verb, _, slot, sha256, seconds, _, *urls = shlex.split(errand.call)
    assert (verb, slot, sha256, len(urls)) == ("verb_erase", "B", artefact.head_sha256, 2)
    assert all(url.endswith(artefact.sha256) for url in urls)
    assert int(seconds) == MIRROR_TIMEOUT_S + 2 * HEAD_BYTES // SLOWEST_BYTES_PER_S


def test_of_what_is_pulled_it_is_told_how_much_is_there() -> None:
    events: list[Event] = []
    pulling = job(TransferSettings("http", MIRRORS), emit=events.append)
    artefact = release("b").artefacts[0]
    for errand, said in (
        (WAYS["http"].pack(pulling, PACK), "7000"),
        (WAYS["http"].image(pulling, Fill(SlotName.B, artefact), HEAD_BYTES), "100000"),
    ):
        for key, value in (("written", said), ("pulled", "5"), ("written", "no number")):
            errand.heard(key, value)
    behind_head = 100_000 - HEAD_BYTES
    assert events == [Progress("stage", 7000, "www1"), Progress("fill", behind_head, "www1")]


def test_a_head_keeps_to_the_limits_and_counts(tmp_path: Path) -> None:
    described(os.urandom(300_000), tmp_path / "cgi-1", "1")
    found = find("cgi-1", tmp_path)
    clock = Clock()
    work = Work(found, threading.Event(), total=Bucket(10_000, clock, clock.sleep))
    errand = head(job(TransferSettings(), work), Seal(SlotName.B, found.release.artefacts[0], "r"))
    assert sum(map(len, errand.payload)) == errand.payload_bytes == work.tally.sent_bytes
    assert clock.now - 100 == pytest.approx(errand.payload_bytes / 10_000, rel=0.1)
