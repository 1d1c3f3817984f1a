"""Who uses a slot: all who do are found, none who does not, and each is dealt with by its rule."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployer.fleet_file import load
from slots.answers import answer
from slots.calls import users_call
from slots.platform import PLATFORMS
from slots.scripts import command_line, script
from slots.slot import SlotName
from tests.lab.admin import Admin, Answer, linked, served
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import Lab

NONCE = "fedcba9876543210"
pytestmark = pytest.mark.lab

BYSTANDERS = 1000
START_S = 120  # since a process began, with all that this machine does beside
LOOK_S = 1.0  # of the processor, for a look at a thousand processes
# What each process is called, and how it comes to use /webroot/cgi1. `exec -a` is bash's.
HOLDERS = {
    "in-cwd": "cd /webroot/cgi1/usr && exec /run/in-cwd 600",
    "in-file": "exec /run/in-file 600 </webroot/cgi1/etc/passwd",
    "in-beneath": "exec /run/in-beneath 600 </webroot/cgi1/usr/share/payload",
    "in-map": "LD_PRELOAD=$(echo /webroot/cgi1/lib/*/libc.so.6) exec /run/in-map 600",
    "in-text": "exec /webroot/cgi1/bin/busybox sleep 600",
    "in-deleted": "exec 5>/webroot/cgi1/tmp/gone; rm /webroot/cgi1/tmp/gone;"
    "exec /run/in-deleted 600",
    "in-bind": "exec /run/in-bind 600 </webroot/cgi1/home/alice/note",
    "in-dev": "exec /run/in-dev 600 </webroot/cgi1/dev/null",
    "in-chroot": "exec chroot /webroot/cgi1 /bin/sleep 600",
    "in-mounts": "exec unshare --mount --propagation private /bin/sh -c "
    "'cd /webroot/cgi1/home && exec /run/in-mounts 600'",
}
BESIDE = {
    "by-home": "exec /run/by-home 600 </home/alice/note",
    "by-null": "exec /run/by-null 600 </dev/null >/dev/null",
    "by-mounts": "exec unshare --mount --propagation private /run/by-mounts 600",
}
# The host's own /dev inside the slot, whose device everybody has; and files that a mount hides.
BIND_DEV = "mount --bind /dev /webroot/cgi1/dev"
HIDE = "mount -t tmpfs tmpfs /webroot/cgi1/usr/share"
SHOW = "umount /webroot/cgi1/usr/share /webroot/cgi1/dev"
RULES = """
uncovered = "{uncovered}"
drain_s = 2
"""


@contextmanager
def running(lab: Lab, name: str, commands: dict[str, str]) -> Iterator[dict[str, int]]:
    """Run these processes on a frontend, each under a name of its own; yields their numbers."""
    lab.on(name, "echo hello >/home/alice/note")
    pids = {}
    for known, command in commands.items():
        lab.on(name, f"cp /bin/sleep /run/{known}")
        started = f"setsid sh -c {shlex.quote(command)}"
        pids[known] = int(lab.on(name, f"{started} >/dev/null 2>&1 & echo $!"))
    time.sleep(0.5)
    try:
        yield pids
    finally:
        numbers = " ".join(map(str, pids.values()))
        lab.on(name, f"kill -9 {numbers} 2>/dev/null; true")


def users(admin: Admin, *arguments: str) -> dict[int, dict[str, Any]]:
    told = admin.deploy_well("ps", "--json", *arguments)
    (host,) = json.loads(told.stdout)["hosts"]
    return {one["pid"]: one for one in host["users"]}


def with_rules(lab: Lab, folder: Path, services: str, uncovered: str = "stop") -> Path:
    text = lab.fleet.read_text()
    before, after = text.split("[sets.cgi.slots]")
    slots, checks = after.split("[[sets.cgi.checks]]", 1)
    slots = slots.split("[[sets.cgi.services]]")[0]
    fleet = folder / "rules.toml"
    rules = RULES.format(uncovered=uncovered)
    fleet.write_text(f"{before}{rules}[sets.cgi.slots]{slots}{services}[[sets.cgi.checks]]{checks}")
    return fleet


SERVICES = """
[[sets.cgi.services]]
name = "fcgiwrap"
restart = ["sv", "restart", "fcgiwrap"]
[[sets.cgi.services]]
name = "worker"
processes = ["worker", "perl"]
restart = ["sv", "restart", "worker"]
"""
EACH_BY_ITS_RULE = f"""{SERVICES}
[[sets.cgi.services]]
name = "map"
processes = ["in-map"]
command = ["kill", "{{pids}}"]
[[sets.cgi.services]]
name = "shells"
processes = ["in-cwd", "in-mounts"]
action = "wait"
[[sets.cgi.services]]
name = "rest"
processes = ["in-*", "busybox", "sleep"]
action = "kill"
deadline_s = 1
"""


def test_all_who_use_the_slot_are_found_and_dealt_with_by_their_rules(
    admin: Admin,
    releases: dict[str, BuiltRelease],
) -> None:
    lab = admin.lab
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))
    assert served(lab, "www1") == "1.0"
    services = set(users(admin))
    lab.on(
        "www1",
        f"i=0; while [ $i -lt {BYSTANDERS} ]; do sleep 600 & i=$((i+1)); done >/dev/null 2>&1",
    )

    lab.on("www1", BIND_DEV)
    with running(lab, "www1", HOLDERS | BESIDE) as pids:
        lab.on("www1", HIDE)
        assert look_cpu_s(lab, "www1") < LOOK_S
        found = users(admin)
        assert set(found) == services | {pids[name] for name in HOLDERS}, (pids, found)
        holds = {name: found[pids[name]]["holds"] for name in HOLDERS}
        assert holds["in-map"] == ["map"], holds
        for name in ("in-file", "in-beneath", "in-deleted", "in-dev"):
            assert holds[name] == ["file"], (name, holds)
        assert {"root", "cwd"} <= set(holds["in-chroot"]), holds

        fleet = with_rules(lab, admin.folder, SERVICES)
        image = ("--yes", "--slot", "B", "--image", str(releases["2.0"].folder))
        refused = admin.deploy(*image, fleet=fleet)
        assert refused.code in {3, 4}, refused
        assert "no rule covers" in refused.stdout, refused
        assert linked(lab, "www1") == "A"

        fleet = with_rules(lab, admin.folder, EACH_BY_ITS_RULE)
        late = admin.deploy(*image, fleet=fleet)
        stragglers_are_named(late, {name: pids[name] for name in ("in-cwd", "in-mounts")})
        assert linked(lab, "www1") == "B"
        assert served(lab, "www1") == "2.0"
        left = set(users(admin, "--slot", "A"))
        assert left == {pids["in-cwd"], pids["in-mounts"]}
        lab.on("www1", f"kill -9 {pids['in-cwd']} {pids['in-mounts']}")
        done = admin.deploy(*image, fleet=fleet)
        assert done.code == 0, done
    assert users(admin, "--slot", "A") == {}
    lab.on("www1", SHOW)
    a_lazily_unmounted_slot_is_still_used(admin, str(releases["3.0"].folder))
    lab.on("www1", "pkill -x sleep; true")


def a_lazily_unmounted_slot_is_still_used(admin: Admin, image: str) -> None:
    lab, deploying = admin.lab, ("--yes", "--slot", "A", "--image", image)
    lazy = {"lazy": "cd /webroot/cgi1/usr && exec /run/lazy 600"}
    with running(lab, "www1", lazy) as pids:
        lab.on("www1", "umount -l /webroot/cgi1; ! mountpoint -q /webroot/cgi1")
        (one,) = users(admin, "--slot", "A").values()
        told = {"pid": pids["lazy"], "command": "lazy", "user": "root", "holds": ["cwd"]}
        told |= {"slot": "A", "active": False, "rule": None}
        assert one | told == one
        since = datetime.fromisoformat(one["since"])
        assert abs((datetime.now(UTC) - since).total_seconds()) < START_S

        refused = admin.deploy(*deploying)
        assert refused.code in {3, 4}, refused
        assert f"pid {pids['lazy']} lazy (root)" in refused.stdout, refused
        assert (linked(lab, "www1"), served(lab, "www1")) == ("B", "2.0")
    admin.deploy_well(*deploying)
    assert (linked(lab, "www1"), served(lab, "www1")) == ("A", "3.0")


def look_cpu_s(lab: Lab, name: str) -> float:
    """Return what a look at all processes of a frontend costs of the processor."""
    slots = load(lab.fleet).hosts[0].sets["cgi"]
    text = script(PLATFORMS["Linux"], slots, users_call(SlotName.A), NONCE)
    before = os.times()
    done = subprocess.run(
        lab.inside(name, "/bin/sh", "-c", command_line(len(text))),
        input=text, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    after = os.times()
    assert answer(done.stdout, NONCE).all("user")
    cost_s = sum(after[2:4]) - sum(before[2:4])
    print(f"a look costs {cost_s:.2f} s")
    return cost_s


def stragglers_are_named(said: Answer, pids: dict[str, int]) -> None:
    assert said.code in {3, 4}, said
    for name, pid in pids.items():
        assert f"process {pid} {name} (root)" in said.stdout, said
