"""A frontend with Linux: two block devices, in a mount namespace of its own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slots.linux import Linux
from slots.slot import Slot, SlotSet
from tests.slots.hosts import Host
from tests.slots.linux.frontend import SLOT_BYTES, A, B


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two loop devices over files of the size of a slot."""
    made: list[str] = []
    try:
        for name in "ab":
            with (tmp_path / name).open("wb") as file:
                file.truncate(SLOT_BYTES)
            done = subprocess.run(
                ("losetup", "--find", "--show", tmp_path / name),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                pytest.skip(f"no loop device: {done.stderr.strip()}")
            made.append(done.stdout.strip())
        yield made[0], made[1]
    finally:
        for device in made:
            subprocess.run(("losetup", "--detach", device), check=True)


@pytest.fixture
def namespace(devices: tuple[str, str]) -> Iterator[int]:
    """The process that keeps a mount namespace; what is mounted there ends with it."""
    del devices  # they are detached after the namespace is gone
    argv = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec sleep 600")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


@pytest.fixture
def host(devices: tuple[str, str], namespace: int, tmp_path: Path) -> Host:
    folder = tmp_path / "web root"
    folder.mkdir()
    slots = SlotSet(
        name="cgi",
        link=f"{folder}/cgi",
        slots=(
            Slot(A, devices[0], f"{folder}/cgi1"),
            Slot(B, devices[1], f"{folder}/cgi2"),
        ),
        records=f"{tmp_path}/records",
    )
    return Host(Linux(), slots, before=("nsenter", "--target", str(namespace), "--mount"))
