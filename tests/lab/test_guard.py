"""The dead man's switch on real frontends: nobody confirms, and the frontend goes back."""

import json
import time
from collections.abc import Callable
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
    make_lab: Callable[..., Lab],
    make_admin: Callable[[Lab], Admin],
    releases: dict[str, BuiltRelease],
) -> None:
    lab = make_lab(1)
    admin = make_admin(lab)
    old, new = (str(releases[version].folder) for version in ("1.0", "2.0"))
    admin.deploy_well("--yes", "--slot", "A", "--image", old)
    text = lab.fleet.read_text()
    line = 'link = "/webroot/cgi"\n'
    assert text.count(line) == 1
    lab.fleet.write_text(text.replace(line, f"{line}confirm_s = {CONFIRM_S}\n"))

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
    assert lab.on(
        "www1", "ls /var/db/slots | grep -c armed; pgrep -fc slots/cgi.guard", check=False
    )


def guard(admin: Admin) -> dict[str, Any]:
    """Return what a probe says of the guard."""
    found = json.loads(admin.deploy("status", "--json").stdout)["hosts"][0].get("guard")
    return found or {"state": "none"}
