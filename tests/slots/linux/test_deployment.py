"""Whole deployments on real block devices, under each shell."""

import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slots import calls
from slots.actions import Erase, Fill, Flip, Mount, Seal, Unmount
from slots.linux import Linux
from slots.manifest import HEAD_BYTES
from slots.slot import DeviceKind, GuardState, Service, SlotState, Written, active
from tests.slots import images
from tests.slots.guards import arm
from tests.slots.hosts import SHELLS, Host, wait_until_gone, write
from tests.slots.linux.frontend import NEEDS, SLOT_BYTES, A, B, inside, serve

pytestmark = NEEDS


def test_two_deployments_and_the_way_back_under_each_shell(
    host: Host, shell: str, tmp_path: Path
) -> None:
    host.shell = shell
    one, two = images.squashfs(tmp_path, "one"), images.squashfs(tmp_path, "two")
    with host.lock() as token:
        serve(host, A, one, token)
        serve(host, B, two, token)
        state = host.probe()
        assert active(host.slots, state) is B
        assert all(status.mounted and status.proof for status in state.statuses)
        assert state.status(A).size_bytes == SLOT_BYTES
        assert "squashfs" in state.formats
        assert inside(host, "cat", f"{host.slots.link}/version") == "two\n"
        assert host.do(Flip(A), token).first("previous") == "cgi2"
        assert inside(host, "cat", f"{host.slots.link}/version") == "one\n"
        unmounted = host.do(Unmount(B), token)
        assert unmounted.all("unmounted") == (host.slots.slot(B).mount_point,), unmounted
        assert host.do(Unmount(B), token).all("unmounted") == ()
    assert not host.probe().status(B).mounted


def dd_that_notes(host: Host, folder: Path, *, refuse: str) -> Path:
    """Put a dd before the system's that notes its operands, and refuses those that match."""
    notes = folder / "operands"
    (folder / "bin").mkdir()
    dd = folder / "bin/dd"
    dd.write_text(
        f'#!/bin/sh\ncase "$*" in {refuse}) echo "dd: invalid flag" >&2; exit 1 ;; esac\n'
        f'echo "$*" >>{notes}\nexec {shutil.which("dd")} "$@"\n'
    )
    dd.chmod(0o755)
    host.platform = replace(Linux(), path=f"{folder}/bin:{Linux().path}")
    return notes


@pytest.mark.parametrize(
    ("refuse", "direct"), [("none", 14), ("*oflag=direct*", 0)], ids=["dd can", "dd cannot"]
)
@pytest.mark.parametrize("shell", [it for it in SHELLS if it != "busybox sh"])  # it has its own dd
def test_large_blocks_are_written_past_the_page_cache_where_dd_can(
    host: Host, shell: str, tmp_path: Path, refuse: str, direct: int
) -> None:
    host.shell = shell
    notes = dd_that_notes(host, tmp_path, refuse=refuse)
    image = images.with_magic("erofs", HEAD_BYTES + 3 * 262_144 + 2 * 65_536 + 3 * 4096)
    cut = HEAD_BYTES + 2 * 262_144 + 65_536
    small = "LARGE_BYTES=262144 SEGMENT_BYTES=524288\n"
    with host.lock() as token:
        host.do(Erase(A), token)
        call = calls.fill_call(token, A, image.artefact)
        stopped = host.run(small + call, image.data[HEAD_BYTES : cut + 9_999])
        assert "the payload was cut behind block 1 of 6" in stopped.first("error")
        assert host.probe().status(A).written == Written(image.artefact.sha256, cut)
        notes.unlink()
        call = calls.fill_call(token, A, image.artefact, HEAD_BYTES)
        assert host.run(small + call, image.body).status == 0
        written = [line for line in notes.read_text().splitlines() if "fullblock" in line]
        assert host.do(Seal(A, image.artefact, "r"), token, image.head).status == 0
        assert host.do(images.proof(A, image.artefact), token).status == 0
    large = [line for line in written if "oflag=direct" in line]
    assert sum(int(line.split("count=")[1].split()[0]) for line in large) == direct
    assert all("conv=notrunc,fsync" in line for line in written)


