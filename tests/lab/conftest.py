"""Fixtures of the lab tests: labs that end with their test, releases built once."""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.admin import Admin
from tests.lab.chroot import SICK, BuiltRelease, build, small_chroot
from tests.lab.disks import MIB
from tests.lab.frontends import Lab, LabSettings, start, stop_lab, why_not

MakeLab = Callable[..., Lab]
SEED_ENVIRONMENT = "SEED"
IN_MEMORY = Path("/dev/shm")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.line(f"lab: seed {_seed()} ({SEED_ENVIRONMENT}={_seed()} repeats its chances)")


def _seed() -> int:
    text = os.environ.setdefault(SEED_ENVIRONMENT, str(random.SystemRandom().randrange(10**6)))
    return int(text)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chance that a seed repeats, whatever ran before."""
    print(f"seed {_seed()}")
    return random.Random(f"{_seed()} {request.node.name}")


@pytest.fixture(scope="session")
def lab_prefixes() -> Iterator[str]:
    return (f"t{os.getpid()}x{number}" for number in itertools.count())


@pytest.fixture
def make_lab(tmp_path: Path, lab_prefixes: Iterator[str]) -> Iterator[MakeLab]:
    """Start labs that end with the test."""
    if reason := why_not():
        pytest.skip(reason)
    labs: list[Lab] = []

    def make(
        frontends: int = 4,
        *,
        slot_bytes: int = 64 * MIB,
        shells: tuple[str, ...] = ("/bin/bash",),
        noisy: bool = False,
        in_memory: bool = True,
    ) -> Lab:
        prefix = next(lab_prefixes)
        folder = tmp_path / prefix
        disks = IN_MEMORY if in_memory and IN_MEMORY.is_dir() else None
        settings = LabSettings(folder, prefix, frontends, slot_bytes, shells, noisy, disks)
        labs.append(start(settings))
        return labs[-1]

    try:
        yield make
    finally:
        for lab in labs:
            stop_lab(lab)


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuiltRelease]:
    """Three good releases and one whose CGI fails, built once."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("releases")
    made = {}
    for version in ("1.0", "2.0", "3.0"):
        tree = small_chroot(folder / f"tree-{version}", version)
        made[version] = build(folder, tree, version)
    tree = small_chroot(folder / "tree-sick", "6.6", cgi=SICK)
    made["sick"] = build(folder, tree, "6.6")
    return made


@pytest.fixture
def make_admin(tmp_path: Path) -> Callable[[Lab], Admin]:
    """Give a lab its admin."""

    def make(lab: Lab) -> Admin:
        folder = tmp_path / "admin"
        folder.mkdir()
        return Admin(lab, folder)

    return make


@pytest.fixture
def admin(make_lab: MakeLab, make_admin: Callable[[Lab], Admin]) -> Admin:
    """The admin of one frontend."""
    return make_admin(make_lab(1))
