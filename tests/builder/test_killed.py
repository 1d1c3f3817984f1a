"""Builds killed at any moment: nothing under a final name, a sound cache, the same bytes next."""

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder import cache as caches
from builder.build import Order, build
from builder.recipe import recipe_of
from slots.manifest import Format
from tests.builder import readers
from tests.builder.conftest import order

COMMAND = (sys.executable, "-c", "from builder.cli import main; main()")
EACH = pytest.mark.parametrize("format_", ["uzip", "squashfs", "erofs"])


@dataclass(frozen=True, slots=True)
class Case:
    """What is built, in which format, where to, and with which cache."""

    source: Path
    format_: Format
    out: Path
    known: Path

    def kill_at(self, moment_s: float) -> None:
        """Build as a user does, and kill that at a moment."""
        command = [*COMMAND, "build", "--source", str(self.source), "--output", f"{self.out}/",
                   "--format", self.format_, "--cache", str(self.known)]  # fmt: skip
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as child:
            try:
                child.wait(moment_s)
            except subprocess.TimeoutExpired:
                child.kill()

    def build(self) -> Path:
        """Build to the end, and return the folder of the release."""
        self.out.mkdir(exist_ok=True)
        wanted = Order(
            recipe_of(self.source), (self.format_,), self.out, threads=2, cache=self.known
        )
        return build(wanted, lambda _event: None).manifest.parent


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a seed repeats a run


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _killed_often(chroot: Path, tmp_path: Path, format_: Format, times: int, seed: int) -> None:
    readers.need(*readers.TOOLS.get(format_, ()))
    chance = _chance(seed)
    (chroot / "usr/lib/random").write_bytes(chance.randbytes(6_000_000))
    (tmp_path / "clean").mkdir()
    clean = build(order(chroot, tmp_path / "clean", format_), lambda _event: None).manifest.parent
    expected = _contents(clean)
    case = Case(chroot, format_, tmp_path / "out", tmp_path / "known")
    began = time.monotonic()
    Case(chroot, format_, tmp_path / "timed", case.known).kill_at(60)
    whole_s = time.monotonic() - began
    for _ in range(times):
        shutil.rmtree(case.out, ignore_errors=True)
        case.kill_at(chance.uniform(0.2, 1.0) * whole_s)
        final = [path for path in case.out.glob("*") if not path.name.startswith(".")]
        assert {path.name for path in final} <= {clean.name}
        for folder in final:  # under a final name all is whole
            assert _contents(folder) == expected
        with caches.opened(case.known, lambda event: pytest.fail(str(event))) as cache:
            assert cache.connection is not None
            assert cache.connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert _contents(case.build()) == expected
    assert [path.name for path in case.out.iterdir()] == [clean.name]


@EACH
def test_a_build_killed_at_any_moment_leaves_a_sound_cache_and_the_next_gives_the_same_bytes(
    chroot: Path, tmp_path: Path, format_: Format
) -> None:
    _killed_often(chroot, tmp_path, format_, 4, int(os.environ.get("SEED", "1")))


@pytest.mark.torture
@EACH
def test_fifty_killed_builds_leave_a_sound_cache(
    chroot: Path, tmp_path: Path, format_: Format
) -> None:
    seed = int(os.environ.get("SEED", str(time.time_ns() % 2**32)))
    sys.stdout.write(f"SEED={seed}\n")
    _killed_often(chroot, tmp_path, format_, 50, seed)
