"""What the tests of Linux share."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slots.actions import Flip, Mount
from slots.slot import HostFile, InnerMount, MountKind, SlotName, SlotSet
from tests.slots import images
from tests.slots.hosts import Host, write

A, B = SlotName.A, SlotName.B

SLOT_BYTES = 2 << 20

NEEDS = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loop devices and mounts"),
    pytest.mark.skipif(shutil.which("losetup") is None, reason="needs losetup (util-linux)"),
]


def inside(host: Host, *argv: str) -> str:
    """Run a command as the host would."""
    done = subprocess.run((*host.before, *argv), capture_output=True, text=True, check=True)
    return done.stdout


def serve(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    write(host, name, image, token)
    for action in (Mount(name, "squashfs"), Flip(name)):
        answer = host.do(action, token)
        assert answer.status == 0, (action, answer)


def with_inner_mounts(host: Host, folder: Path) -> SlotSet:
    (folder / "shared data").mkdir()
    (folder / "hosts").write_text("192.0.2.1 www\n")
    return replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(folder / "shared data")),
            InnerMount(MountKind.BIND, "srv", source=str(folder / "shared data"), read_only=True),
            InnerMount(
                MountKind.FILES, "etc/host", files=(HostFile("hosts", str(folder / "hosts")),)
            ),
        ),
    )
