"""A proof is remembered and told with its age; one on demand reads every slot."""

import json
from pathlib import Path
from typing import Any

import pytest

from slots.manifest import HEAD_BYTES
from tests.deployer.conftest import AdminBox

ONLY = ("--hosts", "www1")


@pytest.fixture(scope="module")
def box(admin_box: AdminBox) -> AdminBox:
    """www1 holds release 1 in slot A, and serves release 2 from slot B."""
    for version, slot in (("1", "A"), ("2", "B")):
        admin_box.release(version)
        ran = admin_box.deploy("--image", f"cgi-{version}", "--slot", slot, "--yes", *ONLY)
        assert ran.status == 0, ran.stdout
    return admin_box


def status(box: AdminBox, *more: str) -> tuple[int, dict[str, Any]]:
    ran = box.deploy("status", "--json", *more, *ONLY)
    document = json.loads(ran.stdout)
    return ran.status, document["hosts"][0]


def proven_at(host: dict[str, Any]) -> list[int | None]:
    return [host["slots"][name]["proven_at_epoch_s"] for name in "AB"]


def flip_a_bit(host: dict[str, Any], slot: str) -> None:
    device = Path(host["slots"][slot]["device"])
    with device.open("r+b") as file:
        file.seek(HEAD_BYTES + 1000)
        (was,) = file.read(1)
        file.seek(HEAD_BYTES + 1000)
        file.write(bytes([was ^ 1]))


def aged(box: AdminBox, slot: str, seconds: int) -> None:
    """Make the record of a proof say that it was so much earlier."""
    (record,) = (box.folder / "frontends/www1").rglob(f"cgi.{slot}.proof")
    lines = dict(line.split("=", 1) for line in record.read_text().splitlines())
    lines["at"] = str(int(lines["at"]) - seconds)
    record.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))


def test_a_proof_on_demand_reads_what_is_proven_already(box: AdminBox) -> None:
    for slot in "AB":
        aged(box, slot, 7200)
    said = box.deploy("status", *ONLY).stdout
    assert said.count("proven 2 h ago") == 2, said
    _, before = status(box)
    code, after = status(box, "--prove")
    assert code == 0
    old, new = proven_at(before), proven_at(after)
    assert all(one and other and other - one > 7000 for one, other in zip(old, new, strict=True))
    # Between two looks nobody reads.
    assert proven_at(status(box)[1]) == new


def test_each_damaged_slot_is_found_by_a_proof_on_demand(box: AdminBox) -> None:
    _, host = status(box, "--prove")
    try:
        for slot in "AB":
            flip_a_bit(host, slot)
        # A host that is served from files knows of no writes to them: what is remembered holds.
        code, remembered = status(box)
        assert (code, proven_at(remembered)) == (0, proven_at(host))
        code, told = status(box, "--prove")
        assert code == 8
        assert "slot A is damaged" in told["message"]
        assert "slot B is damaged" in told["message"]
        assert proven_at(told) == [None, None]
        assert box.deploy("status", *ONLY).stdout.count("damaged") >= 2
    finally:
        for slot in "AB":
            flip_a_bit(host, slot)
    code, again = status(box, "--prove")
    assert code == 0
    assert None not in proven_at(again)


def test_nothing_to_do_reads_and_sends_nothing(box: AdminBox) -> None:
    _, before = status(box)
    (records,) = {path.parent for path in (box.folder / "frontends/www1").rglob("cgi.B.proof")}
    stamps = {path: path.stat().st_mtime_ns for path in records.glob("cgi.*.*")}
    ran = box.deploy("--image", "cgi-2", "--json", *ONLY)
    assert ran.status == 0, ran.stderr
    (host,) = json.loads(ran.stdout)["hosts"]
    assert host["plan"]["actions"] == []
    assert host["travelled_bytes"] is None
    assert {path: path.stat().st_mtime_ns for path in records.glob("cgi.*.*")} == stamps
    assert proven_at(status(box)[1]) == proven_at(before)
