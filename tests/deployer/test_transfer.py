"""The way of bytes to a host: streams, limits, mirrors."""

import threading
from pathlib import Path

import pytest

from deployer.transfer import Bucket, stream
from slots.errors import HostError, VerificationError


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
