"""The dead man's switch on real frontends: nobody confirms, and the frontend goes back."""

import json
import time
from typing import Any

import pytest

from tests.lab.admin import Admin, linked
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import Lab
from tests.lab.processes import until
from tests.lab.test_kills import served_at_last

pytestmark = pytest.mark.lab

CONFIRM_S = 15
SLACK_S = 30  # for restarts and drain, on a machine that has more to do


def test_what_nobody_confirms_is_taken_back_in_the_stated_time_and_status_tells(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    old, new = (str(releases[version].folder) for version in ("1.0", "2.0"))
    admin.deploy_well("--yes", "--slot", "A", "--image", old)
    text = lab.fleet.read_text()
    wait_for_confirmation(lab, CONFIRM_S)

    for unplugged in (True, False):
        deploy = admin.start("--yes", "--slot", "B", "--image", new)
        assert deploy.await_start("restart", "www1"), deploy.end()
        if unplugged:
            lab.plug("www1", up=False)
        else:
            deploy.kill()
        began = time.monotonic()
        assert linked(lab, "www1") == "B"
        until("it goes back", lambda: linked(lab, "www1") == "A", within_s=CONFIRM_S + SLACK_S)
        assert time.monotonic() - began < CONFIRM_S + SLACK_S
        if unplugged:
            lab.plug("www1", up=True)
        assert deploy.end().code not in {0, 2}
        until("it is done", lambda: guard(admin)["state"] == "fired", within_s=SLACK_S)
        assert guard(admin)["why"] == f"not confirmed within {CONFIRM_S} s"
        assert guard(admin)["error"] == ""
        assert "the guard went back to slot A in place of slot B" in admin.deploy("status").stdout
        assert served_at_last(lab, "www1") == "1.0"
        assert admin.deploy("confirm").code == 5

    lab.fleet.write_text(text)
    admin.deploy_well("--yes", "--slot", "B", "--image", new)  # it was never recorded as bad
    assert (linked(lab, "www1"), served_at_last(lab, "www1")) == ("B", "2.0")
    assert "guard" not in admin.deploy("status").stdout

    deploy = admin.start("--yes", "--slot", "A", "--image", old)
    assert deploy.await_start("restart", "www1"), deploy.end()
    deploy.kill()
    deploy.end()
    until("the lock is free", lambda: admin.deploy("confirm").code == 0, within_s=SLACK_S)
    assert admin.deploy("confirm").stdout == "www1: nothing is armed\n"
    admin.deploy_well("--yes", "--slot", "A", "--image", old)
    assert (linked(lab, "www1"), served_at_last(lab, "www1")) == ("A", "1.0")
    left = "ls /var/db/slots | grep -c armed; pgrep -fc '[s]lots/cgi.guard'"
    assert lab.on("www1", left, check=False).split() == ["0", "0"]


def test_failing_health_whose_deployer_is_gone_is_taken_back_by_the_guard(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))
    wait_for_confirmation(lab, CONFIRM_S)
    deploy = admin.start("--yes", "--slot", "B", "--image", str(releases["sick"].folder))
    assert deploy.await_start("check", "www1"), deploy.end()
    until("it is sick", lambda: lab.fetch("www1", "/cgi-bin/version")[0] == 500, within_s=SLACK_S)
    deploy.kill()
    began = time.monotonic()
    assert deploy.end().code < 0
    assert linked(lab, "www1") == "B"

    until("it goes back", lambda: linked(lab, "www1") == "A", within_s=CONFIRM_S + SLACK_S)
    assert time.monotonic() - began < CONFIRM_S + SLACK_S
    until("it is done", lambda: guard(admin)["state"] == "fired", within_s=SLACK_S)
    assert served_at_last(lab, "www1") == "1.0"
    assert services_are_in_the_active_slot(lab)
    assert guard(admin)["why"] == f"not confirmed within {CONFIRM_S} s"
    told = admin.deploy("status").stdout
    assert "the guard went back to slot A in place of slot B" in told, told


def test_a_frontend_that_is_booted_while_armed_goes_back_before_its_services_start(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    admin.deploy_well("provision", "--yes", "--image", str(releases["1.0"].folder))
    old = linked(lab, "www1")
    new = "B" if old == "A" else "A"
    # Nobody confirms, and no guard is in time: what goes back is the hook.
    wait_for_confirmation(lab, 600)
    deploy = admin.start("--yes", "--slot", new, "--image", str(releases["2.0"].folder))
    assert deploy.await_start("restart", "www1"), deploy.end()
    with deploy.paused():
        assert linked(lab, "www1") == new
        assert guard(admin)["state"] == "armed"
        # Each start of a service notes what it finds.
        note = "readlink /webroot/cgi >>/run/worker.found; exec /etc/service/worker/run.perl"
        run = lab.frontends["www1"].folder / "files/etc/service/worker/run"
        run.rename(run.with_name("run.perl"))
        run.write_text(f"#!/bin/dash\n{note}\n")
        run.chmod(0o755)
        lab.reboot("www1")
        log = lab.on("www1", "cat /run/slotctl.log")
        assert linked(lab, "www1") == old, log
        assert served_at_last(lab, "www1") == "1.0", log
    assert deploy.end().code not in {0, 2}

    assert set(lab.on("www1", "cat /run/worker.found").split()) == {f"cgi{' AB'.index(old)}"}
    assert services_are_in_the_active_slot(lab)
    assert "a switch that nobody confirmed was cut" in log
    found = guard(admin)
    assert (found["state"], found["why"], found["error"]) == ("fired", "found armed at boot", "")
    told = admin.deploy("status").stdout
    assert f"the guard went back to slot {old} in place of slot {new}" in told, told
    admin.deploy_well("--yes", "--slot", new, "--image", str(releases["2.0"].folder))
    assert (linked(lab, "www1"), served_at_last(lab, "www1")) == (new, "2.0")


def wait_for_confirmation(lab: Lab, seconds: int) -> None:
    """Have the frontends wait so long for it."""
    line = 'link = "/webroot/cgi"\n'
    text = lab.fleet.read_text()
    assert text.count(line) == 1
    lab.fleet.write_text(text.replace(line, f"{line}confirm_s = {seconds}\n"))


def services_are_in_the_active_slot(lab: Lab) -> bool:
    """Tell whether worker and fcgiwrap have the slot that the link names as their root."""
    roots = "for pid in $(pgrep -x 'fcgiwrap|worker'); do stat -L -c %d /proc/$pid/root/; done"
    used = lab.on("www1", f"{{ {roots}; }} | sort -u")
    return used == lab.on("www1", "stat -L -c %d /webroot/cgi/")


def guard(admin: Admin) -> dict[str, Any]:
    """Return what a probe says of the guard."""
    found = json.loads(admin.deploy("status", "--json").stdout)["hosts"][0].get("guard")
    return found or {"state": "none"}
