"""A pack brought to a host and replayed there, by the real verbs under each shell."""

import random
from pathlib import Path

import pytest

from slots import scripts
from slots.actions import Erase, Fill, Patch, Seal
from slots.sandbox import Sandbox
from slots.slot import Slot, SlotName, SlotSet
from tests.slots import images, packs
from tests.slots.hosts import Host

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 2 << 20
SHELLS = ("dash", "busybox sh", "mksh")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in "ab":
        with (tmp_path / name).open("wb") as file:
            file.truncate(SLOT_BYTES)
    slots = SlotSet(
        name="cgi",
        link=f"{tmp_path}/cgi",
        slots=(
            Slot(A, f"{tmp_path}/a", f"{tmp_path}/1"),
            Slot(B, f"{tmp_path}/b", f"{tmp_path}/2"),
        ),
        records=f"{tmp_path}/records of it",
    )
    return Host(Sandbox(), slots)


def write(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    art = image.artefact
    for action, payload in (
        (Erase(name), b""),
        (Fill(name, art), image.body),
        (Seal(name, art, "r1"), image.head),
        (images.proof(name, art), b""),
    ):
        answer = host.do(action, token, payload)
        assert answer.status == 0, (action, answer)


def stage(host: Host, pack: packs.Pack, token: str, offset: int = 0) -> scripts.Answer:
    call = scripts.stage_call(token, pack.sha256, pack.size_bytes, offset)
    return host.run(call, pack.data[offset:])


def update(host: Host, old: images.Image, new: images.Image, pack: packs.Pack, token: str) -> None:
    """Bring slot B from nothing to the new image by the pack, and prove it."""
    assert stage(host, pack, token).status == 0
    patch = Patch(B, new.artefact, pack.sha256, old.artefact.sha256)
    for action, payload in (
        (Erase(B), b""),
        (patch, b""),
        (Seal(B, new.artefact, "r2"), new.head),
        (images.proof(B, new.artefact), b""),
    ):
        answer = host.do(action, token, payload)
        assert answer.status == 0, (action, answer)


@pytest.mark.parametrize("unit", [512, 1])
def test_a_pack_makes_the_new_image_out_of_the_old_one(host: Host, shell: str, unit: int) -> None:
    host.shell = shell
    chance = random.Random(1)  # noqa: S311 - bytes of a test
    old = images.of_bytes(chance.randbytes(700_000), "uzip")
    mixed = old.data[:100_000] + chance.randbytes(70_001) + old.data[300_000:]
    new = images.of_bytes(mixed, "uzip")
    pack = packs.pack(old, new, unit, packs.moves_of(old.data, new.data, unit, 512))
    with host.lock() as token:
        write(host, A, old, token)
        update(host, old, new, pack, token)
    assert Path(host.slots.slot(B).device).read_bytes()[: len(new.data)] == new.data
    staging = Path(host.slots.records) / "staging/cgi"
    assert list(staging.iterdir()) == []
