"""What is wrong with a host or its inventory: one clear line, the exit code, nothing changed."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab.admin import Admin, Answer, copy_fleet, served, snapshot
from tests.lab.chroot import BuiltRelease
from tests.lab.disks import MIB
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

Releases = dict[str, BuiltRelease]
MakeLab = Callable[..., Lab]
MakeAdmin = Callable[[Lab], Admin]


@dataclass(frozen=True, slots=True)
class Spoiled:
    """How a frontend is made unfit, and what is said of it."""

    script: str
    code: int
    line: str
    slot_mib: int = 64


SPOILED = {
    "no slot device": Spoiled(
        "rm /dev/disk/by-partlabel/cgiA", 2, "slot A: there is no /dev/disk/by-partlabel/cgiA"
    ),
    "a plain file in its place": Spoiled(
        "cd /dev/disk/by-partlabel && rm cgiA && truncate -s 64M cgiA",
        2,
        "slot A: /dev/disk/by-partlabel/cgiA is a plain file, not a device",
    ),
    "a slot that is too small": Spoiled("true", 2, "slot A is too small", slot_mib=1),
    "a missing command": Spoiled("rm /usr/bin/sha256sum", 2, "the host lacks sha256sum"),
    "a kernel without the format": Spoiled(
        "grep -v squashfs /proc/filesystems >/run/filesystems;"
        "mount --bind /run/filesystems /proc/filesystems",
        2,
        "has no artefact that the host can mount",
    ),
    "a directory in the link's place": Spoiled(
        "mkdir /webroot/cgi", 2, "/webroot/cgi is there, but is not a symlink"
    ),
    "a link to elsewhere": Spoiled(
        "mkdir /webroot/old; ln -s old /webroot/cgi", 2, "which is neither slot"
    ),
}


@pytest.mark.parametrize("case", SPOILED.values(), ids=[*SPOILED])
def test_an_unfit_host_is_refused_and_no_host_is_touched(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, case: Spoiled
) -> None:
    lab = make_lab(2, slot_bytes=case.slot_mib * MIB)
    lab.on("www1", case.script)
    before = {name: snapshot(lab, name) for name in lab.frontends}

    answer = make_admin(lab).deploy("--slot", "A", "--yes", "--image", str(releases["1.0"].folder))

    assert answer.code == case.code, answer
    assert said_of("www1", case.line, answer)
    assert {name: snapshot(lab, name) for name in lab.frontends} == before


def said_of(host: str, text: str, answer: Answer) -> bool:
    """Tell whether exactly one line of the result names the host and says this."""
    lines = [line for line in answer.stdout.splitlines() if host in line and text in line]
    assert len(lines) == 1, f"{text!r} in {answer}"
    return True


def test_the_active_slot_is_refused(admin: Admin, releases: Releases) -> None:
    lab = admin.lab
    admin.deploy_well("--slot", "B", "--yes", "--image", str(releases["1.0"].folder))
    before = snapshot(lab, "www1")

    answer = admin.deploy("--slot", "B", "--yes", "--image", str(releases["2.0"].folder))

    assert answer.code == 2, answer
    assert said_of("www1", "slot B is active and holds cgi-1.0", answer)
    assert snapshot(lab, "www1") == before
    assert served(lab, "www1") == "1.0"


def test_an_artefact_that_is_not_what_its_release_says_is_refused(
    admin: Admin, releases: Releases
) -> None:
    lab = admin.lab
    damaged = admin.folder / "damaged"
    damaged.mkdir()
    for file in releases["1.0"].folder.iterdir():
        data = bytearray(file.read_bytes())
        if file.name.endswith(".squashfs"):
            data[len(data) // 2] ^= 1
        (damaged / file.name).write_bytes(data)
    before = snapshot(lab, "www1")

    answer = admin.deploy("--slot", "B", "--yes", "--image", str(damaged))

    assert answer.code == 8, answer
    assert [line for line in answer.complaints if ".squashfs" in line], answer
    assert snapshot(lab, "www1") == before


@pytest.mark.parametrize("known", ["nothing", "another key"])
def test_a_host_whose_key_is_not_the_known_one_is_not_talked_to(
    admin: Admin, releases: Releases, known: str
) -> None:
    lab = admin.lab
    lines = (lab.folder / "known_hosts").read_text()
    stranger = (lab.folder / "id_ed25519.pub").read_text().split()[1]
    other = "" if known == "nothing" else lines.replace(lines.split()[2], stranger)
    (lab.folder / "other_hosts").write_text(other)
    fleet = copy_fleet(lab, admin.folder, {"/known_hosts": "/other_hosts"})
    config = (lab.folder / "ssh_config").read_text()
    (lab.folder / "ssh_config").write_text(config.replace("/known_hosts", "/other_hosts"))
    before = snapshot(lab, "www1")

    answer = admin.deploy(
        "--slot", "B", "--yes", "--image", str(releases["1.0"].folder), fleet=fleet
    )

    assert answer.code == 6, answer
    assert said_of("www1", "key", answer)
    assert snapshot(lab, "www1") == before


def test_a_wrong_login_key_is_turned_away(admin: Admin, releases: Releases) -> None:
    lab = admin.lab
    other = lab.folder / "www1/files/etc/ssh/lab_host_key"
    fleet = copy_fleet(lab, admin.folder, {f"{lab.folder}/id_ed25519": str(other)})
    config = (lab.folder / "ssh_config").read_text()
    (lab.folder / "ssh_config").write_text(config.replace("id_ed25519", other.name))

    answer = admin.deploy(
        "--slot", "B", "--yes", "--image", str(releases["1.0"].folder), fleet=fleet
    )

    assert answer.code == 6, answer
    assert said_of("www1", "root", answer)


@pytest.mark.parametrize("how", ["no route", "nothing listens"])
def test_a_host_that_is_down_is_reported_and_the_others_go_on(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, how: str
) -> None:
    lab = make_lab(2)
    if how == "no route":
        lab.plug("www1", up=False)
    else:
        lab.on("www1", "sv force-stop sshd >/dev/null; sv down sshd")
    before = snapshot(lab, "www1")

    answer = make_admin(lab).deploy("--slot", "B", "--yes", "--image", str(releases["1.0"].folder))

    assert answer.code == 6, answer
    assert "www1" in answer.stdout
    assert served(lab, "www2") == "1.0"
    assert snapshot(lab, "www1") == before


def test_a_live_lock_ends_a_deploy_before_anything_is_touched(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases
) -> None:
    lab = make_lab(2)
    admin = make_admin(lab)
    image = ("--image", str(releases["1.0"].folder))
    first = admin.start("--slot", "B", "--yes", "--hosts", "www1", *image)
    assert first.await_start("erase", "www1")
    before = snapshot(lab, "www2")

    with first.paused():
        second = admin.deploy("--slot", "B", "--yes", *image)

    assert first.end().code == 0
    assert second.code == 7, second
    assert snapshot(lab, "www2") == before


def test_a_release_that_is_not_there_is_named(admin: Admin) -> None:
    answer = admin.deploy("--yes", "--image", "images/out/nothing")

    assert answer.code == 2, answer
    assert answer.complaints[0] == "deploy: there is no image or release images/out/nothing"
