"""A reader sees no moment without an image while the link is flipped."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deployer.fleet_file import load
from slots.actions import Flip
from slots.answers import answer
from slots.calls import call, lock_call
from slots.platform import PLATFORMS
from slots.scripts import command_line, script
from slots.slot import SlotName, SlotSet
from tests.lab.admin import Admin
from tests.lab.chroot import BuiltRelease
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

TOKEN = "0123456789abcdef"
NONCE = "fedcba9876543210"
READER = """\
use strict; use warnings;
my ($opens, $errors) = (0, 0);
until (-e "/run/reader.stop") {
    select(undef, undef, undef, 0.0005);
    for (1 .. 50) {
        if (open(my $file, "<", "/webroot/cgi/usr/lib/cgi-bin/version")) { $opens++ }
        else { $errors++; print "$!\\n" }
    }
}
print "$opens opens, $errors errors\\n";
"""


@pytest.mark.parametrize("flips", [200, pytest.param(1000, marks=pytest.mark.torture)])
def test_a_reader_meets_no_error_while_the_link_flips_and_flips(
    admin: Admin,
    releases: dict[str, BuiltRelease],
    flips: int,
) -> None:
    lab = admin.lab
    for slot, version in (("A", "1.0"), ("B", "2.0")):
        admin.deploy_well("--yes", "--slot", slot, "--image", str(releases[version].folder))
    slots = load(lab.fleet).hosts[0].sets["cgi"]
    reader = subprocess.Popen(
        lab.inside("www1", "perl", "-e", READER),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    with lock_held(lab, "www1", slots):
        flipped = flip_back_and_forth(lab, "www1", slots, flips)
    lab.on("www1", "touch /run/reader.stop")
    said, _ = reader.communicate(timeout=60)

    assert flipped == flips
    opens, errors = (int(word.split()[0]) for word in said.splitlines()[-1].split(", "))
    assert errors == 0, said
    assert opens > flips
    print(said)


@contextmanager
def lock_held(lab: Lab, name: str, slots: SlotSet) -> Iterator[None]:
    """Hold the set's lock as a deployer does, by a verb whose stdin stays open."""
    text = script(PLATFORMS["Linux"], slots, lock_call("the tests", TOKEN), NONCE)
    with subprocess.Popen(
        lab.inside(name, "/bin/sh", "-c", command_line(len(text))),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as lock:  # fmt: skip
        assert lock.stdin is not None
        assert lock.stdout is not None
        lock.stdin.write(text)
        lock.stdin.flush()
        while b"locked=" not in (line := lock.stdout.readline()):
            assert line, "the lock verb ended"
        yield
        lock.stdin.close()
        lock.stdout.read()


def flip_back_and_forth(lab: Lab, name: str, slots: SlotSet, flips: int) -> int:
    """Flip with the frontend's own verb, all in one script; return how often the link moved."""
    platform = PLATFORMS["Linux"]
    once = "\n".join(call(platform, Flip(slot), TOKEN) for slot in (SlotName.A, SlotName.B))
    loop = f"flips=0\nwhile [ $flips -lt {flips} ]; do\n{once}\nflips=$((flips + 2))\ndone"
    text = script(platform, slots, loop, NONCE)
    done = subprocess.run(
        lab.inside(name, "/bin/sh", "-c", command_line(len(text))),
        input=text, capture_output=True, check=False, timeout=540,
    )  # fmt: skip
    said = answer(done.stdout, NONCE)
    assert said.status == 0, said.values[-3:]
    links = said.all("link")
    assert links == ("cgi1", "cgi2") * (flips // 2)
    return len(links)
