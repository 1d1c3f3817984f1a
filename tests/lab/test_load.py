"""No request fails: 64 connections through flips, restarts and rollbacks, by graceful rules."""

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.admin import Admin, linked
from tests.lab.chroot import BuiltRelease
from tests.lab.files import FRONTEND
from tests.lab.frontends import Lab
from tests.lab.processes import until

CONNECTIONS = 64
RULES = """
[[sets.cgi.services]]
name = "pool"
processes = ["pool-worker"]
graceful = ["sv", "hup", "pool"]

[[sets.cgi.services]]
name = "fcgiwrap"
"""
WAITING = """
[[sets.cgi.services]]
name = "in-flight"
processes = ["slow", "sleep"]
action = "wait"
"""


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        pytest.param(30, 10_000, marks=pytest.mark.lab),
        pytest.param(180, 100_000, marks=pytest.mark.torture),
    ],
)
def test_no_request_fails_through_flips_restarts_and_rollbacks(
    admin: Admin,
    releases: dict[str, BuiltRelease],
    seconds: int,
    requests: int,
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("needs wrk (apt-get install wrk)")
    lab = admin.lab
    fleet = both_served(admin, releases, RULES)

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


def both_served(admin: Admin, releases: dict[str, BuiltRelease], rules: str) -> Path:
    """Deploy 1.0 and then 2.0 to a frontend with the pool, by these rules; its inventory."""
    lab = admin.lab
    fleet = admin.folder / "graceful.toml"
    rule = '\n[[sets.cgi.services]]\nname = "fcgiwrap"\n'
    fleet.write_text(lab.fleet.read_text().replace(rule, rules))
    lab.on("www1", "sv up pool")
    for version in ("1.0", "2.0"):
        image = str(releases[version].folder)
        deployed = admin.deploy("--yes", "--image", image, fleet=fleet)
        assert deployed.code == 0, deployed
    return fleet


@pytest.mark.lab
def test_a_cgi_in_flight_ends_wholly_old_and_the_switch_waits_for_it(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    fleet = both_served(admin, releases, RULES)
    waiting = fleet.with_name("waiting.toml")
    waiting.write_text(fleet.read_text().replace(RULES, WAITING + RULES))
    old = linked(lab, "www1")
    mount = {"A": "/webroot/cgi1", "B": "/webroot/cgi2"}[old]

    with ThreadPoolExecutor(1) as asking:
        asked = asking.submit(lab.fetch, "www1", "/pool?slow-cgi", 120)
        runs = "pgrep -x slow"
        until("the CGI runs", lambda: lab.on("www1", runs, check=False), within_s=20)
        pid = lab.on("www1", runs)

        refused = admin.deploy("rollback", "--yes", fleet=fleet)
        assert refused.code in {3, 4}, refused
        assert f"pid {pid} slow" in refused.stdout, refused
        assert (linked(lab, "www1"), lab.on("www1", runs)) == (old, pid)

        deploy = admin.start("rollback", "--yes", fleet=waiting)
        assert deploy.await_start("drain", "www1"), deploy.end()
        assert linked(lab, "www1") != old
        new = (200, "version 1.0\nversion 1.0\n")
        assert [lab.fetch("www1", "/pool") for _ in range(20)] == [new] * 20
        time.sleep(1)
        assert (deploy.process.poll(), asked.done(), lab.on("www1", runs)) == (None, False, pid)
        lab.on("www1", f"touch {mount}/tmp/slow.end")
        assert asked.result() == (200, "version 2.0\nversion 2.0\n")
    ended = deploy.end()
    assert ended.code == 0, ended
    assert "nothing uses slot" in ended.stderr, ended


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
