"""What Linux mounts: slots, what belongs inside them, and what is mounted over them."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from slots.actions import Erase, Flip, Judge, Mount, Unmount
from slots.slot import DeviceKind, InnerMount, MountKind, SlotName, Verdict, active
from tests.slots import images
from tests.slots.hosts import Host, write
from tests.slots.linux.frontend import NEEDS, A, B, inside, serve, with_inner_mounts

pytestmark = NEEDS


def test_a_slot_mounted_under_any_name_is_not_written(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    alias = tmp_path / "alias"
    os.mknod(alias, 0o60600, Path(host.slots.slot(A).device).stat().st_rdev)
    with host.lock() as token:
        write(host, A, image, token)
        inside(host, "mount", "-t", "squashfs", "-o", "ro", str(alias), str(elsewhere))
        for action in (Erase(A), Mount(A, "squashfs")):
            answer = host.do(action, token)
            assert answer.status == 20
            assert str(elsewhere) in answer.first("error")
        assert str(elsewhere) in host.probe().status(A).mount_note


def test_a_slot_mounted_in_another_namespace_is_not_written(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        own = host.before
        host.before = ()
        answer = host.do(Erase(A), token)
        host.before = own
    assert answer.status == 20
    assert "mount namespace of pid" in answer.first("error")


def test_a_mount_over_the_slot_is_told_and_not_served(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Mount(A, "squashfs"), token)
        inside(host, "mount", "-t", "tmpfs", "tmpfs", host.slots.slot(A).mount_point)
        status = host.probe().status(A)
        assert not status.mounted
        assert "another mount lies over" in status.mount_note
        for action in (Flip(A), Mount(A, "squashfs"), Unmount(A)):
            assert host.do(action, token).status == 20


def test_a_wrong_device_of_the_slot_that_serves_is_told(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        serve(host, A, images.squashfs(tmp_path, "one"), token)
    a, b = host.slots.slots
    host.slots = replace(host.slots, slots=(replace(a, device="/dev/null"), b))
    assert host.probe().status(A).device_kind is DeviceKind.OTHER
    host.slots = replace(host.slots, slots=(replace(a, device=b.device), b))
    assert "another device" in host.probe().status(A).mount_note


def test_what_a_chroot_needs_is_mounted_inside_and_undone(host: Host, tmp_path: Path) -> None:
    host.slots = with_inner_mounts(host, tmp_path)
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
        assert answer.status == 0, answer
        assert answer.all("mounted") == tuple(
            f"{root}{inner}" for inner in ("", "/dev", "/tmp", "/data", "/srv", "/etc/host")
        )
        assert inside(host, "sh", "-c", f"echo x >'{root}/dev/null'; cat '{root}/dev/null'") == ""
        inside(host, "touch", f"{root}/tmp/session", f"{root}/data/upload")
        assert (tmp_path / "shared data/upload").exists()
        for read_only in ("srv", "etc/host", "."):
            touch = ("touch", f"{root}/{read_only}/x")
            assert subprocess.run(
                (*host.before, *touch), capture_output=True, check=False
            ).returncode
        assert inside(host, "cat", f"{root}/etc/host/hosts") == "192.0.2.1 www\n"
        assert host.do(Mount(A, "squashfs"), token).all("mounted") == ()
        assert host.probe().status(A).mounted
        assert host.probe().status(A).missing_mounts == ()
        inside(host, "umount", f"{root}/tmp")
        assert host.probe().status(A).missing_mounts == ("tmp",)
        again = host.do(Mount(A, "squashfs"), token)
        assert again.all("mounted") == (f"{root}/tmp",)
        undone = host.do(Unmount(A), token)
        assert set(undone.all("unmounted")) == set(answer.all("mounted"))
        assert undone.all("unmounted")[-1] == root
    assert root not in inside(host, "cat", "/proc/self/mountinfo").replace("\\040", " ")


def test_an_inner_mount_that_fails_undoes_what_this_call_mounted(
    host: Host, tmp_path: Path
) -> None:
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="no size"),
        ),
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 21
    assert "/tmp" in answer.first("error")
    assert answer.all("unmounted") == tuple(reversed(answer.all("mounted")))
    assert not host.probe().status(A).mounted


def test_at_boot_both_slots_are_mounted_with_what_belongs_inside(
    host: Host, shell: str, tmp_path: Path
) -> None:
    program = tmp_path / "slotctl"
    host.shell = shell
    host.slots = replace(host.slots, mounts=(InnerMount(MountKind.TMPFS, "tmp"),))
    with host.lock() as token:
        for name, text in ((A, "one"), (B, "two")):
            serve(host, name, images.squashfs(tmp_path, text), token)
        assert host.do(Judge(B, Verdict.GOOD), token).status == 0
    for name in SlotName:  # as a power cut does
        inside(host, "umount", "-R", host.slots.slot(name).mount_point)
    booted = host.slotctl(program, "boot")
    assert (booted.returncode, booted.stderr) == (0, "")
    assert booted.stdout.count("is proven,") == 2
    state = host.probe()
    assert active(host.slots, state) is B
    assert [(one.mounted, one.missing_mounts) for one in state.statuses] == [(True, ())] * 2
    assert state.status(B).verdict is Verdict.GOOD
    assert host.slotctl(program, "rollback").returncode == 0
    assert inside(host, "cat", f"{host.slots.link}/version") == "one\n"
    assert host.slotctl(program, "verify").returncode == 0


def test_a_proven_slot_that_no_kernel_mounts_is_stood_in_for(host: Host, tmp_path: Path) -> None:
    program = tmp_path / "slotctl"
    with host.lock() as token:
        serve(host, A, images.squashfs(tmp_path, "one"), token)
        write(host, B, images.with_magic("squashfs", 200_000), token)
    link = Path(host.slots.link)
    link.unlink()
    link.symlink_to("cgi2")
    inside(host, "umount", host.slots.slot(A).mount_point)
    booted = host.slotctl(program, "boot")
    assert booted.returncode == 0, booted
    assert "slot A serves instead: slot B cannot be mounted" in booted.stdout
    assert inside(host, "cat", f"{host.slots.link}/version") == "one\n"


def test_an_image_without_a_place_for_an_inner_mount_leaves_no_mount_behind(
    host: Host, tmp_path: Path
) -> None:
    program = tmp_path / "slotctl"
    with host.lock() as token:
        serve(host, A, images.squashfs(tmp_path, "one"), token)
    inside(host, "umount", host.slots.slot(A).mount_point)
    host.slots = replace(host.slots, mounts=(InnerMount(MountKind.TMPFS, "nowhere"),))
    booted = host.slotctl(program, "boot")
    assert booted.returncode == 8, booted
    assert "no slot serves: slot A cannot be mounted; slot B is empty" in booted.stderr
    assert not host.probe().status(A).mounted