def test_it_all_works_with_busybox_alone(host: Host, tmp_path: Path) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("needs busybox")
    applets = tmp_path / "applets"
    applets.mkdir()
    subprocess.run(("busybox", "--install", "-s", applets), check=True)
    # Debian's busybox has no mount with --make-private and the like: util-linux keeps that.
    host.platform = replace(Linux(), path=str(applets))
    host.shell = "busybox sh"
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        serve(host, A, image, token)
        assert host.probe().status(A).mounted
        answer = host.do(Fill(B, image.artefact), token, image.body)
        assert answer.status in {0, 20}
        host.do(Erase(B), token)
        large = f"LARGE_BYTES=65536\n{calls.fill_call(token, B, image.artefact)}"
        assert host.run(large, image.body).status == 0
        assert host.do(Seal(B, image.artefact, "r"), token, image.head).status == 0
        assert host.do(images.proof(B, image.artefact), token).status == 0
        host.do(Erase(B), token)
        assert host.do(Fill(B, image.artefact), token, image.body[:-4096]).status == 21
    assert host.probe().missing == ()


def test_a_full_disk_is_the_reason_that_is_given(host: Host) -> None:
    Path(host.slots.records).mkdir()
    inside(host, "mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", host.slots.records)
    answer = host.run(calls.lock_call("ann", secrets.token_hex(8)))
    assert answer.status == 21
    assert answer.first("error").endswith(".claim: No space left on device")


def test_a_guard_goes_back_although_the_disk_of_its_records_is_full(
    host: Host, shell: str, tmp_path: Path
) -> None:
    host.shell = shell
    records, mark = host.slots.records, tmp_path / "restarted"
    service = Service("web", ("nobody",), ("touch", str(mark)), always=True)
    host.slots = replace(host.slots, services=(service,))
    Path(records).mkdir()
    inside(host, "mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", records)
    with host.lock() as token:
        for name in ("one", "two"):
            serve(host, A if name == "one" else B, images.squashfs(tmp_path, name), token)
        assert host.do(Flip(A), token).status == 0
        assert arm(host, token, 4).status == 0  # time to stop it
        pid = int(inside(host, "sed", "-n", "s/^pid=//p", f"{records}/cgi.guardian"))
        os.kill(pid, signal.SIGSTOP)
        assert host.do(Flip(B), token).status == 0
        filling = f"dd if=/dev/zero of='{records}/ballast' bs=4096 2>/dev/null; [ $? -ne 0 ]"
        inside(host, "sh", "-c", filling)
        os.kill(pid, signal.SIGCONT)
        wait_until_gone(pid)
    guard = host.probe().guard
    assert guard is not None
    assert (guard.state, guard.back) == (GuardState.FIRED, A)
    assert active(host.slots, host.probe()) is A
    assert mark.exists()
    assert host.probe().lock is None


def test_a_plain_file_where_the_device_should_be_is_refused(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_bytes(bytes(SLOT_BYTES))
    host.slots = replace(
        host.slots, slots=(replace(host.slots.slot(A), device=str(file)), host.slots.slot(B))
    )
    with host.lock() as token:
        answer = host.do(Erase(A), token)
    assert answer.status == 20
    assert "plain file" in answer.first("error")
    assert host.probe().status(A).device_kind is DeviceKind.FILE


def test_a_half_written_slot_cannot_be_mounted_by_anyone(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    point = tmp_path / "by-hand"
    point.mkdir()
    with host.lock() as token:
        write(host, A, image, token)
        host.do(Erase(A), token)
        for record in Path(host.slots.records).glob("cgi.A.*"):
            record.unlink()
        assert host.do(Mount(A, "squashfs"), token).status == 20
    assert host.probe().status(A).state is SlotState.EMPTY
    by_hand = ("mount", "-t", "squashfs", host.slots.slot(A).device, str(point))
    assert subprocess.run((*host.before, *by_hand), capture_output=True, check=False).returncode


def test_a_format_that_is_not_in_the_slot_is_refused(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "erofs"), token)
    assert answer.status == 20
    assert "no erofs image but squashfs" in answer.first("error")


def test_a_second_deployer_is_refused_while_the_first_works(host: Host) -> None:
    with host.lock("ann@desk"):
        answer = host.run(calls.lock_call("bob@desk", secrets.token_hex(8)))
    assert answer.status == 22
    assert "ann@desk" in answer.first("error")
