"""A deploy broken off in each of its steps: a whole image serves, and the next run gets there."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pytest

from tests.lab.admin import HEAD_BYTES, Admin, artefact, linked, served, slot_digest
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

Releases = dict[str, BuiltRelease]
MakeLab = Callable[..., Lab]
MakeAdmin = Callable[[Lab], Admin]

STEPS = (
    "lock", "cover", "unmount", "erase", "fill", "seal", "prove", "mount", "arm", "flip", "restart",
    "drain", "check", "confirm", "judge",
)  # fmt: skip
LONGEST_DELAY_S = 0.15
SILENCE_S = 20.0  # until a frontend's sshd gives up a client that is silent


class Break(StrEnum):
    """How a deploy is broken off."""

    KILLED = "the deployer is killed"
    CUT = "the connection is cut"
    SILENT = "the network goes away"


@dataclass(frozen=True, slots=True)
class Case:
    """How, where and when a deploy is broken off."""

    how: Break
    step: str
    host: str
    delay_s: float

    def __str__(self) -> str:
        return f"{self.how} {self.delay_s:.3f} s into {self.step} on {self.host}"


def break_off(admin: Admin, case: Case, arguments: tuple[str, ...]) -> None:
    """Start a deploy and break it off a moment after a step began on a host."""
    deploy = admin.start(*arguments)
    assert deploy.await_start(case.step, case.host), f"no step {case.step}: {deploy.end()}"
    time.sleep(case.delay_s)
    match case.how:
        case Break.KILLED:
            deploy.kill()
        case Break.CUT:
            admin.lab.on(case.host, "kill -9 $(pgrep -P $(cat /run/sshd.pid))", check=False)
        case Break.SILENT:
            admin.lab.plug(case.host, up=False)
    ended = deploy.end()
    if case.how is Break.SILENT:
        admin.lab.plug(case.host, up=True)
    # Over before the break reached it: fine; but a cut must not be called a success it was not.
    if ended.code == 0:
        assert arguments[-1].endswith(f"-{served(admin.lab, case.host)}")


def a_whole_image_serves(lab: Lab, host: str, known: Releases) -> None:
    """The link names a mounted slot that holds a whole image, and CGIs answer from an image."""
    slot = linked(lab, host)
    point = {"A": "/webroot/cgi1", "B": "/webroot/cgi2"}[slot]
    assert " squashfs ro," in lab.on(host, f"grep ' {point} ' /proc/mounts")
    version = lab.on(
        host, f"sed -n 's/^echo \"version \\(.*\\)\"/\\1/p' {point}/usr/lib/cgi-bin/version"
    )
    image = artefact(known[version])
    assert slot_digest(lab, host, slot, image.size_bytes) == image.sha256
    assert served_at_last(lab, host) in known


def go_on(admin: Admin, *arguments: str) -> None:
    """Deploy again; a frontend may still be at work for a client that it has not given up."""
    deadline = time.monotonic() + SILENCE_S
    while (answer := admin.deploy(*arguments)).code == 7 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert answer.code == 0, answer


def served_at_last(lab: Lab, host: str) -> str:
    """Ask what is served, over the moment that a service takes to restart."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return served(lab, host)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_deploy_broken_off_in_any_step_leaves_an_image_serving_and_the_next_run_gets_there(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, chance: random.Random
) -> None:
    cases = [(how, step) for how in (Break.KILLED, Break.CUT) for step in STEPS]
    break_and_go_on(make_lab(1), make_admin, releases, chance, cases)


@pytest.mark.torture
def test_hundreds_of_deploys_broken_off_anywhere(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, chance: random.Random
) -> None:
    cases = [(how, step) for how in (Break.KILLED, Break.CUT) for step in STEPS] * 10
    break_and_go_on(make_lab(4), make_admin, releases, chance, cases)


def break_and_go_on(
    lab: Lab,
    make_admin: MakeAdmin,
    releases: Releases,
    chance: random.Random,
    cases: list[tuple[Break, str]],
) -> None:
    admin = make_admin(lab)
    good = {version: release for version, release in releases.items() if version != "sick"}
    versions = [*good]
    for slot, version in (("A", versions[0]), ("B", versions[1])):
        admin.deploy_well("--yes", "--slot", slot, "--image", str(good[version].folder))
    chance.shuffle(cases)
    for number, (how, step) in enumerate(cases):
        # Three versions in turn: the slot that is written never holds what it will hold.
        version, slot = versions[(number + 2) % 3], "AB"[number % 2]
        arguments = ("--yes", "--slot", slot, "--image", str(good[version].folder))
        host, delay_s = chance.choice([*lab.frontends]), chance.uniform(0, LONGEST_DELAY_S)
        case = Case(how, step, host, delay_s)
        print(f"{number}: {case}, {version} to slot {slot}")

        break_off(admin, case, arguments)
        for name in lab.frontends:
            a_whole_image_serves(lab, name, good)

        go_on(admin, *arguments)
        for name in lab.frontends:
            assert (linked(lab, name), served(lab, name)) == (slot, version)
            a_whole_image_serves(lab, name, good)


def test_a_network_that_goes_away_ends_the_deploy_by_its_deadline_and_the_next_run_gets_there(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, chance: random.Random
) -> None:
    lab = make_lab(1)
    admin = make_admin(lab)
    first = ("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))
    second = ("--yes", "--slot", "B", "--image", str(releases["2.0"].folder))
    admin.deploy_well(*first)

    break_off(admin, Case(Break.SILENT, "fill", "www1", chance.uniform(0, 0.05)), second)

    a_whole_image_serves(lab, "www1", releases)
    assert served(lab, "www1") == "1.0"
    go_on(admin, *second)
    assert served(lab, "www1") == "2.0"


def test_a_half_written_slot_cannot_be_mounted_even_without_any_record(
    make_lab: MakeLab, make_admin: MakeAdmin, releases: Releases, chance: random.Random
) -> None:
    lab = make_lab(1)
    admin = make_admin(lab)
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))
    admin.deploy_well("--yes", "--slot", "B", "--image", str(releases["2.0"].folder))
    third = ("--yes", "--slot", "A", "--image", str(releases["3.0"].folder))

    break_off(admin, Case(Break.KILLED, "fill", "www1", chance.uniform(0, 0.05)), third)
    lab.on("www1", "rm -rf /var/db/slots")

    device = "/dev/disk/by-partlabel/cgiA"
    if linked(lab, "www1") == "A":
        pytest.skip("the deploy was over before it was killed")
    head = lab.on(
        "www1", f"dd if={device} bs={HEAD_BYTES} count=1 2>/dev/null | tr -d '\\0' | wc -c"
    )
    assert head == "0"
    said = lab.on("www1", f"mkdir /mnt/x; mount -t squashfs -o ro {device} /mnt/x 2>&1 || echo no")
    assert said.endswith("no")
    refused = admin.deploy("rollback", "--yes")
    assert refused.code == 2, refused
    assert served(lab, "www1") == "2.0"
    go_on(admin, *third)
    assert (linked(lab, "www1"), served(lab, "www1")) == ("A", "3.0")
