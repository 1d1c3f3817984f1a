"""Packs and mirrors on FreeBSD: whole sectors, fetch and curl."""

import os
import random
import shutil
from pathlib import Path

import pytest

from slots import answers, calls
from slots.actions import Erase, Patch, Seal
from slots.manifest import HEAD_BYTES
from slots.slot import SlotState
from tests.slots import images, packs
from tests.slots.freebsd.frontend import SLOT_BYTES, A, B, World, serve, uzip
from tests.slots.hosts import Host
from tests.slots.mirrors import FAULTS, HANGS, mirror

HASTE = "STALL_S=1\n"  # a test does not wait as long as an admin


def updated(
    host: Host, old: images.Image, new: images.Image, unit: int, token: str
) -> answers.Answer:
    """Replay a pack from slot A, which serves the old image, into slot B."""
    pack = packs.pack(old, new, unit, packs.moves_of(old.data, new.data, unit, 1536))
    staged = host.run(calls.stage_call(token, pack.sha256, pack.size_bytes, 0), pack.data)
    assert staged.status == 0, staged
    assert host.do(Erase(B), token).status == 0
    return host.do(Patch(B, new.artefact, pack.sha256, old.artefact.sha256), token)


def old_and_new() -> tuple[images.Image, images.Image]:
    """Two images that share long runs and short ones, at other places."""
    chance = random.Random(3)  # noqa: S311 - bytes of a test
    head = uzip().data[:4096]
    old = images.of_bytes(head + chance.randbytes(895_488), "uzip")
    body = old.data[400_384:799_744] + chance.randbytes(1536) + old.data[99_840:101_376]
    return old, images.of_bytes(old.data[:HEAD_BYTES] + body + old.data[70_144:300_032], "uzip")


