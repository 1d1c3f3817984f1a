"""An update over SSH against sandbox frontends sends what is new, and says so."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slots.manifest import HEAD_BYTES
from slots.pack import packed_head
from tests.deployer.conftest import AdminBox
from tests.slots.patches import noise

ONLY = ("--hosts", "www1")
BALLAST = noise(7, 900_000)


@pytest.fixture(scope="module")
def box(admin_box: AdminBox) -> AdminBox:
    """www1 serves release 1; releases have most of their ballast in common."""
    admin_box.release("1", ballast=BALLAST)
    assert admin_box.deploy("--image", "cgi-1", "--slot", "A", "--yes", *ONLY).status == 0
    return admin_box


def newer(box: AdminBox, version: str) -> Path:
    """Make a release that has most in common with those before."""
    return box.release(version, ballast=BALLAST[:500_000] + version.encode() + BALLAST[500_000:])


def planned(box: AdminBox, version: str) -> Any:
    ran = box.deploy("plan", "--json", "--image", f"cgi-{version}", *ONLY)
    assert ran.status == 0, ran.stdout
    return json.loads(ran.stdout)["hosts"][0]["plan"]


def travelling(folder: Path) -> tuple[int, int]:
    """Return how many bytes the head of an image travels in, and the rest."""
    data = (folder / "cgi.squashfs").read_bytes()
    return len(packed_head(data[:HEAD_BYTES])), len(data) - HEAD_BYTES


def staged(box: AdminBox) -> list[str]:
    return [path.name for path in box.folder.rglob("staging/cgi/*")]


def test_a_pack_travels_in_place_of_the_image(box: AdminBox) -> None:
    folder = newer(box, "2")
    plan = planned(box, "2")
    whole = (folder / "cgi.squashfs").stat().st_size
    assert plan["way"] == "pack"
    writing = [one for one in plan["actions"] if one in {"stage", "erase", "fill", "patch", "seal"}]
    assert writing == ["stage", "erase", "patch", "seal"]
    head, _ = travelling(folder)
    assert plan["sends_bytes"] == plan["pack"]["size_bytes"] + head < whole / 3
    ran = box.deploy("--image", "cgi-2", "--yes", "--json", *ONLY)
    assert ran.status == 0, ran.stdout
    assert box.served() == "2"
    result = json.loads(ran.stdout)
    assert result["travelled_bytes"] == plan["sends_bytes"], "as predicted"
    assert result["hosts"][0]["travelled_bytes"] == plan["sends_bytes"]
    assert result["whole_bytes"] == whole
    assert staged(box) == [], "packs do not pile up"


def test_back_and_forth_each_way_is_a_pack(box: AdminBox) -> None:
    for version in ("3", "4"):
        newer(box, version)
        assert planned(box, version)["way"] == "pack"
        ran = box.deploy("--image", f"cgi-{version}", "--yes", *ONLY)
        assert ran.status == 0
        assert "0.1 MB travelled to 1 host; whole images would have been 0.9 MB" in ran.stdout
        assert box.served() == version


def test_a_slot_that_was_tampered_with_is_caught_and_the_whole_image_travels(
    box: AdminBox,
) -> None:
    folder = newer(box, "tampered")
    plan = planned(box, "tampered")
    assert plan["way"] == "pack"
    device = device_of(box, plan["active"])
    data = bytearray(device.read_bytes())
    data[len(BALLAST) // 2] ^= 1
    device.write_bytes(data)
    ran = box.deploy("--image", "cgi-tampered", "--yes", "--json", *ONLY)
    assert ran.status == 0, ran.stdout
    assert box.served() == "tampered"
    notices = [line for line in ran.stderr.splitlines() if '"notice"' in line]
    assert any("is damaged" in line and "the whole image is written" in line for line in notices)
    travelled = json.loads(ran.stdout)["travelled_bytes"]
    assert travelled == plan["sends_bytes"] + sum(travelling(folder))


def device_of(box: AdminBox, slot: str) -> Path:
    status = json.loads(box.deploy("status", "--json", *ONLY).stdout)
    return Path(status["hosts"][0]["slots"][slot]["device"])


def test_a_frontend_that_holds_something_unknown_gets_the_whole_image(box: AdminBox) -> None:
    newer(box, "known")
    assert box.deploy("--image", "cgi-known", "--yes", *ONLY).status == 0
    shutil.rmtree(box.folder / "images/out/cgi-known")
    folder = newer(box, "5")
    plan = planned(box, "5")
    assert plan["way"] == "whole"
    assert plan["sends_bytes"] == sum(travelling(folder))
    assert "has no index of the image" in plan["why"]
    assert box.deploy("--image", "cgi-5", "--yes", *ONLY).status == 0
    assert box.served() == "5"


def test_a_pack_that_is_staged_already_is_not_sent_again(box: AdminBox) -> None:
    newer(box, "6")
    plan = planned(box, "6")
    pack, image = plan["pack"], plan["image"]
    made = box.folder / f"images/out/.packs/{pack['old_sha256']}-{image['sha256']}.pack"
    staging = next((box.folder / "frontends/www1").rglob("*.image")).parent / "staging/cgi"
    staging.mkdir(parents=True, exist_ok=True)  # an earlier test may have left none
    shutil.copy(made, staging / f"{pack['sha256']}.pack")
    with box.start("--image", "cgi-6", "--yes", *ONLY) as ran:
        assert ran.stderr is not None
        told = [json.loads(line) for line in ran.stderr if line.startswith('{"event"')]
        assert ran.wait(60) == 0
    assert {
        "event": "finished",
        "step": "stage",
        "subject": "www1",
        "detail": "the pack is there",
    } in told
    assert not [one for one in told if (one["event"], one.get("step")) == ("progress", "stage")]
    assert box.served() == "6"


def test_a_part_of_a_pack_that_is_longer_than_the_pack_is_begun_again(box: AdminBox) -> None:
    newer(box, "7")
    plan = planned(box, "7")
    staging = next((box.folder / "frontends/www1").rglob("*.image")).parent / "staging/cgi"
    staging.mkdir(parents=True, exist_ok=True)  # an earlier test may have left none
    size_bytes = plan["pack"]["size_bytes"]
    (staging / f"{plan['pack']['sha256']}.partial").write_bytes(bytes(size_bytes + 1))
    ran = box.deploy("--image", "cgi-7", "--yes", "--json", *ONLY)
    assert ran.status == 0, ran.stderr
    assert json.loads(ran.stdout)["travelled_bytes"] == plan["sends_bytes"]
    assert box.served() == "7"


def test_of_a_pack_that_was_cut_the_rest_travels_as_predicted(box: AdminBox) -> None:
    newer(box, "8")
    pack, image = planned(box, "8")["pack"], planned(box, "8")["image"]
    made = box.folder / f"images/out/.packs/{pack['old_sha256']}-{image['sha256']}.pack"
    staging = next((box.folder / "frontends/www1").rglob("*.image")).parent / "staging/cgi"
    staging.mkdir(parents=True, exist_ok=True)  # an earlier test may have left none
    there = made.read_bytes()[: pack["size_bytes"] * 2 // 3]
    (staging / f"{pack['sha256']}.partial").write_bytes(there)
    plan = planned(box, "8")
    head, _ = travelling(box.folder / "images/out/cgi-8")
    assert plan["sends_bytes"] == pack["size_bytes"] - len(there) + head
    ran = box.deploy("--image", "cgi-8", "--yes", "--json", *ONLY)
    assert ran.status == 0, ran.stderr
    assert json.loads(ran.stdout)["travelled_bytes"] == plan["sends_bytes"]
    assert box.served() == "8"
