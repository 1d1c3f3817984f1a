"""A deploy broken off in each of its steps: a whole image serves, and the next run gets there."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.lab.admin import HEAD_BYTES, Admin, artefact, linked, served, slot_digest
from tests.lab.chroot import BuiltRelease, build, small_chroot
from tests.lab.frontends import Lab
from tests.lab.proxy import PORT, Proxy

pytestmark = pytest.mark.lab

Releases = dict[str, BuiltRelease]
MakeLab = Callable[..., Lab]
MakeAdmin = Callable[[Lab], Admin]


class Way(StrEnum):
    """What is broken off: how the image gets there, or a rollback."""

    WHOLE = "whole"
    PACK = "pack"
    ROLLBACK = "rollback"


class Break(StrEnum):
    """How it is broken off."""

    KILLED = "the deployer is killed"
    SHELL = "a shell of the deploy on the frontend is killed"
    CUT = "the connection is cut"
    REBOOT = "the frontend is killed and started again"
    SILENT = "the network goes away"


BREAKS = (Break.KILLED, Break.SHELL, Break.CUT, Break.REBOOT)
WRITING = (Way.WHOLE, Way.PACK)
# Each step of a deploy, and the ways that take it; a new step is a new row.
STEPS: Mapping[str, tuple[Way, ...]] = {
    "lock": WRITING,
    "probe": WRITING,
    "unmount": WRITING,
    "erase": WRITING,
    "fill": (Way.WHOLE,),
    "stage": (Way.PACK,),
    "patch": (Way.PACK,),
    "seal": WRITING,
    "prove": WRITING,
    "mount": WRITING,
    "preflight": WRITING,
    "cover": WRITING,
    "baseline": WRITING,
    "arm": WRITING,
    "flip": WRITING,
    "restart": WRITING,
    "drain": WRITING,
    "check": WRITING,
    "confirm": WRITING,
    "judge": WRITING,
    "reread": WRITING,
}
NOT_BROKEN = frozenset(("verify", "pack"))  # the deployer's own, before it asks a frontend
AFTER_A_BREAK = frozenset({"disarm"})
ROLLBACK_STEPS = ("preflight", "cover", "arm", "flip", "restart", "drain", "check", "confirm")
CELLS = (
    *((step, ways) for step, ways in STEPS.items()),
    *((step, (Way.ROLLBACK,)) for step in ROLLBACK_STEPS),
)
SAMPLED = frozenset(
    ("probe", "fill", "stage", "patch", "prove", "mount", "preflight", "flip", "restart", "drain",
     "confirm")
)  # fmt: skip
SAMPLED_ROLLBACK = frozenset(("flip", "confirm"))
SAMPLED_BREAKS = 1  # another one with each seed; all of them in full
NOT_ALWAYS = frozenset({"unmount"})  # after a reboot nothing is mounted
TRIAL = """\
[[sets.cgi.preflight]]
kind = "cgi"
path = "/usr/lib/cgi-bin/version"
contains = "version"

