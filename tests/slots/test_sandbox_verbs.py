"""The verbs, run for real in a sandbox: under each shell, as whoever runs the tests."""

import getpass
import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls, scripts
from slots.actions import Drain, Erase, Fill, Flip, Judge, Mount, Restart, Seal, Unmount
from slots.errors import HostError, LockedError, LockLostError, Refused, VerificationError
from slots.manifest import HEAD_BYTES
from slots.probe import parse
from slots.rules import User
from slots.sandbox import Sandbox
from slots.slot import (
    DeviceKind,
    HostFile,
    InnerMount,
    LinkKind,
    MountKind,
    Service,
    SlotName,
    SlotSet,
    SlotState,
    Treatment,
    Uncovered,
    Verdict,
    active,
)
from tests.slots import images
from tests.slots.hosts import SHELLS, Host, process, sandbox_slots, wait_until_gone, write
from tests.slots.test_guard import until

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 1 << 20


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def slots(tmp_path: Path) -> SlotSet:
    folder = tmp_path / "a frontend's folder"
    folder.mkdir()
    return sandbox_slots(folder, SLOT_BYTES)


@pytest.fixture
def host(slots: SlotSet) -> Host:
    return Host(Sandbox(), slots)


def damage(path: str, offset: int) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 1,)))


def test_a_whole_deployment_and_the_way_back_under_each_shell(
    slots: SlotSet, shell: str, tmp_path: Path
) -> None:
    host = Host(Sandbox(), slots, shell=shell, noise="welcome!")
    one, two = images.squashfs(tmp_path, "one"), images.squashfs(tmp_path, "two")
    assert host.probe().link_kind is LinkKind.MISSING

    for name, image in ((A, one), (B, two)):
        with host.lock() as token:
            write(host, name, image, token)
            assert host.do(Mount(name, "squashfs"), token).status == 0
            assert host.do(Flip(name), token).first("link") == slots.target(name)
            assert host.do(Judge(name, Verdict.GOOD), token).status == 0
        state = host.probe()
        assert active(slots, state) is name
        status = state.status(name)
        assert status.state is SlotState.READY
        assert status.mounted
        assert status.holds is not None
        assert status.holds.sha256 == image.artefact.sha256
        assert status.proof is not None
        assert status.verdict is Verdict.GOOD

    served = Path(slots.link) / "version"
    assert served.read_text() == "two\n"
    with host.lock() as token:
        flipped = host.do(Flip(A), token)
        assert (flipped.first("previous"), flipped.first("link")) == ("cgi2", "cgi1")
        assert served.read_text() == "one\n"
        unmounted = host.do(Unmount(B), token)
        assert unmounted.all("unmounted") == (slots.slot(B).mount_point,)
    assert not host.probe().status(B).mounted


