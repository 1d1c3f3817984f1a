"""Other ways from one version to the next: what they send, and what that costs on both sides."""

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import scratch, travel


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes both ways, CPU of both sides together and wall time."""

    sent_bytes: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Peer:
    """One way, and what it needs."""

    tool: str
    take: Callable[["Update"], Sent]


@dataclass(frozen=True, slots=True)
class Update:
    """Two versions, as trees and as images; `work` may be filled."""

    old_tree: Path
    new_tree: Path
    old: Path
    new: Path
    work: Path
    left_out: Sequence[str]


class Meter:
    """Counts the CPU of commands that are run one after the other."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = _children_s(), time.monotonic()

    def sent(self, sent_bytes: int) -> Sent:
        """Return what was sent since the meter began."""
        return Sent(sent_bytes, _children_s() - self._cpu_s, time.monotonic() - self._wall_s)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def rsync_tree(update: Update) -> Sent:
    """Send the tree by rsync."""
    with scratch.changeable(update.old_tree, update.work / "receiver") as receiver:
        meter = Meter()
        sent = travel.rsync_bytes(update.new_tree, receiver, update.work, update.left_out)
        return meter.sent(sent)


def rsync_image(update: Update) -> Sent:
    """Send the image by rsync, to a host that has the old one."""
    copy = update.work / "copy.img"
    _run("cp", "--reflink=auto", update.old, copy)
    meter = Meter()
    shell = travel.local_shell(update.work)
    done = subprocess.run(
        [*travel.RSYNC, "-e", str(shell), str(update.new), f"here:{copy}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    copy.unlink()
    return meter.sent(travel.totals(done.stdout))


def casync(update: Update) -> Sent:
    """Publish both images as chunks; count those that only the new one has, and its index."""
    work = update.work
    before, after = work / "old.caibx", work / "new.caibx"
    store, out = work / "store.castr", work / "casync.img"
    _run("casync", "make", "--without=all", f"--store={store}", before, update.old)
    had = _bytes_below(store)
    meter = Meter()
    _run("casync", "make", "--without=all", f"--store={store}", after, update.new)
    sent = _bytes_below(store) - had + after.stat().st_size
    _run("casync", "extract", f"--store={store}", f"--seed={update.old}", after, out)
    cost = meter.sent(sent)
    _run("rm", "-rf", store, out, before, after)
    return cost


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def xdelta3(update: Update) -> Sent:
    """Make a delta with all of the old image in its window, and apply it."""
    window = 1 << max(20, update.old.stat().st_size.bit_length())
    delta, out = update.work / "delta.xd3", update.work / "xdelta.img"
    meter = Meter()
    _run("xdelta3", "-e", "-f", "-B", window, "-s", update.old, update.new, delta)
    _run("xdelta3", "-d", "-f", "-B", window, "-s", update.old, delta, out)
    return _and_gone(meter.sent(delta.stat().st_size), delta, out)


def zstd_patch(update: Update) -> Sent:
    """Make a patch with the old image as dictionary, and apply it."""
    patch, out = update.work / "patch.zst", update.work / "zstd.img"
    long = f"--long={max(27, min(31, update.old.stat().st_size.bit_length()))}"
    meter = Meter()
    _run("zstd", "-q", "-f", long, f"--patch-from={update.old}", update.new, "-o", patch)
    _run("zstd", "-q", "-f", "-d", long, f"--patch-from={update.old}", patch, "-o", out)
    return _and_gone(meter.sent(patch.stat().st_size), patch, out)


def _and_gone(cost: Sent, *files: Path) -> Sent:
    for path in files:
        path.unlink()
    return cost


PEERS: Mapping[str, Peer] = {
    "rsync -a -z --zc=zstd of the tree": Peer("rsync", rsync_tree),
    "rsync of the image": Peer("rsync", rsync_image),
    "casync": Peer("casync", casync),
    "xdelta3": Peer("xdelta3", xdelta3),
    "zstd --patch-from": Peer("zstd", zstd_patch),
}


def all_of(
    update: Update, lacking: Callable[[Sequence[str]], list[str]]
) -> Iterator[tuple[str, Sent | None]]:
    """Yield what each peer sends; None: it is not here."""
    for name, peer in PEERS.items():
        yield name, None if lacking([peer.tool]) else peer.take(update)
