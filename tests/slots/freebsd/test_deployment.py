"""Whole deployments of FreeBSD, and in which order what is made durable."""

from pathlib import Path

import pytest

from slots import answers
from slots.actions import Erase, Fill, Flip, Mount, Seal, Unmount
from slots.errors import VerificationError
from slots.manifest import HEAD_BYTES
from slots.slot import DeviceKind, Verdict, active
from tests.slots import images
from tests.slots.freebsd.frontend import SLOT_BYTES, A, B, World, serve, uzip
from tests.slots.hosts import Host, write


def test_two_deployments_and_the_way_back(host: Host, world: World) -> None:
    one, two = uzip(1), uzip(2)
    assert host.probe().formats == ("iso9660",)  # geom_uzip is not loaded, nor on this disk
    with host.lock() as token:
        serve(host, A, one, token)
        serve(host, B, two, token)
        state = host.probe()
        assert active(host.slots, state) is B
        assert state.formats == ("uzip", "iso9660")
        assert state.missing == ()
        assert state.boot_id == "1700000000"
        for status, image in zip(state.statuses, (one, two), strict=True):
            assert status.mounted
            assert status.size_bytes == SLOT_BYTES
            assert status.holds is not None
            assert status.holds.sha256 == image.artefact.sha256
            assert status.proof is not None
            assert status.verdict is Verdict.GOOD
        assert host.do(Flip(A), token).first("previous") == "cgi2"
        assert host.do(Unmount(B), token).all("unmounted") == (host.slots.slot(B).mount_point,)
        assert host.do(Unmount(B), token).all("unmounted") == ()
    assert (world.folder / "dev/ada0p5").read_bytes()[: len(one.data)] == one.data
    assert not any(one["spoiled"] for one in world.state["mounts"])


def test_the_link_is_renamed_and_its_folder_made_durable_after_that(
    host: Host, world: World
) -> None:
    with host.lock() as token:
        serve(host, A, uzip(), token)
    web = str(Path(host.slots.link).parent)
    renamed = world.log.index(["rename", host.slots.link])
    assert ["fsync", web] in world.log[renamed:]
    assert not list(Path(web).glob(".cgi*"))


def test_each_record_is_durable_before_and_after_its_rename(host: Host, world: World) -> None:
    with host.lock() as token:
        write(host, A, uzip(), token)
    record = f"{host.slots.records}/cgi.A.image"
    renamed = world.log.index(["rename", record])
    assert ["fsync", f"{record}.partial"] in world.log[:renamed]
    assert world.log[renamed + 1] == ["fsync", host.slots.records]


def test_an_erase_is_recorded_before_the_first_byte_is_written(host: Host, world: World) -> None:
    with host.lock() as token:
        host.do(Erase(A), token)
    first_write = next(n for n, entry in enumerate(world.log) if entry[0] == "dd")
    renamed = world.log.index(["rename", f"{host.slots.records}/cgi.A.writing"])
    assert ["fsync", host.slots.records] in world.log[renamed:first_write]


def test_the_page_with_the_magic_is_written_last(host: Host, world: World) -> None:
    with host.lock() as token:
        write(host, A, uzip(), token)
    writes = [entry for entry in world.log if entry[0] == "dd"]
    assert writes[-1] == ["dd", "/dev/gpt/cgiA", "0"]
    assert writes[-2] == ["dd", "/dev/gpt/cgiA", "32768"]
    assert all(name == "/dev/gpt/cgiA" for _, name, _ in writes)


@pytest.mark.parametrize(
    "special",
    ["/dev/gpt/cgiA.uzip", "/dev/ada0p5.uzip", "/dev/ada0p5", "/dev/iso9660/A", "/dev/iso9660/B"],
)
def test_a_mounted_slot_is_refused_since_the_kernel_would_let_dd_write(
    host: Host, world: World, special: str, tmp_path: Path
) -> None:
    mount = {"special": special, "node": str(tmp_path), "type": "cd9660", "opts": "ro"}
    world.change(mounts=[mount | {"spoiled": False}])
    world.load_uzip()
    with (world.folder / "labels").open("a") as labels:  # the image's volume id, as GEOM shows it
        labels.write("  iso9660/A  N/A  gpt/cgiA.uzip\n  iso9660/B  N/A  ada0p5.uzip\n")
    image = uzip()
    with host.lock() as token:
        for action, payload in (
            (Erase(A), b""),
            (Fill(A, image.artefact), image.body),
            (Seal(A, image.artefact, "r1"), image.head),
        ):
            answer = host.do(action, token, payload)
            assert answer.status == 20, answer
            assert str(tmp_path) in answer.first("error")
    assert not [entry for entry in world.log if entry[0] == "dd"]
    assert not world.state["mounts"][0]["spoiled"]
    assert str(tmp_path) in host.probe().status(A).mount_note


def test_the_mount_waits_for_geom_to_taste_again(host: Host, world: World) -> None:
    world.change(taste_delay_s=1.5)
    world.load_uzip()
    with host.lock() as token:
        write(host, A, uzip(), token)
        answer = host.do(Mount(A, "uzip"), token)
    assert answer.status == 0, answer
    assert world.state["mounts"][0]["special"] == "/dev/gpt/cgiA.uzip"


def test_an_image_that_geom_does_not_take_is_named(host: Host, world: World) -> None:
    with host.lock() as token:
        write(host, A, images.with_magic("squashfs", 300_000), token)
        answer = host.do(Mount(A, "uzip"), token)
    assert answer.status == 20
    assert "no uzip image but squashfs" in answer.first("error")
    assert world.state["mounts"] == []


def test_a_plain_iso_is_mounted_without_geom_uzip(host: Host, world: World) -> None:
    with host.lock() as token:
        write(host, A, images.with_magic("iso9660", 300_000), token)
        assert host.do(Mount(A, "iso9660"), token).status == 0
    assert world.state["mounts"][0]["special"] == "/dev/gpt/cgiA"
    assert not world.uzip_loaded


def test_a_slot_whose_device_is_missing_or_small_is_refused(host: Host, world: World) -> None:
    image = uzip(size_bytes=SLOT_BYTES + 4096)
    with host.lock() as token:
        host.do(Erase(A), token)
        assert host.do(Fill(A, image.artefact), token, image.body).status == 20
        (world.folder / "dev/ada0p6").unlink()
        assert host.do(Erase(B), token).status == 20
    assert host.probe().status(B).device_kind is DeviceKind.MISSING


def test_a_damaged_slot_is_not_proven(host: Host, world: World) -> None:
    image = uzip()
    with host.lock() as token:
        write(host, A, image, token)
        with (world.folder / "dev/ada0p5").open("r+b") as disk:
            disk.seek(HEAD_BYTES + 5)
            disk.write(b"\x00\xff")
        art = image.artefact
        answer = host.do(images.proof(A, art), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    assert host.probe().status(A).damaged


def test_a_device_that_is_no_disk_is_not_taken_for_a_slot(host: Host, world: World) -> None:
    (world.folder / "dev/ada0p6").write_bytes(b"")
    assert host.probe().status(B).device_kind is DeviceKind.OTHER
    with host.lock() as token:
        assert host.do(Erase(B), token).status == 20


def test_the_verdict_is_gone_for_good_before_the_link_is_renamed(host: Host, world: World) -> None:
    with host.lock() as token:
        serve(host, A, uzip(), token)
        serve(host, B, uzip(2), token)
        before = len(world.log)
        host.do(Flip(A), token)
    log = world.log[before:]
    assert ["fsync", host.slots.records] in log[: log.index(["rename", host.slots.link])]
    assert host.probe().status(A).verdict is None
