"""The verbs of Linux on real block devices, in a mount namespace of their own."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls
from slots.actions import Cover, Drain, Erase, Fill, Flip, Judge, Mount, Restart, Seal, Unmount
from slots.errors import VerificationError
from slots.linux import Linux
from slots.manifest import HEAD_BYTES
from slots.rules import User
from slots.slot import (
    DeviceKind,
    GuardState,
    HostFile,
    InnerMount,
    MountKind,
    Service,
    Slot,
    SlotName,
    SlotSet,
    SlotState,
    Treatment,
    Verdict,
    Written,
    active,
)
from tests.slots import images
from tests.slots.hosts import SHELLS, Host, wait_until_gone, write
from tests.slots.test_guard import arm, until

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 2 << 20

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loop devices and mounts"),
    pytest.mark.skipif(shutil.which("losetup") is None, reason="needs losetup (util-linux)"),
]


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two loop devices over files of the size of a slot."""
    made: list[str] = []
    try:
        for name in "ab":
            with (tmp_path / name).open("wb") as file:
                file.truncate(SLOT_BYTES)
            done = subprocess.run(
                ("losetup", "--find", "--show", tmp_path / name),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                pytest.skip(f"no loop device: {done.stderr.strip()}")
            made.append(done.stdout.strip())
        yield made[0], made[1]
    finally:
        for device in made:
            subprocess.run(("losetup", "--detach", device), check=True)


@pytest.fixture
def namespace(devices: tuple[str, str]) -> Iterator[int]:
    """The process that keeps a mount namespace; what is mounted there ends with it."""
    del devices  # they are detached after the namespace is gone
    argv = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec sleep 600")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


@pytest.fixture
def host(devices: tuple[str, str], namespace: int, tmp_path: Path) -> Host:
    folder = tmp_path / "web root"
    folder.mkdir()
    slots = SlotSet(
        name="cgi",
        link=f"{folder}/cgi",
        slots=(
            Slot(A, devices[0], f"{folder}/cgi1"),
            Slot(B, devices[1], f"{folder}/cgi2"),
        ),
        records=f"{tmp_path}/records",
    )
    return Host(Linux(), slots, before=("nsenter", "--target", str(namespace), "--mount"))


def inside(host: Host, *argv: str) -> str:
    """Run a command as the host would."""
    done = subprocess.run((*host.before, *argv), capture_output=True, text=True, check=True)
    return done.stdout


def serve(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    write(host, name, image, token)
    for action in (Mount(name, "squashfs"), Flip(name)):
        answer = host.do(action, token)
        assert answer.status == 0, (action, answer)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


def test_a_damaged_slot_is_read_from_the_disk_and_not_proven(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        write(host, A, image, token)
        with Path(host.slots.slot(A).device).open("r+b") as device:
            device.seek(HEAD_BYTES + 9)
            device.write(b"\xff\x00")
        answer = host.do(images.proof(A, art), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    assert host.probe().status(A).damaged


def test_a_proof_does_not_outlive_a_write_between_two_mounts(host: Host, tmp_path: Path) -> None:
    device, point = host.slots.slot(A).device, host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.probe().status(A).proven
    mounting = ("mount", "-t", "squashfs", "-o", "ro", device, point)
    inside(host, "umount", point)
    inside(host, *mounting)
    writes = "dd of='$1' bs=512 seek=140 count=1 if=/dev/urandom conv=notrunc,fsync 2>/dev/null"
    inside(host, "umount", point)
    inside(host, "sh", "-c", writes.replace("$1", device))
    inside(host, *mounting)  # it gets the number of the mount before it
    assert host.probe().status(A).mounted
    assert not host.probe().status(A).proven


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


def with_inner_mounts(host: Host, folder: Path) -> SlotSet:
    (folder / "shared data").mkdir()
    (folder / "hosts").write_text("192.0.2.1 www\n")
    return replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(folder / "shared data")),
            InnerMount(MountKind.BIND, "srv", source=str(folder / "shared data"), read_only=True),
            InnerMount(
                MountKind.FILES, "etc/host", files=(HostFile("hosts", str(folder / "hosts")),)
            ),
        ),
    )


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


# A socket keeps the mount that it was bound in, and no open file says so.
LISTENING = (
    "import os, socket, time; s = socket.socket(socket.AF_UNIX); "
    's.bind("s"); s.listen(); os.chdir("/"); time.sleep(60)'
)


def test_users_are_found_by_device_whatever_they_hold(host: Host, tmp_path: Path) -> None:
    host.slots = with_inner_mounts(host, tmp_path)
    root = host.slots.slot(A).mount_point
    shared = tmp_path / "shared data"
    (shared / "log").touch()
    holders = {
        "cwd": f"cd '{root}/bin' && exec sleep 60",
        "fd": f"exec sleep 60 <'{root}/noise'",
        "exe": f"exec '{root}/bin/sleep' 60",
        "tmpfs": f"exec sleep 60 >'{root}/tmp/file'",
        "bind": f"exec sleep 60 <'{root}/data/log'",
        "bound cwd": f"cd '{root}/data' && exec sleep 60",
        "socket": f"cd '{root}/tmp' && exec python3 -c '{LISTENING}'",
    }
    bystanders = {
        "beside": "exec sleep 60",
        "same files, not through the slot": f"exec sleep 60 <'{shared}/log'",
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        try:
            for why, command in (holders | bystanders).items():
                started[why] = subprocess.Popen(
                    (*host.before, "sh", "-c", f"echo; {command}"), stdout=subprocess.PIPE
                )
                if "tmpfs" not in why:
                    out = started[why].stdout
                    assert out is not None
                    out.readline()
            subprocess.run(("sleep", "0.3"), check=True)
            until(lambda: Path(f"/proc/{started['socket'].pid}/cwd").readlink() == Path("/"))
            found = {int(line.split()[0]) for line in host.run(calls.users_call(A)).all("user")}
            assert found == {started[why].pid for why in holders}
            answer = host.do(Unmount(A), token)
            assert answer.status == 20
            assert "in use by pid" in answer.first("error")
            assert host.probe().status(A).mounted
            services = (Service("holders", ("sleep",), ("kill", *map(str, found))),)
            answer = host.do(Restart(A, services), token)
            assert answer.all("restarted") == ("holders",)
            assert host.do(Drain(A, services, 5), token).all("straggler") == ()
        finally:
            for child in started.values():
                child.kill()
                child.communicate()
        assert host.do(Unmount(A), token).status == 0


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


@contextmanager
def sleeping_in(host: Host, folder: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process whose working directory is there."""
    words = (*host.before, "sh", "-c", f"cd '{folder}' && echo && exec sleep 60")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder


def test_a_slot_that_is_lazily_unmounted_is_not_free_until_its_last_user_is_gone(
    host: Host, tmp_path: Path
) -> None:
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        with sleeping_in(host, root) as holder:
            inside(host, "umount", "-l", root)
            (user,) = map(User.parse, host.run(calls.users_call(A)).all("user"))
            assert user.pid == holder.pid
            refused = host.do(Erase(A), token)
            assert refused.status == 20
            assert f"is held open by pid {holder.pid} sleep (root)" in refused.first("error")
            rules = (Service("rest", ("*",), treatment=Treatment.KILL, deadline_s=5),)
            ended = host.do(Restart(A, rules), token)
            assert ended.all("ended") == (f"rest: {holder.pid}",)
            assert host.do(Drain(A, rules, 5), token).all("straggler") == ()
        assert host.do(Erase(A), token).status == 0


def test_users_of_a_slot_are_ended_before_an_unmount_only_if_asked_for(
    host: Host, tmp_path: Path
) -> None:
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        with sleeping_in(host, root) as holder:
            uncovered = host.do(Cover(A, ()), token)
            assert uncovered.status == 20
            assert f"is used by pid {holder.pid} sleep (root), which no rule" in uncovered.first(
                "error"
            )
            assert host.do(Unmount(A), token).status == 20
            assert host.do(Unmount(A, force=True), token).status == 0
            assert holder.wait(timeout=5) == -signal.SIGTERM
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
