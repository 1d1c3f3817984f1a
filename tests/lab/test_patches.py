"""Updates by pack on real frontends: what travels, and what happens where a pack is of no use."""

import json
from collections.abc import Callable

import pytest

from tests.lab.admin import Admin, Answer, artefact, linked, served, slot_digest
from tests.lab.chroot import BuiltRelease, build, small_chroot
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

MakeLab = Callable[..., Lab]
MakeAdmin = Callable[[Lab], Admin]
VERSIONS = ("1.0", "2.0", "3.0")
STAGING = "/var/db/slots/staging"


@pytest.fixture
def admin(make_lab: MakeLab, make_admin: MakeAdmin) -> Admin:
    return make_admin(make_lab(1))


@pytest.fixture
def updates(admin: Admin) -> dict[str, BuiltRelease]:
    """Three releases among the admin's own, that differ in little."""
    made = {}
    for version in VERSIONS:
        tree = small_chroot(admin.folder / f"tree-{version}", version)
        payload = (admin.folder / "tree-1.0/usr/share/payload").read_bytes()
        (tree / "usr/share/payload").write_bytes(payload + version.encode() * 10_000)
        made[version] = build(admin.folder, tree, version)
    return made


def deploy(admin: Admin, release: BuiltRelease) -> tuple[list[str], list[str]]:
    """Deploy a release; return the steps that were begun, and the notices."""
    answer = admin.deploy_well("--yes", "--image", str(release.folder))
    assert served(admin.lab, "www1") == release.version
    slot, image = linked(admin.lab, "www1"), artefact(release)
    assert slot_digest(admin.lab, "www1", slot, image.size_bytes) == image.sha256
    events = events_of(answer)
    steps = [one["step"] for one in events if one["event"] == "started"]
    return steps, [one["message"] for one in events if one["event"] == "notice"]


def events_of(answer: Answer) -> list[dict[str, str]]:
    return [json.loads(line) for line in answer.stderr.splitlines() if line.startswith("{")]


def test_what_changed_travels_from_one_version_to_the_next(
    admin: Admin, updates: dict[str, BuiltRelease]
) -> None:
    steps, _ = deploy(admin, updates["1.0"])
    assert "fill" in steps
    for version in ("2.0", "3.0", "1.0"):
        steps, notices = deploy(admin, updates[version])
        assert "stage" in steps
        assert "patch" in steps
        assert "fill" not in steps
        assert notices == []
        assert admin.lab.on("www1", f"ls {STAGING}/cgi") == ""


def test_a_slot_that_holds_something_unknown_calls_for_the_whole_image(
    admin: Admin, updates: dict[str, BuiltRelease]
) -> None:
    deploy(admin, updates["1.0"])
    admin.lab.on("www1", "rm /var/db/slots/cgi.*.image")
    steps, _ = deploy(admin, updates["2.0"])
    assert "patch" not in steps
    assert "fill" in steps


def test_an_active_slot_that_was_tampered_with_is_caught_and_the_whole_image_written(
    admin: Admin, updates: dict[str, BuiltRelease]
) -> None:
    deploy(admin, updates["1.0"])
    device = f"/dev/disk/by-partlabel/cgi{linked(admin.lab, 'www1')}"
    admin.lab.on(
        "www1", f"printf tampered | dd of={device} bs=1 seek=3000000 conv=notrunc,fsync 2>&1"
    )
    steps, notices = deploy(admin, updates["2.0"])
    assert steps.index("patch") < steps.index("fill")
    assert any("the whole image is written" in notice for notice in notices)


def test_a_staging_folder_without_room_calls_for_the_whole_image(
    admin: Admin, updates: dict[str, BuiltRelease]
) -> None:
    deploy(admin, updates["1.0"])
    admin.lab.on("www1", f"mkdir -p {STAGING} && mount -t tmpfs -o size=16k tmpfs {STAGING}")
    steps, _ = deploy(admin, updates["2.0"])
    assert "patch" not in steps
    assert "fill" in steps