"""
BEYOND = 1.2  # a break comes up to so many times a step's length after its beginning
SILENCE_S = 60.0  # until a frontend's sshd gives up a client that is silent: 15, were it alone here
FAMILIES = {"1": ("1.0", "1.1", "1.2"), "2": ("2.0", "2.1", "2.2")}
SHELLS = "pgrep -f '[d]d bs=1 count=' || :"


@dataclass(frozen=True, slots=True)
class Case:
    """What is broken off, how, where and when."""

    how: Break
    way: Way
    step: str
    host: str
    delay_s: float

    def __str__(self) -> str:
        return f"{self.how} {self.delay_s:.3f} s into {self.step} ({self.way}) on {self.host}"


@dataclass(slots=True)
class Fleet:
    """Frontends that all serve one version, and what their slots hold."""

    lab: Lab
    admins: Mapping[str, Admin]  # by family: each knows the releases of its own alone
    releases: Releases
    chance: random.Random
    proxies: Mapping[str, Proxy]
    held: dict[str, str]  # version by slot
    active: str

    def admin(self, version: str) -> Admin:
        """Return the one who deploys this version: no pack leads there from another family."""
        return self.admins[version.partition(".")[0]]

    def goal(self, way: Way) -> tuple[str, str]:
        """Return the slot and the version to go to, by this way."""
        slot = "B" if self.active == "A" else "A"
        family = self.held[self.active].partition(".")[0]
        if way is Way.ROLLBACK:
            return slot, self.held[slot]
        if way is Way.WHOLE:
            family = "2" if family == "1" else "1"
        return slot, self.chance.choice(
            [v for v in FAMILIES[family] if v not in self.held.values()]
        )

    def deploying(self, slot: str, version: str) -> tuple[str, ...]:
        return ("--yes", "--slot", slot, "--image", str(self.releases[version].folder))

    def shells(self, host: str) -> str:
        """Return the process of a shell that works for the deployer, any of them."""
        return self.chance.choice(self.lab.on(host, SHELLS).split() or [""])


def break_off(fleet: Fleet, case: Case, admin: Admin, arguments: tuple[str, ...]) -> int:
    """Start a deploy and break it off a moment after a step began on a host; its exit code."""
    lab = fleet.lab
    deploy = admin.start(*arguments)
    if not deploy.await_start(case.step, case.host):
        ended = deploy.end()
        assert ended.code == 0, ended
        assert case.step in NOT_ALWAYS, f"no step {case.step}: {ended}"
        return ended.code
    time.sleep(case.delay_s)
    match case.how:
        case Break.KILLED:
            deploy.kill()
        case Break.SHELL:
            if shell := fleet.shells(case.host):
                lab.on(case.host, f"kill -9 {shell}", check=False)
        case Break.CUT:
            fleet.proxies[case.host].cut(silent=fleet.chance.random() < 0.5)
        case Break.REBOOT:
            lab.reboot(case.host)
        case Break.SILENT:
            lab.plug(case.host, up=False)
    ended = deploy.end()
    if case.how is Break.SILENT:
        lab.plug(case.host, up=True)
    return ended.code


def image_in(lab: Lab, host: str, slot: str, known: Releases) -> str:
    """Return the version of the image in a slot, whole to the bit."""
    for version, release in known.items():
        image = artefact(release)
        if slot_digest(lab, host, slot, image.size_bytes) == image.sha256:
            return version
    pytest.fail(f"{host}: slot {slot} holds no whole image")


def an_image_serves(lab: Lab, host: str, known: Releases, may: set[str]) -> None:
    """The link names a mounted slot with a whole image, and CGIs answer from one of these."""
    slot = linked(lab, host)
    point = {"A": "/webroot/cgi1", "B": "/webroot/cgi2"}[slot]
    assert " squashfs ro," in lab.on(host, f"grep ' {point} ' /proc/mounts")
    assert image_in(lab, host, slot, known) in may
    assert served_at_last(lab, host) in may


def go_on(admin: Admin, *arguments: str) -> dict[str, float]:
    """Deploy again; a frontend may still be at work for a client that it has not given up.

    Returns how long each step took.
    """
    deadline = time.monotonic() + SILENCE_S
    while True:
        deploy = admin.start(*arguments)
        answer = deploy.end()
        if answer.code != 7 or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert answer.code == 0, answer
    return deploy.step_seconds()


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


@pytest.fixture
def make_fleet(
    make_lab: MakeLab, make_admin: MakeAdmin, chance: random.Random
) -> Iterator[Callable[[int], Fleet]]:
    """Frontends behind proxies, with an image in each slot."""
    proxies: dict[str, Proxy] = {}

    def make(frontends: int) -> Fleet:
        lab = make_lab(frontends)
        folder = make_admin(lab).folder
        proxies.update({name: Proxy(lab, name) for name in lab.frontends})
        through_proxies(lab)
        try_a_cgi(lab)
        admins = {family: Admin(lab, folder / family) for family in FAMILIES}
        held = {"A": "1.0", "B": "1.1"}
        fleet = Fleet(lab, admins, build_families(folder), chance, proxies, held, "B")
        for slot, version in held.items():
            fleet.admin(version).deploy_well(*fleet.deploying(slot, version))
        # What a boot does, for those that are killed and started again.
        fleet.admin(held["A"]).deploy_well("provision", "--yes", "--no-image")
        return fleet

    yield make
    for proxy in proxies.values():
        proxy.close()


def try_a_cgi(lab: Lab) -> None:
    """Have a CGI be tried before the flip."""
    text = lab.fleet.read_text()
    lab.fleet.write_text(text.replace("[[sets.cgi.checks]]\n", f"{TRIAL}[[sets.cgi.checks]]\n", 1))


def through_proxies(lab: Lab) -> None:
    """Have SSH go to the proxies."""
    text = lab.fleet.read_text()
    lab.fleet.write_text(text.replace("[ssh]\n", f"[ssh]\nport = {PORT}\n"))
    known = lab.folder / "known_hosts"
    lines = known.read_text().splitlines()
    for line in [*lines]:
        names, key = line.split(" ", 1)
        lines.append(",".join(f"[{name}]:{PORT}" for name in names.split(",")) + f" {key}")
    known.write_text("\n".join(lines) + "\n")


def build_families(folder: Path) -> Releases:
    """Build the releases in a folder for each family: within one little differs."""
    made = {}
    for family, versions in FAMILIES.items():
        for version in versions:
            tree = small_chroot(folder / family / f"tree-{version}", version)
            payload = (folder / family / f"tree-{versions[0]}/usr/share/payload").read_bytes()
            (tree / "usr/share/payload").write_bytes(payload + version.encode() * 10_000)
            made[version] = build(folder / family, tree, version)
    return made


def test_a_deploy_broken_off_in_any_step_leaves_an_image_serving_and_the_next_run_gets_there(
    make_fleet: Callable[[int], Fleet],
) -> None:
    fleet = make_fleet(1)
    cells = [
        (how, step, ways)
        for step, ways in CELLS
        if step in (SAMPLED_ROLLBACK if Way.ROLLBACK in ways else SAMPLED)
        for how in fleet.chance.sample(BREAKS, SAMPLED_BREAKS)
    ]
    break_and_go_on(fleet, cells)


@pytest.mark.torture
def test_hundreds_of_deploys_broken_off_anywhere(make_fleet: Callable[[int], Fleet]) -> None:
    cells = [(how, step, ways) for how in BREAKS for step, ways in CELLS] * 2
    assert len(cells) >= 200
    break_and_go_on(make_fleet(2), cells)


def break_and_go_on(fleet: Fleet, cells: list[tuple[Break, str, tuple[Way, ...]]]) -> None:
    lab, chance = fleet.lab, fleet.chance
    seconds: dict[str, float] = {}
    chance.shuffle(cells)
    for number, (how, step, ways) in enumerate(cells):
        way = chance.choice(ways)
        slot, version = fleet.goal(way)
        delay_s = chance.uniform(0, BEYOND) * seconds.get(step, 0.1)
        case = Case(how, way, step, chance.choice([*lab.frontends]), delay_s)
        print(f"{number}: {case}, {version} to slot {slot}")
        deploying = fleet.deploying(slot, version)

        admin = fleet.admin(version)
        broken = ("rollback", "--yes") if way is Way.ROLLBACK else deploying
        code = break_off(fleet, case, admin, broken)
        for name in lab.frontends:
            # Over before the break reached it: fine; but a cut must not be called a success.
            may = {version} if code == 0 else {version, fleet.held[fleet.active]}
            an_image_serves(lab, name, fleet.releases, may)

        seconds.update(go_on(admin, *deploying))
        assert set(seconds) <= NOT_BROKEN | AFTER_A_BREAK | set(STEPS), "a step without a row"
        fleet.held[slot], fleet.active = version, slot
        for name in lab.frontends:
            assert linked(lab, name) == slot
            an_image_serves(lab, name, fleet.releases, {version})


def test_a_network_that_goes_away_ends_the_deploy_by_its_deadline_and_the_next_run_gets_there(
    make_fleet: Callable[[int], Fleet], chance: random.Random
) -> None:
    fleet = make_fleet(1)
    slot, version = fleet.goal(Way.WHOLE)
    deploying = fleet.deploying(slot, version)

    case = Case(Break.SILENT, Way.WHOLE, "fill", "www1", chance.uniform(0, 0.05))
    break_off(fleet, case, fleet.admin(version), deploying)

    an_image_serves(fleet.lab, "www1", fleet.releases, {"1.1"})
    go_on(fleet.admin(version), *deploying)
    an_image_serves(fleet.lab, "www1", fleet.releases, {version})


def test_a_half_written_slot_cannot_be_mounted_even_without_any_record(
    make_fleet: Callable[[int], Fleet], chance: random.Random
) -> None:
    fleet = make_fleet(1)
    slot, version = fleet.goal(Way.WHOLE)
    lab, admin = fleet.lab, fleet.admin(version)
    deploying = fleet.deploying(slot, version)

    case = Case(Break.KILLED, Way.WHOLE, "fill", "www1", chance.uniform(0, 0.05))
    break_off(fleet, case, admin, deploying)
    lab.on("www1", "rm -rf /var/db/slots")

    device = f"/dev/disk/by-partlabel/cgi{slot}"
    if linked(lab, "www1") == slot:
        pytest.skip("the deploy was over before it was killed")
    head = lab.on(
        "www1", f"dd if={device} bs={HEAD_BYTES} count=1 2>/dev/null | tr -d '\\0' | wc -c"
    )
    assert head == "0"
    said = lab.on("www1", f"mkdir /mnt/x; mount -t squashfs -o ro {device} /mnt/x 2>&1 || echo no")
    assert said.endswith("no")
    refused = admin.deploy("rollback", "--yes")
    assert refused.code == 2, refused
    assert served(lab, "www1") == "1.1"
    go_on(admin, *deploying)
    assert (linked(lab, "www1"), served(lab, "www1")) == (slot, version)
