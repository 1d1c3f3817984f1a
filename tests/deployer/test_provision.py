"""deploy provision: what is wanted, and the whole command against blank sandbox frontends."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployer.provision import Setup, describe, plan_setup, too_small, wanted
from slots.errors import LockedError, Refused
from slots.hooks import HOOKS, File, Found, PathState
from slots.slot import DeviceKind, FrontendState, LinkKind, Lock, Slot, SlotName, SlotSet, SlotState
from slots.slot import SlotStatus as Status
from tests.deployer.conftest import AdminBox
from tests.lab.embedded import embedded_fleet

A, B = SlotName.A, SlotName.B
SLOTS = SlotSet("cgi", "/web/cgi", (Slot(A, "/dev/a", "/web/cgi1"), Slot(B, "/dev/b", "/web/cgi2")))


def state(**changes: object) -> FrontendState:
    """Return a blank Linux frontend, or one with these differences."""
    statuses = tuple(
        Status(slot, DeviceKind.DEVICE, 1 << 30, SlotState.EMPTY, "", mounted=False)
        for slot in SLOTS.slots
    )
    blank = FrontendState("Linux", "boot", LinkKind.MISSING, "", statuses, ("erofs",))  # type: ignore[arg-type]
    return replace(blank, **changes)  # type: ignore[arg-type]


SLOTCTL = File("/usr/local/libexec/slotctl", 0o700, "#!/bin/sh\n")
OURS = wanted(SLOTS, (SLOTS,), HOOKS["Linux"], SLOTCTL)


def found(system: str = "systemd") -> Found:
    return Found(system, False, (PathState.MISSING,) * 4, ("missing",) * 3)


def planned(state: FrontendState, found: Found) -> Setup:
    setup = plan_setup(SLOTS, state, OURS, found)
    assert isinstance(setup, Setup), setup
    return setup


def test_a_blank_host_gets_folders_slotctl_and_the_hook_of_its_own_system() -> None:
    assert [describe(one) for one in planned(state(), found("init.d")).items] == [
        "/var/db/slots (records): make",
        "/web (folder of the link): make",
        "/web/cgi1 (mount point of slot A): make",
        "/web/cgi2 (mount point of slot B): make",
        "/usr/local/libexec/slotctl (slotctl): install",
        "/etc/init.d/flipslot (boot hook): install",
        "boot hook, called by init.d: enable",
    ]


def test_what_is_so_already_is_left_alone_and_a_changed_hook_is_enabled_anew() -> None:
    slotctl, *hooks = (OURS.slotctl, *(program for _, program in OURS.hooks))
    as_wanted = [f"{one.file.sha256} {one.file.mode:o}" for one in (slotctl, *hooks)]
    there = replace(found(), folders=(PathState.FOLDER,) * 4, files=tuple(as_wanted), enabled=True)
    assert planned(state(), there).to_do == ()
    other_mode = as_wanted[1].replace(" 644", " 600")
    changed = replace(there, files=(as_wanted[0], other_mode, as_wanted[2]))
    assert [describe(one) for one in planned(state(), changed).to_do] == [
        "/etc/systemd/system/flipslot.service (boot hook): install",
        "boot hook, called by systemd: enable",
    ]


def test_where_nothing_known_starts_things_at_boot_the_admin_is_told() -> None:
    setup = planned(state(), found("none"))
    assert not any("hook" in describe(one) for one in setup.items)
    assert "/usr/local/libexec/slotctl boot" in setup.notes[0]


def test_partitions_that_are_missing_are_named_at_once_and_not_made() -> None:
    statuses = tuple(replace(one, device_kind=DeviceKind.MISSING) for one in state().statuses)
    refusal = plan_setup(SLOTS, state(statuses=statuses), OURS, found())
    assert isinstance(refusal, Refused)
    assert refusal.message == "there is no /dev/a of slot A and /dev/b of slot B"


def test_a_plain_file_a_lock_and_what_lies_in_the_way_are_refused() -> None:
    statuses = (state().status(A), replace(state().status(B), device_kind=DeviceKind.FILE))
    refusal = plan_setup(SLOTS, state(statuses=statuses), OURS, found())
    assert "plain file" in str(refusal)
    locked = state(lock=Lock("ann", 7, "boot", 0, alive=True))
    assert isinstance(plan_setup(SLOTS, locked, OURS, found()), LockedError)
    blocked = replace(found(), files=("missing", "other", "missing"))
    refusal = plan_setup(SLOTS, state(), OURS, blocked)
    assert "/etc/systemd/system/flipslot.service is there" in str(refusal)


def test_an_image_must_fit_into_both_slots() -> None:
    statuses = (state().status(A), replace(state().status(B), size_bytes=1 << 20))
    small = state(statuses=statuses)
    assert too_small(small, 1 << 20) is None
    assert "slot B" in str(too_small(small, (1 << 20) + 1))
    assert "differ in size" in planned(small, found()).notes[-1]


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> Iterator[AdminBox]:
    """Two sandbox frontends of which nothing but the slots is there, and one release."""
    if shutil.which("mksquashfs") is None or shutil.which("unsquashfs") is None:
        pytest.skip("squashfs-tools are not here: no image to deploy")
    (tmp_path / "empty").mkdir()
    with embedded_fleet(tmp_path, tmp_path / "empty", names=("www1", "www2")) as fleet:
        for one in fleet.frontends:
            (one.folder / "webroot").rmdir()
            (one.folder / "db").rmdir()
        admin_box = AdminBox(fleet)
        admin_box.release("1")
        yield admin_box


def items(box: AdminBox, *arguments: str) -> list[bool]:
    ran = box.deploy("provision", "--hosts", "www1", "--json", *arguments)
    assert ran.status == 0, ran
    document = json.loads(ran.stdout)
    assert document["schema"] == "flipslot.provision/1"
    return [one["done"] for one in document["hosts"][0]["items"]]


def test_a_blank_frontend_is_set_up_serves_and_is_then_left_alone(box: AdminBox) -> None:
    before = box.on_disk()
    ran = box.deploy("provision", "--dry-run")
    assert ran.status == 0, ran
    assert "db (records): make" in ran.stdout
    assert "steps: " in ran.stdout
    assert not any(items(box, "--dry-run"))
    assert box.on_disk() == before
    ran = box.deploy("provision", "--yes")
    assert ran.status == 0, ran
    assert [box.served("www1"), box.served("www2")] == ["1", "1"]
    after = box.on_disk()
    assert all(items(box))
    assert box.on_disk() == after


def test_a_changed_slotctl_is_written_anew_and_no_rollout_is_asked_for(box: AdminBox) -> None:
    assert box.deploy("provision", "--yes", "--no-image").status == 0
    assert box.target() == ""
    slotctl = box.folder / "frontends/www1/db/slotctl"
    assert subprocess.run([slotctl, "status"], check=False, capture_output=True).stdout
    wanted = slotctl.read_text()
    slotctl.write_text("#!/bin/sh\n")
    assert items(box, "--no-image", "--yes").count(False) == 1
    assert slotctl.read_text() == wanted
    assert slotctl.stat().st_mode & 0o777 == 0o700


def test_a_slotctl_that_others_can_read_is_closed_to_them_and_that_is_told(box: AdminBox) -> None:
    assert box.deploy("provision", "--yes", "--no-image").status == 0
    slotctl = box.folder / "frontends/www1/db/slotctl"
    slotctl.chmod(0o755)
    ran = box.deploy("provision", "--hosts", "www1", "--yes", "--no-image")
    assert "(slotctl): install (its mode is 0755: others may read it)" in ran.stdout
    assert slotctl.stat().st_mode & 0o777 == 0o700


def test_status_tells_of_a_slotctl_that_is_stale_and_of_what_the_boot_had_to_do(
    box: AdminBox,
) -> None:
    def status() -> tuple[dict[str, Any], str]:
        document = json.loads(box.deploy("status", "--hosts", "www1", "--json").stdout)
        return document["hosts"][0], box.deploy("status", "--hosts", "www1").stdout

    assert status()[0]["slotctl"] == {"installed": False, "stale": False}
    assert box.deploy("provision", "--yes").status == 0
    host, text = status()
    assert (host["slotctl"], host["boot"]) == ({"installed": True, "stale": False}, None)
    assert "slotctl" not in text
    records = box.folder / "frontends/www1/db"
    (records / "slotctl").write_text("#!/bin/sh\n")
    (records / "cgi.state").write_text("state=instead\ntext=slot A serves instead\nat=1\n")
    host, text = status()
    assert host["slotctl"] == {"installed": True, "stale": True}
    assert host["boot"] == {"state": "instead", "text": "slot A serves instead", "at_epoch_s": 1}
    assert "deploy provision --hosts www1 --no-image" in text
    assert "slot A serves instead" in text


SECOND_SET = """
[sets.os]
link = "{root}/webroot/os"
records = "{root}/db"
image = "cgi"
[sets.os.slots]
A = {{ device = "{root}/disk/osA", mount = "{root}/webroot/os1" }}
B = {{ device = "{root}/disk/osB", mount = "{root}/webroot/os2" }}
"""


def test_a_second_set_is_set_up_beside_the_first_and_slotctl_knows_both(box: AdminBox) -> None:
    frontend = box.folder / "frontends/www1"
    fleet = box.folder / "fleet.toml"
    root = box.folder / "frontends" / "{name}"
    first, hosts, rest = fleet.read_text().partition("[hosts.")
    fleet.write_text(first + SECOND_SET.format(root=root) + hosts + rest)

    def slotctl(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = (str(frontend / "db/slotctl"), *words)
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    ran = box.deploy("provision", "--hosts", "www1", "--yes")
    assert ran.status == 0, ran
    assert "the set os is not set up here yet: deploy provision --set os" in ran.stdout
    assert not (frontend / "webroot/os1").exists()
    booted = slotctl("boot")
    assert (booted.returncode, "os: nothing was deployed here yet" in booted.stdout) == (0, True)
    installed = (frontend / "db/slotctl").read_bytes()

    refused = box.deploy("provision", "--set", "os", "--hosts", "www1", "--yes")
    assert (refused.status, "osA of slot A and" in refused.stdout) == (2, True), refused
    for name in ("osA", "osB"):
        with (frontend / "disk" / name).open("wb") as slot:
            slot.truncate(64 << 20)
    ran = box.deploy("provision", "--set", "os", "--hosts", "www1", "--yes")
    assert ran.status == 0, ran
    assert "not set up here yet" not in ran.stdout
    assert (frontend / "webroot/os").is_symlink()
    assert box.served("www1") == "1"
    assert (frontend / "db/slotctl").read_bytes() == installed
    assert all(items(box, "--set", "os"))
    assert all(items(box))
    booted = slotctl("boot")
    assert booted.returncode == 0, booted
    assert [f"{name}: serves slot A" in booted.stdout for name in ("cgi", "os")] == [True, True]


def test_a_missing_slot_is_refused_and_nothing_is_touched_anywhere(box: AdminBox) -> None:
    (box.folder / "frontends/www2/disk/cgiB").unlink()
    before = box.on_disk()
    ran = box.deploy("provision", "--yes")
    assert ran.status == 2, ran
    assert "there is no" in ran.stdout
    assert "nothing is touched on any host" in ran.stdout
    assert box.on_disk() == before
