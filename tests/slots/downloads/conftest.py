"""A host that pulls from mirrors: with curl, wget or busybox, each alone."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slots.sandbox import Sandbox
from tests.slots.downloads.frontend import (
    BASE,
    IMAGE,
    PACK,
    SLOT_BYTES,
    busybox_downloads,
)
from tests.slots.hosts import Host, found_commands, sandbox_slots
from tests.slots.mirrors import Mirror, mirror


@pytest.fixture(scope="module")
def server() -> Iterator[Mirror]:
    with mirror() as made:
        made.objects[PACK.sha256] = PACK.data
        made.objects[IMAGE.artefact.sha256] = IMAGE.data
        yield made


@pytest.fixture(params=["curl", "wget", "busybox"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """A host that has this one program to download with."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"needs {request.param}")
    if request.param == "busybox":
        busybox_downloads(program, request.getfixturevalue("server"))
    commands = found_commands(tmp_path / "commands", BASE)
    (commands / ("wget" if request.param == "busybox" else request.param)).symlink_to(program)
    slots = sandbox_slots(tmp_path, SLOT_BYTES, records="records of it")
    return Host(replace(Sandbox(), path=str(commands)), slots)
