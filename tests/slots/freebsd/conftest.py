"""A frontend with FreeBSD: the real scripts, and stand-ins of its commands."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from slots.freebsd import FreeBSD
from slots.slot import Slot, SlotSet
from tests.slots.freebsd.frontend import ALIKE, SLOT_BYTES, A, B, World
from tests.slots.hosts import Host, found_commands
from tests.standins import freebsd as standins


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = tmp_path / "world"
    (folder / "dev").mkdir(parents=True)
    for disk in ("ada0p5", "ada0p6"):
        with (folder / "dev" / disk).open("wb") as file:
            file.truncate(SLOT_BYTES)
    state = {
        "mounts": [],
        "tasted": {},
        "taste_delay_s": 0.3,
        "users": [],
        "services": {},
        "image_folders": ["dev", "tmp", "data", "etc/host"],
    }
    (folder / "state").write_text(repr(state))
    (folder / "labels").write_text("   gpt/cgiA  N/A  ada0p5\n   gpt/cgiB  N/A  ada0p6\n")
    (folder / "log").touch()
    made = World(folder)
    for inner in ("modules", "sysctl"):
        (folder / inner).mkdir()
    made.sysctl("kern.boottime", "{ sec = 1700000000, usec = 4711 } Tue Nov 14 22:13:20 2023")
    made.sysctl("kern.geom.conftxt", "0 DISK ada0 1 512")
    return made


@pytest.fixture
def host(world: World, tmp_path: Path) -> Host:
    commands = found_commands(tmp_path / "commands", ALIKE)
    for command in (Path(standins.__file__).parent / "freebsd_sh").iterdir():
        (commands / command.name).symlink_to(command)
    for name in standins.COMMANDS:
        wrapper = commands / name
        wrapper.write_text(standins.launcher(name))
        wrapper.chmod(0o755)
    web = tmp_path / "webroot"
    web.mkdir()
    slots = SlotSet(
        name="cgi",
        link=f"{web}/cgi",
        slots=(Slot(A, "/dev/gpt/cgiA", f"{web}/cgi1"), Slot(B, "/dev/gpt/cgiB", f"{web}/cgi2")),
        records=f"{tmp_path}/records",
    )
    environment = {**os.environ, "STANDIN_WORLD": str(world.folder)}
    return Host(replace(FreeBSD(), path=str(commands)), slots, environment=environment)
