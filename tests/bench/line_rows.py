"""Measures over a long, slow line, on four frontends of the lab: seconds and bytes beside rsync."""

import contextlib
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import edits, scratch
from tests.bench.report import Line, against, below, missing
from tests.bench.trees import Trees
from tests.lab import line
from tests.lab.admin import Admin
from tests.lab.chroot import IMAGE
from tests.lab.disks import MIB
from tests.lab.frontends import Lab, LabSettings, start, stop_lab, why_not
from tests.lab.processes import LabError

MB = 1e6
FRONTENDS = 4
RATE, DELAY_S = "50mbit", 0.02
WHERE = "over 50 Mbit/s and 40 ms, 4 hosts"
SLOT_SHARE = 1.3  # of the first image
PREFIX = "benchline"
UPGRADE_AIM, EDIT_AIM = 2.0, 1.0
NOTHING_S, NOTHING_MB = 2.0, 0.1
EDITS = (0, 3, 5)  # of edits.EDITS: ten bytes, a package, one file touched
SERVED = "/webroot/cgi"
RSYNC = ("rsync", "-a", "-z", "--zc=zstd", "--delete", "--numeric-ids")
ONLY_SLOTS = re.compile(r"^# Inside each slot.*?(?=^\[hosts\.)", re.MULTILINE | re.DOTALL)
RECIPE = """\
name = "cgi"
source = "{source}"
version = "{version}"
formats = ["squashfs"]
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an update took: until the last slot was proven, in all, and on the wire of all hosts.

    `mixed_s` is the longest time in which a frontend served neither the old tree nor the new one.
    """

    proven_s: float
    whole_s: float
    wire_bytes: int
    mixed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Site:
    """Four frontends that serve v1, and hold its tree where this machine has it."""

    admin: Admin
    line: line.Line
    tree: Path  # of v1: each frontend changes its own view of it


def over_a_line(trees: Trees, work: Path) -> Iterable[Line]:
    """Update four frontends: an upgrade, single edits, and nothing at all."""
    if reason := why_not():
        yield missing(WHERE, reason)
        return
    work.mkdir()
    with _site(trees, work) as site, scratch.copied(trees.v2, work / "copy") as copy:
        ours, peer = _both(site, trees.v2, "2")
        yield from _lines("v1 → v2", ours, peer, UPGRADE_AIM)
        for number in EDITS:
            edit = edits.EDITS[number]
            places = edit.places(edits.image_of(copy).tree, 1)
            if not places:
                yield missing(f"{edit.name}, {WHERE}", "the tree has no place")
                continue
            edit.apply(copy, places[0])
            ours, peer = _both(site, copy, f"3.{number}")
            yield from _lines(edit.name, ours, peer, EDIT_AIM)
        yield from _nothing(site)


def _lines(what: str, ours: Taken, peer: Taken, aim: float) -> Iterable[Line]:
    figure = f"{what}, {WHERE}"
    told = f"{figure}: seconds to proven slots (all of `deploy`: {ours.whole_s:.1f} s)"
    yield against(told, ours.proven_s, peer.whole_s, aim, show="{:.1f} s", peer_name="rsync")
    sizes = ours.wire_bytes / MB, peer.wire_bytes / MB
    yield against(
        f"{figure}: on the wire of all hosts", *sizes, aim, show="{:.2f} MB", peer_name="rsync"
    )
    told, mixed = f"{figure}: seconds in which a frontend serves a mixture", "{:.2f} s"
    yield below(told, ours.mixed_s, 0, show=mixed, peer=f"rsync: {mixed.format(peer.mixed_s)}")


def _nothing(site: Site) -> Iterable[Line]:
    taken = _deployed(site)
    figure = f"nothing to do, {WHERE}"
    yield below(f"{figure}: seconds in all", taken.whole_s, NOTHING_S, show="{:.2f} s")
    each_mb = taken.wire_bytes / MB / FRONTENDS
    yield below(f"{figure}: on the wire of each", each_mb, NOTHING_MB, show="{:.3f} MB")


@contextlib.contextmanager
def _site(trees: Trees, work: Path) -> Iterator[Site]:
    """Bring v1 to four frontends before their line gets slow."""
    folder = work / "admin"
    folder.mkdir()
    first = _built(folder, trees.v1, "1")
    slot_bytes = (int(first.stat().st_size * SLOT_SHARE) // MIB + 1) * MIB
    with scratch.in_memory(work / "disks") as disks:  # as rsync's trees: it is the line that counts
        lab = start(LabSettings(work / "lab", PREFIX, FRONTENDS, slot_bytes, disks=disks))
        try:
            _only_slots(lab)
            admin = Admin(lab, folder)
            admin.deploy_well("--yes")
            with line.long_line(lab, RATE, DELAY_S) as slow:
                yield Site(admin, slow, trees.v1)
        finally:
            stop_lab(lab)


def _only_slots(lab: Lab) -> None:
    """Drop from the inventory what asks for more of an image than to be mounted."""
    lab.fleet.write_text(ONLY_SLOTS.sub("", lab.fleet.read_text()))


def _built(folder: Path, tree: Path, version: str) -> Path:
    """Build a release among the admin's own; return its artefact."""
    recipe = folder / f"{version}.toml"
    recipe.write_text(RECIPE.format(source=tree, version=version))
    done = subprocess.run(
        [str(IMAGE), "build", str(recipe)], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"image build {recipe}: exit {done.returncode}: {done.stderr[-2000:]}")
    return next((folder / "images/out" / f"cgi-{version}").glob("*.squashfs"))


def _both(site: Site, tree: Path, version: str) -> tuple[Taken, Taken]:
    _built(site.admin.folder, tree, version)
    at = time.time()
    ours = replace(_deployed(site), mixed_s=_mixed_s(site, SERVED, at))
    at = time.time()
    peer = replace(_rsynced(site, tree), mixed_s=_mixed_s(site, str(site.tree), at))
    return ours, peer


def _mixed_s(site: Site, place: str, since: float) -> float:
    """Return the time from the first change to the last, of what is served or of the link to it."""
    script = f"find {place} {place}/ -xdev -newerct '@{since:.6f}' -printf '%C@\\n'"
    longest = 0.0
    for name in site.line.lab.frontends:
        changes = sorted(float(one) for one in site.line.lab.on(name, script).split())
        if not changes:
            raise LabError(f"{name}: nothing changed at {place}")
        longest = max(longest, changes[-1] - changes[0])
    return longest


def _deployed(site: Site) -> Taken:
    """Deploy the newest release to all at once."""
    before, began = site.line.wire_bytes(), time.monotonic()
    running = site.admin.start("--yes", fleet=site.line.fleet)
    answer = running.end()
    whole_s = time.monotonic() - began
    if answer.code != 0:
        raise LabError(f"deploy over a line: {answer}")
    proven_s = (running.last_end_s("prove") or began + whole_s) - began
    return Taken(proven_s, whole_s, site.line.wire_bytes() - before)


def _rsynced(site: Site, tree: Path) -> Taken:
    """Bring a tree to all at once by rsync."""
    before, began = site.line.wire_bytes(), time.monotonic()
    shell = f"ssh -F {site.line.ssh_config}"

    def send(name: str) -> None:
        target = f"{name}:{site.tree}/"
        command = site.line.lab.in_admin_box(*RSYNC, "-e", shell, f"{tree}/", target)
        subprocess.run(command, check=True, capture_output=True)

    with ThreadPoolExecutor(FRONTENDS) as pool:
        list(pool.map(send, site.line.lab.frontends))
    seconds = time.monotonic() - began
    return Taken(seconds, seconds, site.line.wire_bytes() - before)
