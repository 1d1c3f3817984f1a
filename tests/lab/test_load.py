"""No request fails: 64 connections through flips, restarts and rollbacks, by graceful rules."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.lab.admin import Admin
from tests.lab.chroot import BuiltRelease
from tests.lab.files import FRONTEND
from tests.lab.frontends import Lab

CONNECTIONS = 64
RULES = """
[[sets.cgi.services]]
name = "pool"
processes = ["pool-worker"]
graceful = ["sv", "hup", "pool"]

[[sets.cgi.services]]
name = "fcgiwrap"
"""


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        pytest.param(30, 10_000, marks=pytest.mark.lab),
        pytest.param(180, 100_000, marks=pytest.mark.torture),
    ],
)
def test_no_request_fails_through_flips_restarts_and_rollbacks(
    make_lab: Callable[..., Lab],
    make_admin: Callable[[Lab], Admin],
    releases: dict[str, BuiltRelease],
    seconds: int,
    requests: int,
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("needs wrk (apt-get install wrk)")
    lab = make_lab(1)
    admin = make_admin(lab)
    fleet = admin.folder / "graceful.toml"
    rule = '\n[[sets.cgi.services]]\nname = "fcgiwrap"\n'
    fleet.write_text(lab.fleet.read_text().replace(rule, RULES))
    lab.on("www1", "sv up pool")

    assert admin.deploy("--yes", "--image", str(releases["1.0"].folder), fleet=fleet).code == 0
    assert admin.deploy("--yes", "--image", str(releases["2.0"].folder), fleet=fleet).code == 0

    with load(lab, seconds) as wrk:
        switches = 0
        while wrk.poll() is None:
            if switches % 3 == 2:
                lab.on("www1", "sv hup pool")
            said = admin.deploy("rollback", "--yes", fleet=fleet)
            assert said.code == 0, said
            switches += 1
        out = wrk.stdout.read() if wrk.stdout else ""

    counted = next(line.split(None, 4) for line in out.splitlines() if line.startswith("COUNT "))
    whole, broken, errors = map(int, counted[1:4])
    print(f"{whole} answers through {switches} switches, {broken} broken, {errors} errors")
    assert (broken, errors) == (0, 0), out
    assert whole >= requests
    assert switches >= 2


def load(lab: Lab, seconds: int) -> "subprocess.Popen[str]":
    (frontend,) = lab.frontends.values()
    script = str(FRONTEND / "whole.lua")
    return subprocess.Popen(
        lab.in_admin_box(
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"),
            *("-s", script, f"http://{frontend.address}/pool"),
        ),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
