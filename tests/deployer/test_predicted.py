"""What a plan says will travel is what travels: for each host by itself, whichever way."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from builder.compare import travels
from slots.manifest import HEAD_BYTES
from tests.deployer.conftest import AdminBox
from tests.slots.mirrors import mirror
from tests.slots.patches import noise

BALLAST = noise(7, 900_000)
BOTH = ("www1", "www2")


@pytest.fixture(scope="module")
def box(admin_box: AdminBox) -> AdminBox:
    """Both hosts serve release 1."""
    admin_box.release("1", ballast=BALLAST)
    ran = admin_box.deploy("--image", "cgi-1", "--yes")
    assert ran.status == 0, ran.stdout
    return admin_box


def newer(box: AdminBox, version: str) -> Path:
    """Make a release that has most in common with those before."""
    return box.release(version, ballast=BALLAST[:500_000] + version.encode() + BALLAST[500_000:])


def held(box: AdminBox) -> dict[str, Path]:
    """Return the folder of the release that each host serves."""
    out = box.folder / "images/out"
    return {host: out / f"cgi-{box.served(host)}" for host in BOTH}


def deployed(box: AdminBox, version: str, inventory: str = "fleet.toml") -> list[dict[str, Any]]:
    """Deploy to both hosts; hold what was planned against what travelled; return the plans."""
    arguments = ("--json", "--image", f"cgi-{version}", "--inventory", inventory)
    dry = box.deploy("--dry-run", *arguments)
    assert dry.status == 0, dry.stderr
    plans = [one["plan"] for one in json.loads(dry.stdout)["hosts"]]
    ran = box.deploy("--yes", *arguments)
    assert ran.status == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert [box.served(host) for host in BOTH] == [version, version]
    travelled = [one["travelled_bytes"] for one in result["hosts"]]
    assert travelled == [plan["sends_bytes"] for plan in plans]
    assert result["travelled_bytes"] == sum(travelled)
    size_bytes = artefact_of(box, version).stat().st_size
    assert result["whole_bytes"] == len(BOTH) * size_bytes
    return plans


def artefact_of(box: AdminBox, version: str) -> Path:
    return box.folder / f"images/out/cgi-{version}/cgi.squashfs"


def pulling(box: AdminBox, mirrors: Sequence[str]) -> str:
    """Write an inventory whose hosts pull from these mirrors, and return its name."""
    table = f'[transfer]\nsource = "http"\nmirrors = {json.dumps(mirrors)}\n'
    (box.folder / "mirrors.toml").write_text(table + box.inventory.read_text())
    return "mirrors.toml"


def unrecorded(box: AdminBox, host: str) -> None:
    """Make a host forget which images it holds."""
    for record in (box.folder / "frontends" / host).rglob("cgi.*.image"):
        record.unlink()


def test_each_host_gets_the_difference_from_what_it_holds(box: AdminBox) -> None:
    box.release("apart", ballast=BALLAST[:600_000])
    assert box.deploy("--image", "cgi-apart", "--yes", "--hosts", "www2").status == 0
    before, new = held(box), newer(box, "3")
    plans = deployed(box, "3")
    assert [plan["way"] for plan in plans] == ["pack", "pack"]
    assert plans[0]["pack"]["sha256"] != plans[1]["pack"]["sha256"]
    # `image diff --bytes` says the same of the two images.
    said = [travels(folder, new)["squashfs"] for folder in before.values()]
    assert [plan["sends_bytes"] for plan in plans] == [one.total_bytes for one in said]


def test_a_rollback_sends_nothing_and_would_have_sent_nothing(box: AdminBox) -> None:
    newer(box, "back")
    assert box.deploy("--image", "cgi-back", "--yes").status == 0
    ran = box.deploy("rollback", "--yes", "--json")
    assert ran.status == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert (result["travelled_bytes"], result["whole_bytes"]) == (0, 0)


def test_one_pack_is_made_for_all_that_hold_the_same_and_weighed_against_each_line(
    box: AdminBox,
) -> None:
    newer(box, "once")
    text = box.inventory.read_text()
    limit = '\n[hosts.www2.transfer]\nhost_bandwidth = "8 Mbit/s"\n'
    (box.folder / "lines.toml").write_text(text + limit)
    kept = box.folder / "images/out/.packs"
    kept.mkdir(exist_ok=True)
    for made in (1, 0):
        before = set(kept.iterdir())
        arguments = ("--json", "--image", "cgi-once", "--inventory", "lines.toml")
        ran = box.deploy("plan", *arguments)
        assert ran.status == 0, ran.stderr
        assert len(set(kept.iterdir()) - before) == made
        plans = [one["plan"] for one in json.loads(ran.stdout)["hosts"]]
        assert plans[0]["pack"] == plans[1]["pack"]
        assert "at 100 Mbit/s" in plans[0]["why"]
        assert "at 8 Mbit/s" in plans[1]["why"]


@pytest.mark.parametrize("medium", ["a web server", "a stick"])
def test_what_is_pulled_is_predicted_too(box: AdminBox, medium: str) -> None:
    if not any(shutil.which(name) for name in ("curl", "wget")):
        pytest.skip("needs curl or wget")
    version = medium.split()[1]
    newer(box, version)
    published = box.deploy("publish", "--image", f"cgi-{version}", "--to", "mirror", "--json")
    assert published.status == 0, published.stderr
    unrecorded(box, "www2")
    objects = {one.name: one.read_bytes() for one in (box.folder / "mirror").iterdir()}
    with mirror() as server:
        server.objects = objects
        stick = f"file:{box.folder}/mirror"
        urls = [server.folder("good") if medium == "a web server" else stick]
        plans = deployed(box, version, pulling(box, urls))
    assert [plan["way"] for plan in plans] == ["pack", "whole"]


@pytest.mark.parametrize(
    ("limits", "bytes_per_s"),
    [('total_bandwidth = "1 MB/s"', 1_000_000), ('host_bandwidth = "500 kB/s"', 2 * 500_000)],
)
def test_what_is_sent_keeps_to_its_limit(box: AdminBox, limits: str, bytes_per_s: int) -> None:
    version = limits.split("_", maxsplit=1)[0]
    for host in BOTH:
        unrecorded(box, host)
    newer(box, version)
    text = f"[transfer]\n{limits}\n{box.inventory.read_text()}"
    (box.folder / "limited.toml").write_text(text)
    arguments = ("--image", f"cgi-{version}", "--inventory", "limited.toml", "--yes")
    with box.start(*arguments) as ran:
        assert ran.stderr is not None
        filling = [time.monotonic() for line in ran.stderr if '"step":"fill"' in line]
        assert ran.wait(60) == 0
    sent_bytes = len(BOTH) * (artefact_of(box, version).stat().st_size - HEAD_BYTES)
    assert filling[-1] - filling[0] > 0.8 * sent_bytes / bytes_per_s
