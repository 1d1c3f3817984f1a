"""Deploys and rollbacks on four real frontends."""

import json
from collections.abc import Callable

import pytest

from tests.lab.admin import Admin, artefact, linked, served, slot_digest
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

Releases = dict[str, BuiltRelease]
MakeLab = Callable[..., Lab]
MakeAdmin = Callable[[Lab], Admin]


def test_two_versions_and_a_rollback_are_served_from_inside_the_slots(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases
) -> None:
    lab = make_lab(4)
    admin = make_admin(lab)
    first, second = releases["1.0"], releases["2.0"]

    admin.deploy_well("--slot", "B", "--yes", "--image", str(first.folder))
    for name in lab.frontends:
        assert (linked(lab, name), served(lab, name)) == ("B", "1.0")
        image = artefact(first)
        assert slot_digest(lab, name, "B", image.size_bytes) == image.sha256
        assert "squashfs ro" in lab.on(name, "grep ' /webroot/cgi2 ' /proc/mounts")

    admin.deploy_well("--yes", "--image", str(second.folder))
    for name in lab.frontends:
        assert (linked(lab, name), served(lab, name)) == ("A", "2.0")
        assert worker_is_in_the_active_slot(lab, name)

    # The way back of the way back of the way back.
    for slot, version in (("B", "1.0"), ("A", "2.0"), ("B", "1.0")):
        admin.deploy_well("rollback", "--yes")
        for name in lab.frontends:
            assert (linked(lab, name), served(lab, name)) == (slot, version)
            assert worker_is_in_the_active_slot(lab, name)

    again = admin.deploy_well("--slot", "B", "--yes", "--image", str(first.folder))
    assert "already" in again.stdout


def worker_is_in_the_active_slot(lab: Lab, name: str) -> bool:
    held, active = lab.on(name, "cat /run/worker.device; stat -L -c %d /webroot/cgi/").split()
    return held == active


def test_status_is_asked_from_the_hosts(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases
) -> None:
    lab = make_lab(2)
    admin = make_admin(lab)
    admin.deploy_well("--slot", "B", "--yes", "--image", str(releases["1.0"].folder))
    admin.deploy_well(
        "--slot", "A", "--yes", "--image", str(releases["2.0"].folder), "--hosts", "www1"
    )

    document = json.loads(admin.deploy_well("status", "--json").stdout)

    ahead, behind = document["hosts"]
    assert (ahead["active"], behind["active"]) == ("A", "B")
    assert ahead["slots"]["A"]["image"]["sha256"] == artefact(releases["2.0"]).sha256
    assert ahead["slots"]["B"]["image"]["sha256"] == artefact(releases["1.0"]).sha256
    assert [ahead["slots"][slot]["mounted"] for slot in "AB"] == [True, True]
    assert ahead["rollback"] == {"ready": True, "why_not": None}
    assert behind["slots"]["A"]["state"] == "empty"
    assert not behind["rollback"]["ready"]


def test_a_failing_health_check_takes_the_new_image_back(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases
) -> None:
    lab = make_lab(2)
    admin = make_admin(lab)
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))

    answer = admin.deploy("--yes", "--image", str(releases["sick"].folder))

    assert answer.code == 5, answer
    assert "rolled back, slot A serves again" in answer.stdout
    for name in lab.frontends:
        assert (linked(lab, name), served(lab, name)) == ("A", "1.0")
        assert worker_is_in_the_active_slot(lab, name)
    refused = admin.deploy("--yes", "--image", str(releases["sick"].folder))
    assert refused.code == 2, refused
    assert "recorded as bad" in refused.stdout


def test_after_a_reboot_a_deploy_proves_mounts_and_serves_again(
    admin: Admin, releases: Releases
) -> None:
    lab = admin.lab
    image = ("--image", str(releases["1.0"].folder))
    admin.deploy_well("--yes", "--slot", "B", *image)

    lab.reboot("www1")
    plan = json.loads(admin.deploy_well("plan", "--slot", "B", "--json", *image).stdout)
    admin.deploy_well("--yes", "--slot", "B", *image)

    actions = plan["hosts"][0]["plan"]["actions"]
    assert actions[:2] == ["prove", "mount"]
    assert "fill" not in actions
    assert (linked(lab, "www1"), served(lab, "www1")) == ("B", "1.0")


def test_what_a_chroot_needs_is_inside_each_slot_and_survives_the_flip(
    admin: Admin, releases: Releases
) -> None:
    lab = admin.lab
    admin.deploy_well("--yes", "--slot", "B", "--image", str(releases["1.0"].folder))
    inside = "/webroot/cgi"
    lab.on("www1", f"echo session >{inside}/var/sessions/one; echo gone >{inside}/tmp/two")

    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["2.0"].folder))

    assert lab.on("www1", f"cat {inside}/var/sessions/one") == "session"
    assert lab.on("www1", f"cat {inside}/etc/resolv.conf") == "nameserver 10.77.0.1"
    assert lab.on("www1", f"test -c {inside}/dev/null && ls {inside}/home") == "alice"
    assert lab.on("www1", f"ls {inside}/dev | grep -c loop || :") == "0"
    assert lab.on("www1", f"touch {inside}/home/x 2>&1 || :").endswith("Read-only file system")
    assert lab.on("www1", f"touch {inside}/usr/x 2>&1 || :").endswith("Read-only file system")
    assert lab.on("www1", f"touch {inside}/tmp/x && ls {inside}/tmp") == "x"


@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_csh_dash_and_bash_as_login_shells_end_the_same(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, *, noisy: bool
) -> None:
    lab = make_lab(3, shells=("/usr/bin/tcsh", "/bin/dash", "/bin/bash"), noisy=noisy)
    admin = make_admin(lab)

    admin.deploy_well("--yes", "--slot", "B", "--image", str(releases["1.0"].folder))
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["2.0"].folder))
    admin.deploy_well("rollback", "--yes")
    document = json.loads(admin.deploy_well("status", "--json").stdout)

    for name in lab.frontends:
        assert (linked(lab, name), served(lab, name)) == ("B", "1.0")
    told = [{**host, "name": "", "address": "", "slots": ""} for host in document["hosts"]]
    assert told[0] == told[1] == told[2]
