"""The power is cut while a slot is written and switched: the next boot serves a whole image."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.power import kernel
from tests.lab.power.guest import Image, images, initramfs
from tests.lab.power.machine import Machine, check_state, make_disk, slot_image
from tests.lab.processes import LabError

pytestmark = pytest.mark.lab

STEPS = ("erase", "seal", "prove", "mount", "arm", "flip", "confirm", "judge", "unmount", "serve")
WAYS = {"whole": ("fill",), "pack": ("stage", "patch")}
OFTEN = (
    "flip",
    "confirm",
    "seal",
    "erase",
)  # where the order of what reaches the disk matters most
BEYOND = 1.2  # a cut comes up to so many times a step's length after its beginning


@dataclass(slots=True)
class Power:
    """A machine, the images that it deploys, and what may serve when it is switched on."""

    machine: Machine
    images: Mapping[str, Image]
    may_serve: set[str] = field(default_factory=set)

    def holds(self) -> dict[str, str]:
        """Return the version in each slot; an image is there wholly or not at all."""
        return {slot: slot_image(self.machine.disk, slot, self.images) for slot in "AB"}

    def follow(self, said: list[str], held: Mapping[str, str]) -> None:
        """Follow what a boot told; `held` is what the slots held before it."""
        slot = new = ""
        armed = False
        for line in said:
            match line.split():
                case ["linked", slot]:
                    assert held[slot] in self.may_serve, (slot, held, self.may_serve)
                case ["served", version]:
                    assert version == held[slot], (slot, held, version)
                    self.may_serve = {version}
                case ["deploy", new, "to", _]:
                    armed = False
                case ["done", "arm"]:
                    armed = True
                # With a guard it is the confirmation that decides: until then the hook goes back.
                case ["begin", "flip" | "confirm" as step] if step == "confirm" or not armed:
                    self.may_serve = {*self.may_serve, new}
                case ["done", "flip" | "confirm" as step] if step == "confirm" or not armed:
                    self.may_serve = {new}
                case ["failed", *why]:
                    pytest.fail(f"the machine: {' '.join(why)}")
                case _:
                    pass

    def look(self, scratch: Path) -> dict[str, str]:
        """Look at the disk that is left: a clean state, and what may serve is whole."""
        check_state(self.machine.disk, scratch)
        held = self.holds()
        assert self.may_serve <= set(held.values()), (self.may_serve, held)
        return held


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Image]]:
    """The kernel and the initramfs that deploys these images, made once."""
    if reason := kernel.why_not():
        pytest.skip(reason)
    try:
        program, modules = kernel.fetched()
    except LabError as error:
        pytest.skip(f"no kernel to cut the power of: {error}")
    folder = tmp_path_factory.mktemp("power")
    made = images(folder)
    return program, initramfs(folder, made, modules), made


@pytest.fixture
def power(tmp_path: Path, frontend: tuple[Path, Path, dict[str, Image]]) -> Power:
    program, archive, made = frontend
    disk = tmp_path / "disk"
    make_disk(disk)
    return Power(Machine(tmp_path, disk, program, archive), made)


def test_the_power_cut_at_any_moment_leaves_an_image_that_serves_and_the_next_run_gets_there(
    power: Power, chance: random.Random
) -> None:
    cut_and_go_on(power, chance, 2)


def test_a_switch_that_is_cut_before_it_is_confirmed_is_taken_back_by_the_boot_hook(
    power: Power,
) -> None:
    with power.machine.boot(way="whole", deploys=1) as boot:
        boot.wait("over")
    power.follow(boot.said, power.holds())
    held = power.look(power.machine.folder / "state")
    with power.machine.boot(way="whole", deploys=1) as boot:
        boot.wait("done flip")
        power.follow(boot.cut(), held)
    held = power.look(power.machine.folder / "state")
    with power.machine.boot(way="whole", deploys=0) as boot:
        boot.wait("over")
    power.follow(boot.said, held)
    told = [line for line in boot.said if "nobody confirmed was cut: slot A is to serve" in line]
    assert told or power.may_serve == {"2"}, boot.said  # it was just confirmed


@pytest.mark.torture
def test_dozens_of_power_cuts(power: Power, chance: random.Random) -> None:
    cut_and_go_on(power, chance, 36)


def cut_and_go_on(power: Power, chance: random.Random, cuts: int) -> None:
    """Every boot looks at what the cut before it left, deploys, and is cut in its turn."""
    scratch = power.machine.folder / "state"
    with power.machine.boot(way="pack", deploys=2) as boot:
        boot.wait("over")
        seconds = boot.step_seconds()
        power.follow(boot.said, power.holds())
    for number in range(cuts):
        held = power.look(scratch)
        way = chance.choice([*WAYS])
        step = chance.choice(STEPS + WAYS[way] * 3 + OFTEN)
        times = 1 if step == "serve" else chance.choice((1, 2))
        delay_s = chance.uniform(0, BEYOND) * seconds.get(step, 1.0)
        print(f"{number}: cut {delay_s:.3f} s into {step}, deploy {times}, {way}; {held}")
        with power.machine.boot(way=way, deploys=3) as boot:
            boot.wait(f"begin {step}", times)
            time.sleep(delay_s)
            boot.cut()
        print("   ", boot.said[-1])
        power.follow(boot.said, held)
    held = power.look(scratch)
    with power.machine.boot(way="whole", deploys=1) as boot:
        boot.wait("over")
    power.follow(boot.said, held)
    power.look(scratch)
