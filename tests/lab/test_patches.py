"""Updates by pack on real frontends: what travels, and what happens where a pack is of no use."""

import json
import random
import time
from collections.abc import Iterator

import pytest

from tests.lab.admin import Admin, Answer, artefact, linked, served, slot_digest
from tests.lab.chroot import BuiltRelease, build, small_chroot
from tests.lab.network import addresses
from tests.lab.processes import until
from tests.lab.proxy import Proxy
from tests.lab.test_kills import through_proxies
from tests.slots.mirrors import FAULTS, HANGS, mirror

pytestmark = pytest.mark.lab

VERSIONS = ("1.0", "2.0", "3.0")
STAGING = "/var/db/slots/staging"
NOISE_BYTES = 1_000_000  # more than travels before a cut takes effect on a busy machine
PACED = '[transfer]\nhost_bandwidth = "1 MB/s"\n'
CUT_BYTES = (200_000, 300_000)
SCRIPTS_BYTES = 900_000  # all that a deploy sends beside packs and images


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
    events = events_of(deploy_and_look(admin, release))
    steps = [one["step"] for one in events if one["event"] == "started"]
    return steps, [one["message"] for one in events if one["event"] == "notice"]


def deploy_and_look(admin: Admin, release: BuiltRelease) -> Answer:
    """Deploy a release, and see that it serves to the bit."""
    answer = admin.deploy_well("--yes", "--image", str(release.folder))
    assert served(admin.lab, "www1") == release.version
    slot, image = linked(admin.lab, "www1"), artefact(release)
    assert slot_digest(admin.lab, "www1", slot, image.size_bytes) == image.sha256
    return answer


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


def test_mirrors_that_fail_in_every_way_do_not_keep_a_frontend_from_what_an_honest_one_has(
    admin: Admin, updates: dict[str, BuiltRelease]
) -> None:
    lab, text = admin.lab, admin.lab.fleet.read_text()
    admin_box = addresses(1)[0]
    deploy(admin, updates["1.0"])
    for version in ("2.0", "3.0"):
        admin.publish("mirror", "--image", f"cgi-{version}")

    with mirror(admin_box, lab.from_admin_box) as server:
        server.objects.update(
            {
                one.name: one.read_bytes()
                for one in (admin.folder / "mirror").rglob("*")
                if one.is_file()
            }
        )
        dead = f"http://{admin_box}:1/slots"
        # One that hangs costs its deadline: only for the pack.
        for version, faults, step in (("2.0", (*FAULTS, *HANGS), "patch"), ("3.0", FAULTS, "fill")):
            mirrors = [dead, *map(server.folder, (*faults, "good"))]
            lab.fleet.write_text(
                f'[transfer]\nsource = "http"\nmirrors = {json.dumps(mirrors)}\n{text}'
            )
            if step == "fill":
                lab.on("www1", "rm /var/db/slots/cgi.*.image")
            server.asked.clear()
            events = events_of(deploy_and_look(admin, updates[version]))
            steps = [one["step"] for one in events if one["event"] == "started"]
            told = [one["detail"] for one in events if one["event"] == "finished"]
            assert {"patch", "fill"} & {*steps} == {step}
            for url in mirrors[:-1]:
                assert [one for one in told if f"not from {url}/" in one], (url, told)
            assert {folder for folder, _ in server.asked} == {*faults, "good"}
            assert lab.on("www1", f"ls {STAGING}/cgi") == ""


@pytest.fixture
def proxy(admin: Admin) -> Iterator[Proxy]:
    """What every connection to the frontend goes through."""
    made = Proxy(admin.lab, "www1")
    through_proxies(admin.lab)
    yield made
    made.close()


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param(3, marks=pytest.mark.lab),
        pytest.param(10, marks=pytest.mark.torture),
    ],
)
def test_a_pack_that_is_cut_again_and_again_goes_on_where_it_was(
    admin: Admin, proxy: Proxy, chance: random.Random, cuts: int
) -> None:
    noise_bytes = (cuts + 1) * NOISE_BYTES
    old, new = noisy_updates(admin, chance.randbytes(noise_bytes))
    deploy(admin, old)
    admin.lab.fleet.write_text(PACED + admin.lab.fleet.read_text())
    arguments = ("--yes", "--image", str(new.folder))
    had_bytes = 0
    for number in range(cuts):
        wanted_bytes = had_bytes + chance.randint(*CUT_BYTES)
        cut_within_stage(admin, proxy, arguments, wanted_bytes)
        had_bytes = staged_bytes(admin)
        print(f"{number}: to be cut at {wanted_bytes} bytes, {had_bytes} were there at the end")
        assert had_bytes >= wanted_bytes
        assert served(admin.lab, "www1") == old.version

    before = proxy.sent_bytes
    steps, _ = deploy(admin, new)
    assert "patch" in steps
    assert "fill" not in steps
    sent = proxy.sent_bytes - before
    assert sent < noise_bytes - had_bytes + SCRIPTS_BYTES


def noisy_updates(admin: Admin, noise: bytes) -> tuple[BuiltRelease, BuiltRelease]:
    """Build two releases of which the second brings much that does not compress."""
    made = []
    for version, content in (("1.0", b""), ("2.0", noise)):
        tree = small_chroot(admin.folder / f"tree-{version}", "1.0")
        (tree / "usr/share/noise").write_bytes(content)
        script = tree / "usr/lib/cgi-bin/version"
        script.write_text(script.read_text().replace("1.0", version))
        made.append(build(admin.folder, tree, version))
    return made[0], made[1]


def staged_bytes(admin: Admin) -> int:
    """Return how much of a pack is there."""
    return int(admin.lab.on("www1", f"cat {STAGING}/cgi/*.partial 2>/dev/null | wc -c"))


def cut_within_stage(
    admin: Admin, proxy: Proxy, arguments: tuple[str, ...], wanted_bytes: int
) -> None:
    """Cut a deploy once so much of its pack is there; what was cut before may still be locked."""
    for _ in range(60):
        deploying = admin.start(*arguments)
        if deploying.await_start("stage", "www1"):
            until("the pack comes", lambda: staged_bytes(admin) >= wanted_bytes, within_s=30)
            proxy.cut(silent=False)
            ended = deploying.end()
            assert ended.code not in {0, 2}, ended
            return
        ended = deploying.end()
        assert ended.code == 7, ended
        time.sleep(0.5)
    pytest.fail("the frontend stays locked")
