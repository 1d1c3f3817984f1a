"""A rollout with a preflight and a wanted check, over SSH against sandbox frontends."""

import json
import os
import subprocess

import pytest

from tests.deployer.conftest import AdminBox

TRIALS = """
[[sets.cgi.preflight]]
kind = "ldd"
folders = ["/usr"]
[[sets.cgi.checks]]
kind = "command"
command = ["false"]
level = "wanted"
deadline_s = 0.2
"""


def test_a_preflight_that_fails_leaves_everything_as_it_was(admin_box: AdminBox) -> None:
    entered = subprocess.run(("unshare", "-U", "-r", "true"), capture_output=True, check=False)
    if os.geteuid() != 0 and entered.returncode != 0:
        pytest.skip("needs root, or unshare for all users")
    only = ("--yes", "--hosts", "www1")
    for version in ("1", "2"):
        admin_box.release(version)
    first = admin_box.deploy("--image", "cgi-1", *only)
    assert first.status == 0
    before = (admin_box.target(), admin_box.served())
    plain = admin_box.inventory.read_text()
    admin_box.inventory.write_text(plain + TRIALS)  # the image holds no program at all
    failed = admin_box.deploy("--image", "cgi-2", "--json", *only)
    assert failed.status == 4
    (host,) = json.loads(failed.stdout)["hosts"]
    assert host["message"].endswith("fails its preflight: ldd /usr: no program lies there")
    assert (admin_box.target(), admin_box.served()) == before
    admin_box.inventory.write_text(plain + TRIALS[TRIALS.index("[[sets.cgi.checks") :])
    told = admin_box.deploy("--image", "cgi-2", *only)
    assert told.status == 0
    assert "before the flip already: `false` failed" in told.stderr
    assert "wanted, but `false` failed" in told.stderr
    assert admin_box.served() == "2"