def test_a_pack_is_replayed_in_whole_sectors(host: Host, world: World) -> None:
    old, new = old_and_new()
    with host.lock() as token:
        serve(host, A, old, token)
        answer = updated(host, old, new, 512, token)
        assert answer.status == 0, answer
        assert host.do(Seal(B, new.artefact, "r2"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0
    assert (world.folder / "dev/ada0p6").read_bytes()[: len(new.data)] == new.data
    state = host.probe()
    assert not state.copies_bytes
    assert state.status(A).sector_bytes == 512
    assert state.status(A).proven  # the read of its device has not spoiled what is mounted


def test_a_pack_of_bytes_is_no_success_where_disks_answer_whole_sectors(host: Host) -> None:
    old, new = old_and_new()
    with host.lock() as token:
        serve(host, A, old, token)
        assert updated(host, old, new, 1, token).status == 21
    assert host.probe().status(B).state is SlotState.WRITING


def test_what_a_mounted_or_small_slot_would_be_filled_with_is_refused(
    host: Host, world: World, tmp_path: Path
) -> None:
    old, new = old_and_new()
    big = images.of_bytes(new.data + bytes(SLOT_BYTES), "uzip")
    with host.lock() as token:
        serve(host, A, old, token)
        assert updated(host, old, big, 512, token).status == 20
        mount = {"special": "/dev/ada0p6.uzip", "node": str(tmp_path), "type": "cd9660"}
        world.change(mounts=[*world.state["mounts"], mount | {"opts": "ro", "spoiled": False}])
        before = len(world.log)
        reach = calls.MirrorReach((f"file:{tmp_path}/none",), 5)
        for call in (
            calls.call(host.platform, Patch(B, new.artefact, "a" * 64, "b" * 64), token),
            calls.fill_call(token, B, new.artefact),
            calls.pull_call(token, B, new.artefact, reach),
        ):
            answer = host.run(call)
            assert answer.status == 20, answer
            assert str(tmp_path) in answer.first("error")
    assert not [entry for entry in world.log[before:] if entry[0] == "dd"]


def test_a_part_of_a_pack_is_cut_to_what_is_gone_on_from(host: Host) -> None:
    pack = packs.Pack(os.urandom(90_000))
    with host.lock() as token:
        for offset, payload in ((0, pack.data[:1000] + bytes(99)), (1000, pack.data[1000:])):
            call = calls.stage_call(token, pack.sha256, pack.size_bytes, offset)
            answer = host.run(call, payload)
    assert answer.status == 0, answer


def test_a_slot_on_a_disk_of_large_sectors_is_known_and_mounted(host: Host, world: World) -> None:
    world.load_uzip()
    world.change(sector=4096)
    with host.lock() as token:
        serve(host, A, uzip(1), token)
    state = host.probe()
    assert state.status(A).sector_bytes == 4096
    assert state.status(A).state is SlotState.READY


def test_a_host_pulls_with_fetch(host: Host) -> None:
    pack, new = packs.Pack(os.urandom(200_000)), uzip(2)
    with mirror() as server, host.lock() as token:
        server.objects = {pack.sha256: pack.data, new.artefact.sha256: new.data}
        faults = ("empty", "wrong", "broken")
        urls = tuple(server.url(folder, pack.sha256) for folder in (*faults, "good"))
        reach = calls.MirrorReach(urls, 30)
        answer = host.run(calls.fetch_call(token, pack.sha256, pack.size_bytes, reach))
        assert answer.status == 0, answer
        assert tuple(why.split("/")[3] for why in answer.all("failed_mirror")) == faults
        assert server.asked[-1] == ("good", "bytes=100000-")
        assert host.do(Erase(B), token).status == 0
        urls = tuple(server.url(folder, new.artefact.sha256) for folder in ("redirect", "good"))
        answer = host.run(calls.pull_call(token, B, new.artefact, calls.MirrorReach(urls, 30)))
        assert answer.status == 0, answer
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0


@pytest.mark.parametrize("fault", [*FAULTS, *HANGS])
def test_with_fetch_a_mirror_that_fails_does_not_stop_the_next_one(host: Host, fault: str) -> None:
    pack, new = packs.Pack(os.urandom(200_000)), uzip(2)
    with mirror() as server, host.lock() as token:
        server.objects = {pack.sha256: pack.data, new.artefact.sha256: new.data}
        bad, good = (server.url(folder, pack.sha256) for folder in (fault, "good"))
        reach = calls.MirrorReach((bad, good), 30)
        call = calls.fetch_call(token, pack.sha256, pack.size_bytes, reach)
        answer = host.run(HASTE + call)
        assert answer.status == 0, answer
        assert failed_by_itself(answer, bad)
        assert int(answer.first("pulled")) <= 2 * pack.size_bytes + 1024
        assert host.do(Erase(B), token).status == 0
        bad, good = (server.url(folder, new.artefact.sha256) for folder in (fault, "good"))
        reach = calls.MirrorReach((bad, good), 30)
        answer = host.run(HASTE + calls.pull_call(token, B, new.artefact, reach))
        assert answer.status == 0, answer
        assert failed_by_itself(answer, bad)
        assert "elsewhere" not in dict(server.asked)
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0


def failed_by_itself(answer: answers.Answer, url: str) -> bool:
    """Tell whether this mirror alone failed, with a reason, before its time was up."""
    (why,) = answer.all("failed_mirror")
    return why.startswith(f"{url}: ") and len(why) > len(url) + 2 and "no end within" not in why


def test_fetch_begins_a_cut_image_again_from_the_next_mirror(host: Host) -> None:
    new = uzip(2)
    with mirror() as server, host.lock() as token:
        server.objects = {new.artefact.sha256: new.data}
        urls = tuple(server.url(folder, new.artefact.sha256) for folder in ("cut", "good"))
        assert host.do(Erase(B), token).status == 0
        answer = host.run(calls.pull_call(token, B, new.artefact, calls.MirrorReach(urls, 30)))
        assert answer.status == 0, answer
        assert server.asked == [("cut", ""), ("good", "")]
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0


def test_with_curl_a_cut_image_goes_on_behind_its_last_segment(host: Host) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    (Path(host.platform.path) / "curl").symlink_to(curl)
    new = images.of_bytes(os.urandom(600_000), "uzip")
    segment_bytes = 2 * HEAD_BYTES  # its disks take no part of a sector, so that no block counts
    with mirror() as server, host.lock() as token:
        server.objects = {new.artefact.sha256: new.data}
        urls = tuple(server.url(folder, new.artefact.sha256) for folder in ("cut", "good"))
        assert host.do(Erase(B), token).status == 0
        call = calls.pull_call(token, B, new.artefact, calls.MirrorReach(urls, 30))
        answer = host.run(f"SEGMENT_BYTES={segment_bytes}\n{call}")
        assert answer.status == 0, answer
        (_, (_, asked)) = server.asked
        had = int(asked.removeprefix("bytes=").rstrip("-"))
        assert len(new.data) // 2 - segment_bytes <= had <= len(new.data) // 2
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0