def test_every_verb_can_be_run_twice(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        for action, payload in (
            (Erase(A), b""),
            (Fill(A, art), image.body),
            (Seal(A, art, "r1"), image.head),
            (images.proof(A, art), b""),
            (Mount(A, "squashfs"), b""),
            (Flip(A), b""),
            (Restart(B, ()), b""),
            (Judge(A, Verdict.GOOD), b""),
            (Unmount(B), b""),
        ):
            for _ in range(2):
                answer = host.do(action, token, payload)
                assert answer.status == 0, (action, answer)
    assert active(host.slots, host.probe()) is A


def test_the_universal_probe_answers_for_linux(host: Host) -> None:
    nonce = secrets.token_hex(8)
    script = scripts.script(None, host.slots, calls.probe_call(), nonce)
    out = subprocess.run(("sh", "-c", script), capture_output=True, check=False).stdout
    answer = answers.answer(out, nonce)
    if os.geteuid() == 0:
        assert answer.first("platform") == "Linux"
    else:
        assert answer.status == 20
        assert "root" in answer.first("error")


def test_a_probe_changes_nothing(host: Host) -> None:
    folder = Path(host.slots.link).parent
    before = sorted(str(path) for path in folder.rglob("*"))
    host.probe()
    assert sorted(str(path) for path in folder.rglob("*")) == before


def test_erasing_zeroes_the_head_and_drops_the_records(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(Erase(A), token).status == 0
    status = host.probe().status(A)
    assert status.state is SlotState.WRITING
    assert (status.image, status.proof, status.verdict) == (None, None, None)
    data = Path(host.slots.slot(A).device).read_bytes()
    assert data[:HEAD_BYTES] == bytes(HEAD_BYTES)
    assert data[HEAD_BYTES : len(image.data)] == image.body
    assert len(data) == SLOT_BYTES


def test_a_lost_record_of_a_write_is_the_same_as_empty(host: Host) -> None:
    with host.lock() as token:
        host.do(Erase(A), token)
    (Path(host.slots.records) / "cgi.A.writing").unlink()
    assert host.probe().status(A).state is SlotState.EMPTY


@pytest.mark.parametrize("surplus", [1, 4096])
def test_what_follows_a_payload_is_not_written(host: Host, surplus: int) -> None:
    image = images.with_magic("uzip", 300_000)
    device = Path(host.slots.slot(A).device)
    with host.lock() as token:
        host.do(Erase(A), token)
        before = device.read_bytes()
        host.do(Fill(A, image.artefact), token, image.body + b"x" * surplus)
    end = 65_536 + len(image.body)
    assert device.read_bytes()[65_536:end] == image.body
    assert device.read_bytes()[end:] == before[end:]


@pytest.mark.parametrize("change", [-4096, -1])
def test_a_payload_that_ends_too_early_is_no_success(host: Host, change: int) -> None:
    image = images.with_magic("uzip", 300_000)
    body = image.body[:change]
    with host.lock() as token:
        host.do(Erase(A), token)
        answer = host.do(Fill(A, image.artefact), token, body)
    assert answer.status == 21
    assert isinstance(answers.error_of(answer, "www1"), HostError)
    assert host.probe().status(A).state is SlotState.WRITING
    assert len(Path(host.slots.slot(A).device).read_bytes()) == SLOT_BYTES


@pytest.mark.parametrize("size", [65_536, 69_632, 131_072, 135_168])
def test_images_of_every_shape_arrive_whole(host: Host, size: int) -> None:
    image = images.with_magic("iso9660", size)
    with host.lock() as token:
        write(host, B, image, token)
    data = Path(host.slots.slot(B).device).read_bytes()
    assert data[:size] == image.data
    assert data[size:] == bytes(SLOT_BYTES - size)


def test_a_half_written_slot_cannot_be_mounted_even_without_records(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        host.do(Erase(A), token)
        assert host.do(Fill(A, image.artefact), token, image.body).status == 0
        for record in Path(host.slots.records).glob("cgi.A.*"):
            record.unlink()
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 20
    assert "holds no squashfs image" in answer.first("error")


def test_a_slot_that_was_not_erased_is_not_filled(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        answer = host.do(Fill(A, image.artefact), token, image.body)
    assert answer.status == 20
    assert host.probe().status(A).proof is not None


def test_a_head_that_was_damaged_on_the_way_is_not_written(host: Host) -> None:
    image = images.with_magic("uzip", 300_000)
    head = bytes((image.head[0] ^ 1,)) + image.head[1:]
    with host.lock() as token:
        host.do(Erase(A), token)
        host.do(Fill(A, image.artefact), token, image.body)
        answer = host.do(Seal(A, image.artefact, "r1"), token, head)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    assert host.probe().status(A).state is SlotState.WRITING


def test_a_damaged_slot_is_not_proven_and_says_what_it_holds_instead(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        write(host, A, image, token)
        damage(host.slots.slot(A).device, HEAD_BYTES + 77)
        answer = host.do(images.proof(A, art), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    data = Path(host.slots.slot(A).device).read_bytes()[: art.size_bytes]
    assert answer.first("actual") == hashlib.sha256(data).hexdigest()
    assert "slot A is damaged" in answer.first("error")
    assert answer.first("hint") == "deploy it again to slot A"
    status = host.probe().status(A)
    assert status.damaged
    assert not status.proven
    assert status.holds is not None
    assert status.proof is not None
    assert status.proof.sha256 == answer.first("actual")


@pytest.mark.parametrize("openssl", ["exit 1", "echo wrong usage"])
def test_a_slot_is_proven_with_an_openssl_that_does_not_work(
    host: Host, tmp_path: Path, openssl: str
) -> None:
    image = images.squashfs(tmp_path, "one")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/openssl"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n{openssl}\n')
    program.chmod(0o755)
    host.environment = {**host.environment, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(images.proof(A, image.artefact), token).status == 0
    assert host.probe().status(A).proven
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["dgst -sha256 -r"] * len(asked) != []


def test_a_proof_notes_an_image_of_which_the_record_is_lost(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        before = host.probe().status(A)
        for record in Path(host.slots.records).glob("cgi.A.*"):
            record.unlink()
        assert host.probe().status(A).holds is None
        assert host.do(images.proof(A, image.artefact), token).status == 0
        assert host.probe().status(A).holds == before.holds
        assert host.probe().status(A).proven
        assert host.do(Judge(A, Verdict.GOOD), token).status == 0


def test_a_flip_drops_the_verdict_of_its_slot_unless_the_link_stays(
    host: Host, tmp_path: Path
) -> None:
    with host.lock() as token:
        mounted_active(host, tmp_path, token)
        for name in (A, B):
            assert host.do(Judge(name, Verdict.GOOD), token).status == 0
        host.do(Flip(B), token)
        assert host.probe().status(B).verdict is Verdict.GOOD
        host.do(Flip(A), token)
        assert host.probe().status(A).verdict is None
        assert host.probe().status(B).verdict is Verdict.GOOD


def test_a_command_that_the_host_lacks_leaves_its_slots_unknown(host: Host, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    needed = host.run('say needed "$NEEDED"').first("needed").split()
    for name in {*needed, "id"} - {"dd"}:
        found = shutil.which(name)
        assert found is not None
        (commands / name).symlink_to(found)
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
    host.platform = replace(Sandbox(), path=str(commands))
    state = host.probe()
    assert state.missing == ("dd",)
    for status in state.statuses:
        assert (status.state, status.device_kind) == (SlotState.UNKNOWN, DeviceKind.UNKNOWN)
        assert (status.holds, status.mounted) == (None, False)
        assert status.mount_note == "not known: the host lacks dd"


def test_a_restart_command_that_the_host_lacks_is_told_by_the_probe(host: Host, shell: str) -> None:
    host.shell = shell
    services = (
        Service("web", ("web",), ("touch", "x")),
        Service("by path", ("web",), (f"{host.slots.records}/absent",)),
        Service("by-name", ("web",), ("no-such-cmd", "x")),
        Service("nameless", ("web",)),
    )
    state = parse(host.run(calls.probe_call(services)), host.slots)
    assert state.missing_restarts == (
        f"by path: {host.slots.records}/absent",
        "by-name: no-such-cmd",
        "nameless: no command is named",
    )


def test_a_folder_of_records_that_cannot_be_is_named_with_the_reason(
    host: Host, shell: str, tmp_path: Path
) -> None:
    host.shell = shell
    file = tmp_path / "file"
    file.touch()
    for records, reason in ((str(file), "File exists"), (f"{file}/below", "Not a directory")):
        host.slots = replace(host.slots, records=records)
        answer = host.run(calls.lock_call("ann", secrets.token_hex(8)))
        assert answer.status == 21
        assert reason in answer.first("error")
        assert "name another folder (records) in the inventory" in answer.first("hint")
    host.slots = replace(host.slots, records="/proc")
    answer = host.run(calls.lock_call("ann", secrets.token_hex(8)))
    assert answer.status == 21
    assert re.fullmatch(
        r"cannot write /proc/\.cgi\.\d+\.claim: (No such file or directory|Permission denied)",
        answer.first("error"),
    )


def test_a_proof_of_another_boot_is_no_proof(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
    record = Path(host.slots.records) / "cgi.A.proof"
    boot_id = host.probe().boot_id
    record.write_text(record.read_text().replace(boot_id, "another-boot"))
    assert host.probe().status(A).proof is None


def test_records_of_another_head_say_nothing(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Judge(A, Verdict.GOOD), token)
    damage(host.slots.slot(A).device, 5000)
    status = host.probe().status(A)
    assert status.holds is None
    assert (status.proof, status.verdict) == (None, None)


def test_the_active_and_the_mounted_slot_are_not_written(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        host.do(Mount(A, "squashfs"), token)
        before = Path(host.slots.slot(A).device).read_bytes()
        for payload, action in (
            (b"", Erase(A)),
            (image.body, Fill(A, image.artefact)),
            (image.head, Seal(A, image.artefact, "r1")),
        ):
            answer = host.do(action, token, payload)
            assert answer.status == 20
            assert "mounted" in answer.first("error")
        host.do(Flip(A), token)
        for refused in (Erase(A), Unmount(A)):
            answer = host.do(refused, token)
            assert answer.status == 20
            assert "active" in answer.first("error")
    assert Path(host.slots.slot(A).device).read_bytes() == before


def test_a_slot_too_small_or_missing_is_refused(host: Host) -> None:
    image = images.with_magic("uzip", SLOT_BYTES + 4096)
    with host.lock() as token:
        host.do(Erase(A), token)
        answer = host.do(Fill(A, image.artefact), token, image.body)
        assert answer.status == 20
        assert str(SLOT_BYTES) in answer.first("error")
        Path(host.slots.slot(B).device).unlink()
        answer = host.do(Erase(B), token)
    assert answer.status == 20
    assert "there is no" in answer.first("error")
    assert not Path(host.slots.slot(B).device).exists()
    assert host.probe().status(B).device_kind is DeviceKind.MISSING


def test_only_the_holder_of_the_lock_changes_anything(host: Host) -> None:
    with host.lock("ann@desk") as token:
        second = host.run(calls.lock_call("bob@desk", secrets.token_hex(8)))
        assert isinstance(answers.error_of(second, "www1"), LockedError)
        assert "ann@desk" in second.first("error")
        assert host.do(Erase(A), secrets.token_hex(8)).status == 22
        lock = host.probe().lock
        assert lock is not None
        assert lock.alive
        assert lock.holder == "ann@desk"
    assert host.probe().lock is None
    ended = host.do(Erase(A), token)
    assert isinstance(answers.error_of(ended, "www1"), LockLostError)
    assert "was taken away (did someone run `deploy unlock`?)" in ended.first("error")


def test_a_lock_whose_holder_died_is_told_as_such(host: Host) -> None:
    with host.lock("ann@desk") as token:
        lock = host.probe().lock
        assert lock is not None
        os.kill(lock.pid, signal.SIGKILL)
        wait_until_gone_or_zombie(lock.pid)
        answer = host.do(Erase(A), token)
    assert isinstance(answers.error_of(answer, "www1"), LockLostError)
    assert f"ended: process {lock.pid}, which held it, died" in answer.first("error")


def test_the_lock_of_a_killed_holder_is_stale_and_taken_over(host: Host) -> None:
    with host.lock("ann@desk") as token:
        lock = host.probe().lock
        assert lock is not None
        os.kill(lock.pid, signal.SIGKILL)
        wait_until_gone_or_zombie(lock.pid)
        stale = host.probe().lock
        assert stale is not None
        assert not stale.alive
    with host.lock("bob@desk") as mine:
        assert mine != token
        assert host.do(Erase(A), mine).status == 0


def wait_until_gone_or_zombie(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and ") Z" not in stat.read_text():
        pass


def test_the_lock_of_an_earlier_boot_is_stale(host: Host) -> None:
    records = Path(host.slots.records)
    records.mkdir()
    (records / "cgi.lock").write_text(
        f"holder=ann@desk\ntoken=00000000\npid={os.getpid()}\nstart=1\nboot_id=old\nsince=1\n"
    )
    lock = host.probe().lock
    assert lock is not None
    assert not lock.alive
    with host.lock() as token:
        assert host.do(Erase(A), token).status == 0


def test_a_lock_file_that_a_power_cut_emptied_is_stale(host: Host) -> None:
    records = Path(host.slots.records)
    records.mkdir()
    (records / "cgi.lock").touch()
    with host.lock() as token:
        assert host.do(Erase(A), token).status == 0


def test_unlock_ends_the_holder(host: Host) -> None:
    with host.lock("ann@desk"):
        lock = host.probe().lock
        assert lock is not None
        answer = host.run(calls.unlock_call())
        assert answer.status == 0, answer
        assert answer.first("unlocked") == "ann@desk"
        assert answer.all("ended") == (str(lock.pid),)
    assert host.probe().lock is None
    assert host.run(calls.unlock_call()).all("unlocked") == ()


def test_a_second_writer_of_a_slot_is_refused_and_unlock_ends_the_first(host: Host) -> None:
    image = images.with_magic("uzip", 400_000)
    with host.lock() as token:
        host.do(Erase(A), token)
        nonce = secrets.token_hex(8)
        call = calls.call(host.platform, Fill(A, image.artefact), token)
        with host.start(call, nonce, platform=host.platform) as hanging:
            note = Path(host.slots.records) / "cgi.A.writer"
            while not note.exists() or "child=" not in note.read_text():
                pass
            for action in (Erase(A), Fill(A, image.artefact), Seal(A, image.artefact, "r1")):
                answer = host.do(action, token)
                assert answer.status == 22, (action, answer)
            assert len(host.run(calls.unlock_call()).all("ended")) >= 2
            assert hanging.stdin is not None
            hanging.stdin.close()
        assert not note.exists()
    with host.lock() as token:
        assert host.do(Erase(A), token).status == 0


def test_a_writer_whose_shell_was_killed_lives_while_its_dd_does(host: Host) -> None:
    image = images.with_magic("uzip", 400_000)
    with host.lock() as token:
        host.do(Erase(A), token)
        call = calls.call(host.platform, Fill(A, image.artefact), token)
        with host.start(call, secrets.token_hex(8), platform=host.platform) as hanging:
            note = Path(host.slots.records) / "cgi.A.writer"
            while not note.exists() or "child=" not in note.read_text():
                pass
            fields = dict(line.split("=", 1) for line in note.read_text().splitlines())
            os.kill(int(fields["pid"]), signal.SIGKILL)
            wait_until_gone_or_zombie(int(fields["pid"]))
            assert host.do(Erase(A), token).status == 22
            assert hanging.stdin is not None
            hanging.stdin.close()
            wait_until_gone(int(fields["child"]))
        assert host.do(Erase(A), token).status == 0


def test_a_connection_that_ends_within_a_fill_leaves_no_writer(host: Host) -> None:
    image = images.with_magic("uzip", 400_000)
    with host.lock() as token:
        host.do(Erase(A), token)
        assert host.do(Fill(A, image.artefact), token, image.body[:100_000]).status == 21
        assert not list(Path(host.slots.records).glob("*writer*"))
        assert not list(Path(host.slots.records).glob(".*"))


def test_a_link_that_is_a_folder_is_never_replaced(host: Host, tmp_path: Path) -> None:
    Path(host.slots.link).mkdir()
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Mount(A, "squashfs"), token)
        answer = host.do(Flip(A), token)
    assert answer.status == 20
    assert host.probe().link_kind is LinkKind.OTHER
    assert Path(host.slots.link).is_dir()


def test_a_slot_that_is_not_mounted_is_not_flipped_to(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Flip(A), token)
    assert answer.status == 20
    assert not Path(host.slots.link).is_symlink()


def test_links_that_a_killed_flip_left_are_cleaned(host: Host, tmp_path: Path) -> None:
    folder = Path(host.slots.link).parent
    (folder / ".cgi.flip.4711").symlink_to("cgi2")
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Mount(A, "squashfs"), token)
        assert host.do(Flip(A), token).status == 0
    assert not list(folder.glob(".cgi.*"))


def test_what_a_chroot_needs_is_made_inside_and_said(host: Host, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "homes").mkdir()
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(tmp_path / "homes")),
            InnerMount(
                MountKind.FILES,
                "etc/host",
                files=(HostFile("resolv.conf", str(tmp_path / "resolv.conf")),),
            ),
        ),
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
        assert answer.status == 0, answer
        assert len(answer.all("notice")) == 5  # the mount point was made too
        root = Path(host.slots.slot(A).mount_point)
        assert (root / "etc/host/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
        assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
        assert (root / "data").resolve() == tmp_path / "homes"
        assert (root / "version").stat().st_mode & 0o222 == 0
        assert host.do(Unmount(A), token).status == 0
    assert (tmp_path / "homes").is_dir()
    assert list(root.iterdir()) == []


def test_a_missing_mount_point_in_the_image_is_named_and_all_is_undone(
    host: Host, tmp_path: Path
) -> None:
    host.slots = replace(
        host.slots,
        mounts=(InnerMount(MountKind.TMPFS, "tmp"), InnerMount(MountKind.TMPFS, "var/sessions")),
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 21
    assert "no directory /var/sessions" in answer.first("error")
    assert not host.probe().status(A).mounted
    assert list(Path(host.slots.slot(A).mount_point).iterdir()) == []


def test_a_symlink_in_the_image_does_not_lead_a_mount_out_of_the_slot(
    host: Host, tmp_path: Path
) -> None:
    host.slots = replace(host.slots, mounts=(InnerMount(MountKind.TMPFS, "escape"),))
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 21
    assert "symlink" in answer.first("error")


def test_a_file_of_the_host_that_is_missing_is_refused_before_anything(
    host: Host, tmp_path: Path
) -> None:
    file = HostFile("hosts", str(tmp_path / "absent"))
    host.slots = replace(
        host.slots, mounts=(InnerMount(MountKind.FILES, "etc/host", files=(file,)),)
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 20
    assert str(tmp_path / "absent") in answer.first("error")


def test_a_folder_that_no_mount_made_is_not_removed(host: Host, tmp_path: Path) -> None:
    home = Path(host.slots.slot(A).mount_point)
    home.mkdir()
    (home / "precious").touch()
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 20
    assert (home / "precious").exists()


def mounted_active(host: Host, tmp_path: Path, token: str) -> str:
    """Serve slot A, then slot B; returns the mount point of A."""
    for name in (A, B):
        write(host, name, images.squashfs(tmp_path, f"of-{name}"), token)
        assert host.do(Mount(name, "squashfs"), token).status == 0
        assert host.do(Flip(name), token).status == 0
    return host.slots.slot(A).mount_point


def test_users_of_a_slot_are_found_and_keep_it_mounted(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        old = mounted_active(host, tmp_path, token)
        with process("sleep", "60", cwd=old) as worker:
            line = f"pid {worker.pid} sleep"
            (user,) = map(User.parse, host.run(calls.users_call(A)).all("user"))
            assert (user.pid, user.command, user.holds) == (worker.pid, "sleep", ("cwd",))
            assert user.user == getpass.getuser()
            assert abs(user.since_epoch_s - time.time()) < 5
            assert host.run(calls.users_call(B)).all("user") == ()
            answer = host.do(Unmount(A), token)
            assert answer.status == 20
            assert line in answer.first("error")
            assert (
                answer.first("hint")
                == "end it, then deploy again (--force-unmount ends it for you)"
            )
        assert host.do(Unmount(A), token).status == 0


def test_only_services_that_use_the_old_slot_are_restarted(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        old = mounted_active(host, tmp_path, token)
        with process("sleep", "60", cwd=old) as worker:
            services = (
                Service("worker", ("other", "sleep"), ("kill", "-KILL", str(worker.pid))),
                Service("bystander", ("nginx",), ("touch", str(tmp_path / "touched"))),
                Service("cacher", (), ("echo", "it's done"), always=True),
            )
            answer = host.do(Restart(A, services), token)
        assert answer.status == 0, answer
        assert answer.all("restarted") == ("worker", "cacher")
        assert answer.all("kept") == ("bystander",)
        assert not (tmp_path / "touched").exists()


def test_a_straggler_and_a_failed_restart_are_named(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        old = mounted_active(host, tmp_path, token)
        with process("sleep", "60", cwd=old) as worker:
            services = (Service("worker", ("sleep",), ("sh", "-c", "echo no; exit 3")),)
            answer = host.do(Restart(A, services), token)
            drained = host.do(Drain(A, (), 0.5), token)
    assert answer.status == 21
    assert answer.first("error") == "not restarted: worker: status 3: no"
    assert "status 3: no" in answer.first("failed")
    (left,) = map(User.parse, drained.all("straggler"))
    assert (left.pid, left.command) == (worker.pid, "sleep")


def test_who_ignores_term_is_killed_when_its_time_is_up(host: Host, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    ignoring = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(begun)!r}, 'w').close(); time.sleep(60)"
    )
    with host.lock() as token:
        old = mounted_active(host, tmp_path, token)
        with process(sys.executable, "-c", ignoring, cwd=old) as stubborn:
            until(begun.exists)
            rules = (Service("last", ("python*",), treatment=Treatment.KILL, deadline_s=1),)
            answer = host.do(Restart(A, rules), token)
            assert answer.all("ended") == (f"last: {stubborn.pid}",)
            assert stubborn.wait(timeout=5) == -signal.SIGKILL


@pytest.mark.parametrize("policy", Uncovered)
def test_what_no_rule_covers_is_ended_only_if_that_is_the_policy(
    host: Host, tmp_path: Path, policy: Uncovered
) -> None:
    with host.lock() as token:
        old = mounted_active(host, tmp_path, token)
        with process("sleep", "60", cwd=old) as worker:
            ended = host.do(Restart(A, (), policy), token).all("ended")
            if policy is Uncovered.KILL:
                assert ended == (f"what no rule covers: {worker.pid}",)
                assert worker.wait(timeout=5) == -signal.SIGTERM
            else:
                assert (ended, worker.poll()) == ((), None)


def test_a_daemon_that_a_restart_leaves_behind_does_not_hold_the_answer(
    host: Host, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    command = ("sh", "-c", f"sleep 30 & echo $! >'{pid_file}'")
    with host.lock() as token:
        answer = host.do(Restart(A, (Service("daemon", (), command, always=True),)), token)
    assert answer.all("restarted") == ("daemon",)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_service_without_a_command_is_refused_in_the_sandbox(host: Host) -> None:
    with host.lock() as token:
        answer = host.do(Restart(A, (Service("nginx", ("nginx",), always=True),)), token)
    assert isinstance(answers.error_of(answer, "www1"), Refused)


def test_a_check_tells_status_output_and_time(host: Host, shell: str) -> None:
    host.shell = shell
    fine = host.run(calls.check_call(("echo", "all 'well'\n$HOME"), 5))
    assert (fine.status, fine.first("exit")) == (0, "0")
    assert fine.all("output") == ("all 'well'", "$HOME")
    bad = host.run(calls.check_call(("sh", "-c", "echo broken; exit 7"), 5))
    assert (bad.status, bad.first("exit"), bad.all("output")) == (21, "7", ("broken",))
    late = host.run(calls.check_call(("sleep", "30"), 0.2))
    assert (late.status, late.first("exit")) == (21, "124")
    absent = host.run(calls.check_call(("/no/such/command",), 5))
    assert (absent.status, absent.first("exit")) == (21, "127")


def test_a_script_that_was_cut_anywhere_does_nothing(host: Host) -> None:
    nonce = secrets.token_hex(8)
    script = scripts.script(host.platform, host.slots, calls.lock_call("ann", "00000000"), nonce)
    for length in (*range(0, len(script) - 1, 997), *range(len(script) - 60, len(script) - 1)):
        done = subprocess.run(
            ("dash", "-c", script[:length]), capture_output=True, check=False, input=b""
        )
        assert b"begin" not in done.stdout, length
    assert not Path(host.slots.records).exists()


def test_an_ordinary_user_can_do_all_of_it(slots: SlotSet, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    image = images.squashfs(tmp_path, "one")
    for path in (*tmp_path.parents, tmp_path):
        if Path("/tmp") in path.parents:
            path.chmod(0o755)
    folder = Path(slots.link).parent
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    host = Host(
        Sandbox(),
        slots,
        before=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    )
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.do(Flip(A), token).status == 0
        assert (Path(slots.link) / "version").read_text() == "one\n"
        Path(slots.link).unlink()
        assert host.do(Unmount(A), token).status == 0
