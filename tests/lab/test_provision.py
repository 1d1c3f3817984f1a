"""A frontend of which nothing but its partitions is there: set up, and after a boot it serves."""

import json

import pytest

from tests.lab.admin import Admin, linked
from tests.lab.chroot import BuiltRelease
from tests.lab.processes import until
from tests.lab.test_kills import served_at_last

pytestmark = pytest.mark.lab


def test_a_blank_frontend_is_set_up_serves_and_serves_again_after_a_boot(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    lab.on("www1", "rmdir /webroot/cgi1 /webroot/cgi2")
    image = ("--image", str(releases["1.0"].folder))

    shown = admin.deploy("provision", "--dry-run", *image)
    assert shown.code == 0, shown
    assert "/usr/local/libexec/slotctl (slotctl): install" in shown.stdout
    assert "have the machine's own start call `/usr/local/libexec/slotctl boot`" in shown.stdout
    assert lab.on("www1", "ls -A /webroot /usr/local/libexec").split() == [
        "/usr/local/libexec:",
        "/webroot:",
    ]

    done = admin.deploy("provision", "--yes", *image)
    assert done.code == 0, done
    assert served_at_last(lab, "www1") == "1.0"
    again = admin.deploy("provision", "--json", *image)
    assert again.code == 0, again
    assert all(one["done"] for one in json.loads(again.stdout)["hosts"][0]["items"])

    slot = linked(lab, "www1")
    lab.reboot("www1")
    until("it serves", lambda: lab.fetch("www1", "/cgi-bin/version")[0] == 200, within_s=30)
    assert served_at_last(lab, "www1") == "1.0", lab.on("www1", "cat /run/slotctl.log")
    assert linked(lab, "www1") == slot
    assert "mounted" in lab.on("www1", "/usr/local/libexec/slotctl status")
