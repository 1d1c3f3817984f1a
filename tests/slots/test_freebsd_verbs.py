"""The verbs of FreeBSD, end to end against stand-ins of its commands."""

import ast
import getpass
import os
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slots import answers, calls, hooks, scripts
from slots.actions import (
    Arm,
    Confirm,
    Drain,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Patch,
    Preflight,
    Restart,
    Seal,
    Unmount,
)
from slots.checks import CommandCheck
from slots.errors import VerificationError
from slots.freebsd import FreeBSD
from slots.hooks import File
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
    Verdict,
    active,
)
from slots.trials import CgiTrial, CommandTrial, LibrariesTrial
from tests.slots import images, packs
from tests.slots.hosts import Host, process, write
from tests.slots.mirrors import mirror
from tests.slots.test_guard import waiting
from tests.standins import freebsd as standins

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 1 << 20
# What POSIX has, and both systems alike; anything else is not found.
ALIKE = (
    *(
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "df",
        "env",
        "find",
        "grep",
        "gzip",
        "mkdir",
        "mkfifo",
        "od",
    ),
    *("readlink", "rm", "rmdir"),
    *("sed", "sleep", "sort", "tail", "tee", "touch", "tr", "wc", "xargs"),
)


class World:
    """The stand-ins' world, as a test looks at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = ast.literal_eval((self.folder / "state").read_text())
        return state

    def change(self, **fields: object) -> None:
        (self.folder / "state").write_text(repr(self.state | fields))

    @property
    def log(self) -> list[list[str]]:
        return [line.split("\t") for line in (self.folder / "log").read_text().splitlines()]

    @property
    def uzip_loaded(self) -> bool:
        return (self.folder / "modules/g_uzip").exists()

    def load_uzip(self) -> None:
        (self.folder / "modules/g_uzip").touch()

    def sysctl(self, name: str, value: str) -> None:
        (self.folder / "sysctl" / name).write_text(value + "\n")


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = tmp_path / "world"
    (folder / "dev").mkdir(parents=True)
    for disk in ("ada0p5", "ada0p6"):
        with (folder / "dev" / disk).open("wb") as file:
            file.truncate(SLOT_BYTES)
    state = {
        "mounts": [],
        "tasted": {},
        "taste_delay_s": 0.3,
        "users": [],
        "services": {},
        "image_folders": ["dev", "tmp", "data", "etc/host"],
    }
    (folder / "state").write_text(repr(state))
    (folder / "labels").write_text("   gpt/cgiA  N/A  ada0p5\n   gpt/cgiB  N/A  ada0p6\n")
    (folder / "log").touch()
    made = World(folder)
    for inner in ("modules", "sysctl"):
        (folder / inner).mkdir()
    made.sysctl("kern.boottime", "{ sec = 1700000000, usec = 4711 } Tue Nov 14 22:13:20 2023")
    made.sysctl("kern.geom.conftxt", "0 DISK ada0 1 512")
    return made


@pytest.fixture
def host(world: World, tmp_path: Path) -> Host:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ALIKE:
        found = shutil.which(name)
        assert found is not None
        (commands / name).symlink_to(found)
    for command in (Path(standins.__file__).parent / "freebsd_sh").iterdir():
        (commands / command.name).symlink_to(command)
    for name in standins.COMMANDS:
        wrapper = commands / name
        wrapper.write_text(standins.launcher(name))
        wrapper.chmod(0o755)
    web = tmp_path / "webroot"
    web.mkdir()
    slots = SlotSet(
        name="cgi",
        link=f"{web}/cgi",
        slots=(Slot(A, "/dev/gpt/cgiA", f"{web}/cgi1"), Slot(B, "/dev/gpt/cgiB", f"{web}/cgi2")),
        records=f"{tmp_path}/records",
    )
    environment = {**os.environ, "STANDIN_WORLD": str(world.folder)}
    return Host(replace(FreeBSD(), path=str(commands)), slots, environment=environment)


def uzip(seed: int = 1, size_bytes: int = 300_000) -> images.Image:
    """Return an image whose header geom_uzip would take: 64 KiB clusters, ten of them."""
    plain = images.with_magic("uzip", size_bytes, seed).data
    header = (65536).to_bytes(4, "big") + (10).to_bytes(4, "big")
    return images.of_bytes(plain[:128] + header + plain[136:], "uzip")


def serve(host: Host, name: SlotName, image: images.Image, token: str) -> None:
    write(host, name, image, token)
    for action in (Mount(name, "uzip"), Flip(name), Judge(name, Verdict.GOOD)):
        answer = host.do(action, token)
        assert answer.status == 0, (action, answer)


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
    assert ["rename", f"{host.slots.records}/cgi.A.writing"] in world.log[:first_write]
    assert world.log[first_write - 1] == ["fsync", host.slots.records]


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


def test_what_a_chroot_needs_is_mounted_in_order_and_undone_in_reverse(
    host: Host, world: World, tmp_path: Path
) -> None:
    (tmp_path / "homes").mkdir()
    (tmp_path / "hosts").write_text("192.0.2.1 www\n")
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(tmp_path / "homes"), read_only=True),
            InnerMount(
                MountKind.FILES, "etc/host", files=(HostFile("hosts", str(tmp_path / "hosts")),)
            ),
        ),
    )
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, uzip(), token)
        answer = host.do(Mount(A, "uzip"), token)
        assert answer.status == 0, answer
        kinds = [(one["type"], one["opts"]) for one in world.state["mounts"]]
        assert kinds == [
            ("cd9660", "ro"),
            ("devfs", "rw"),
            ("tmpfs", "mode=1777,size=4m"),
            ("nullfs", "ro"),
            ("tmpfs", "mode=755,size=1m"),
        ]
        assert sorted(path.name for path in Path(root, "dev").iterdir()) == ["null"]
        assert Path(root, "etc/host/hosts").read_text() == "192.0.2.1 www\n"
        assert host.do(Mount(A, "uzip"), token).all("mounted") == ()
        assert host.probe().status(A).missing_mounts == ()
        gone = [one for one in world.state["mounts"] if not one["node"].endswith("/data")]
        world.change(mounts=gone)
        assert host.probe().status(A).missing_mounts == ("data",)
        again = host.do(Mount(A, "uzip"), token)
        assert again.all("mounted") == (f"{root}/data",)
        undone = host.do(Unmount(A), token)
    assert set(undone.all("unmounted")) == set(answer.all("mounted"))
    assert undone.all("unmounted")[-1] == root
    assert world.state["mounts"] == []


def test_an_inner_mount_that_fails_undoes_what_this_call_mounted(host: Host, world: World) -> None:
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="no"),
        ),
    )
    with host.lock() as token:
        write(host, A, uzip(), token)
        answer = host.do(Mount(A, "uzip"), token)
    assert answer.status == 21
    assert "Invalid argument" in answer.first("error")
    assert world.state["mounts"] == []


def test_users_are_asked_of_proven_mounts_alone_and_services_restarted(
    host: Host, world: World
) -> None:
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)
        with process("sleep", "60") as worker:
            node = host.slots.slot(A).mount_point
            world.change(
                users=[
                    {"pid": worker.pid, "node": node, "holds": ["root", "wd", "mmap", "12", "3*"]}
                ],
                services={"php_fpm": {"enabled": False, "pids": [worker.pid]}},
            )
            (user,) = map(User.parse, host.run(calls.users_call(A)).all("user"))
            assert (user.pid, user.user, user.command) == (worker.pid, getpass.getuser(), "sleep")
            assert user.holds == ("cwd", "file", "map", "root")
            line = f"pid {worker.pid} sleep"
            busy = host.do(Unmount(A), token)
            assert busy.status == 20
            assert line in busy.first("error")
            services = (Service("php_fpm", ("sleep",)), Service("apache24", ("httpd",)))
            answer = host.do(Restart(A, services), token)
        assert answer.all("restarted") == ("php_fpm",)
        assert answer.all("kept") == ("apache24",)
        assert host.do(Drain(A, services, 5), token).all("straggler") == ()
        assert ["service", "php_fpm", "onerestart"] in world.log
        assert host.do(Unmount(A), token).status == 0
        assert host.run(calls.users_call(A)).all("user") == ()


def test_what_is_swapped_out_holds_what_it_held(host: Host, world: World) -> None:
    with host.lock("ann@desk"):
        lock = host.probe().lock
        assert lock is not None
        (world.folder / "swapped").write_text(str(lock.pid))
        lock = host.probe().lock
        assert lock is not None
        assert lock.alive
        assert host.run(calls.lock_call("ben@desk", "0b0b0b0b")).status == 22


def test_a_user_that_is_swapped_out_is_one(host: Host, world: World) -> None:
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)
        with process("sleep", "60") as worker:
            node = host.slots.slot(A).mount_point
            world.change(users=[{"pid": worker.pid, "node": node}])
            (world.folder / "swapped").write_text(str(worker.pid))
            (user,) = map(User.parse, host.run(calls.users_call(A)).all("user"))
            assert (user.pid, user.since_epoch_s) == (worker.pid, 1_700_000_000)
            assert host.do(Unmount(A), token).status == 20


def test_a_raised_securelevel_does_not_keep_an_image_from_being_mounted(
    host: Host, world: World
) -> None:
    world.load_uzip()
    world.sysctl("kern.securelevel", "1")
    with host.lock() as token:
        serve(host, A, uzip(), token)


def test_a_clock_that_was_stepped_does_not_make_a_living_holder_stale(
    host: Host, world: World
) -> None:
    with host.lock("ann@desk"):
        lock = host.probe().lock
        assert lock is not None
        assert lock.alive
        world.sysctl("kern.boottime", "{ sec = 1700000300, usec = 1 } Tue Nov 14 22:18:20 2023")
        lock = host.probe().lock
        assert lock is not None
        # The stand-in's clock did not follow its boot time: 300 s apart is another process.
        assert not lock.alive


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("mv", ["-T", "a", "b"]),
        ("mount", ["--bind", "a", "b"]),
        ("mount", ["-o", "remount,ro", "a"]),
        ("umount", ["-l", "a"]),
        ("fuser", ["-k", "a"]),
        ("stat", ["-c", "%d", "a"]),
        ("sysctl", ["kern.boottime"]),
    ],
)
def test_stand_ins_refuse_what_freebsd_does_not_have(
    host: Host, world: World, command: str, argv: list[str]
) -> None:
    answer = host.run(calls.check_call((command, *argv), 10))
    assert answer.first("exit") == "64", answer
    assert "unsupported" in " ".join(answer.all("output"))
    assert world.log == []


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


def test_what_nobody_confirms_is_taken_back_and_what_is_confirmed_stays(
    host: Host, world: World
) -> None:
    world.load_uzip()
    services = (Service("php_fpm", ("sleep",)),)
    leave = (Restart(B, services), Drain(B, services, 5))
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        write(host, B, uzip(2), token)
        assert host.do(Mount(B, "uzip"), token).status == 0
    for seconds, confirmed in ((2, False), (60, True)):
        with host.lock() as token, process("sleep", "60") as worker:
            node = os.path.realpath(host.slots.slot(B).mount_point)
            world.change(
                users=[{"pid": worker.pid, "node": node}],
                services={"php_fpm": {"enabled": True, "pids": [worker.pid]}},
            )
            action = Arm(B, "r2", seconds, leave)
            payload = scripts.guard_payload(host.platform, host.slots, action, token)
            assert host.run(calls.call(host.platform, action, token), payload).status == 0
            with waiting(host):
                assert host.do(Flip(B), token).status == 0
            if confirmed:
                assert host.do(Confirm(B), token).first("confirmed") == token
            else:
                until_fired(host)
                assert host.do(Confirm(B), token).status == 25
        state = host.probe()
        assert active(host.slots, state) is (B if confirmed else A)
        assert state.guard is None if confirmed else state.guard is not None
        assert state.guard is None or state.guard.error == ""
    assert [line for line in world.log if line[0] == "daemon"]
    assert ["service", "php_fpm", "onerestart"] in world.log
    firing = f"{host.slots.records}/cgi.firing"
    renamed, link = world.log.index(["rename", firing]), ["rename", host.slots.link]
    assert world.log[renamed:].index(["fsync", host.slots.records]) < world.log[renamed:].index(
        link
    )


def until_fired(host: Host) -> None:
    deadline = time.monotonic() + 60
    while (guard := host.probe().guard) is None or guard.state is not GuardState.FIRED:
        assert time.monotonic() < deadline, guard
        time.sleep(0.1)


LDD = """\
#!/bin/sh
for file; do
    echo "$file:"
    case $file in
        */broken) printf '\\tlibz.so.6 => not found (0)\\n' ;;
    esac
    printf '\\tlibc.so.7 => /lib/libc.so.7 (0x801000000)\\n'
done
"""
CGI = '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n$AS $REQUEST_METHOD"\n'


def test_a_slot_is_tried_before_it_serves_and_its_missing_libraries_are_named(host: Host) -> None:
    slot = Path(host.slots.slot(A).mount_point)
    with host.lock() as token:
        write(host, A, uzip(), token)
        assert host.do(Mount(A, "uzip"), token).status == 0
        for name, text in (("usr/bin/ldd", LDD), ("cgi", CGI), ("bin/broken", "\x7fELF")):
            (slot / name).parent.mkdir(parents=True, exist_ok=True)
            (slot / name).write_text(text)
            (slot / name).chmod(0o755)
        cgi = CgiTrial("/cgi", contains="65534:65534:65534 GET")
        assert host.do(Preflight(A, (cgi,)), token).all("passed") == ("cgi /cgi",)
        failed = host.do(Preflight(A, (cgi, LibrariesTrial(("/bin",)))), token)
        late = host.do(Preflight(A, (CommandTrial(("sleep", "9"), deadline_s=1),)), token)
    assert failed.status == 21
    assert failed.first("error") == (
        "slot A fails its preflight: ldd /bin: /bin/broken lacks libz.so.6"
    )
    assert late.first("error").endswith("command sleep 9: no end within 1 s")


def test_a_slot_without_ldd_does_not_pass_for_one_that_lacks_nothing(host: Host) -> None:
    program = Path(host.slots.slot(A).mount_point) / "bin/broken"
    with host.lock() as token:
        write(host, A, uzip(), token)
        assert host.do(Mount(A, "uzip"), token).status == 0
        program.parent.mkdir()
        program.write_text("\x7fELF")
        program.chmod(0o755)
        failed = host.do(Preflight(A, (LibrariesTrial(("/bin",)),)), token)
    assert failed.status == 21
    assert "cannot ask the slot's loader: chroot: /usr/bin/ldd" in failed.first("error")


def test_at_boot_what_was_armed_goes_back_and_both_slots_are_mounted(
    host: Host, world: World, tmp_path: Path
) -> None:
    program = tmp_path / "slotctl"
    host.slots = replace(host.slots, mounts=(InnerMount(MountKind.TMPFS, "tmp"),))
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        assert host.slotctl(program, "stop").returncode == 0
        serve(host, B, uzip(2), token)
    armed = "token=ab\nback=A\ntarget=B\nseconds=60\nrelease=r\nat=1\nboot_id=1700000000\n"
    Path(host.slots.records, "cgi.armed.ab").write_text(armed)
    world.change(mounts=[], tasted={})
    (world.folder / "modules/g_uzip").unlink()
    world.sysctl("kern.boottime", "{ sec = 1700001000, usec = 4711 } Tue Nov 14 22:30:00 2023")
    booted = host.slotctl(program, "boot")
    assert (booted.returncode, booted.stderr) == (0, "")
    assert "slot B is proven" in booted.stdout  # it was filled after the clean stop
    assert "slot A is proven" not in booted.stdout
    state = host.probe()
    assert active(host.slots, state) is A
    assert [(one.mounted, one.missing_mounts) for one in state.statuses] == [(True, ())] * 2
    assert state.guard is not None
    assert (state.guard.state, state.guard.error) == (GuardState.FIRED, "")


def test_slotctl_flips_proves_and_tells(host: Host, world: World, tmp_path: Path) -> None:
    program = tmp_path / "slotctl"
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)
    assert host.slotctl(program, "rollback").returncode == 0
    assert active(host.slots, host.probe()) is A
    with (world.folder / "dev/ada0p6").open("r+b") as disk:
        disk.seek(100_000)
        disk.write(b"spoilt")
    ended = host.slotctl(program, "verify", "cgi")
    assert (ended.returncode, "slot B is damaged" in ended.stderr) == (8, True)
    assert host.slotctl(program, "flip", "cgi", "B").returncode == 8
    assert active(host.slots, host.probe()) is A


def test_what_was_flipped_to_by_hand_and_fails_its_check_is_taken_back(
    host: Host, tmp_path: Path
) -> None:
    program = tmp_path / "slotctl"
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)
    host.slots = replace(host.slots, checks=(CommandCheck(("/bin/sh", "-c", "exit 1"), 0.5),))
    ended = host.slotctl(program, "rollback", "--confirm-within", "600")
    assert (ended.returncode, "taken back, slot B serves again" in ended.stderr) == (5, True), ended
    state = host.probe()
    assert (active(host.slots, state), state.guard) == (B, None)
    host.slots = replace(host.slots, checks=(CommandCheck(("/bin/sh", "-c", "exit 0")),))
    assert host.slotctl(program, "flip", "cgi", "A", "--confirm-within", "600").returncode == 0
    guard = host.probe().guard
    assert guard is not None
    assert (guard.state, guard.alive) == (GuardState.ARMED, True)
    assert guard.left_s is not None
    assert host.slotctl(program, "confirm").returncode == 0
    state = host.probe()
    assert (active(host.slots, state), state.guard) == (A, None)


# --- provisioning and the boot ---------------------------------------------------------------


def installed(host: Host, folder: Path) -> tuple[File, File]:
    """Install slotctl and the rc.d script as `deploy provision` does, below a folder of ours."""
    path = f"{folder}/libexec/slotctl"
    script = hooks.rc_script(path, (host.slots,))
    # The one absolute path of it that is not ours: played by a stand-in.
    script = script.replace("/etc/rc.subr", f"{Path(standins.__file__).parent}/rc.subr")
    files = (
        File(path, 0o755, scripts.slotctl(host.platform, (host.slots,))),
        File(f"{folder}/rc.d/flipslot", 0o555, script),
    )
    paths = tuple(one.path for one in files)
    folders = tuple(one.mount_point for one in host.slots.slots)
    asked = hooks.installed_call(host.platform, folders, paths)
    found = hooks.found(host.run(asked), 2, 2)
    assert (found.system, found.enabled, found.files) == ("rc.d", False, ("missing", "missing"))
    with host.lock() as token:
        for one in folders:
            assert host.run(hooks.folder_call(host.platform, token, one)).status == 0
        for file in files:
            done = host.run(hooks.install_call(host.platform, token, file), file.data)
            assert done.status == 0, done
        done = host.run(hooks.enable_call(host.platform, token))
        assert done.status == 0, done
    found = hooks.found(host.run(asked), 2, 2)
    assert found.enabled
    assert found.files == tuple(f"{one.sha256} {one.mode:o}" for one in files)
    assert set(found.folders) == {hooks.PathState.FOLDER}
    return files


def test_provisioning_installs_reads_back_and_has_the_boot_call_slotctl(
    host: Host, world: World, tmp_path: Path
) -> None:
    installed(host, tmp_path / "usr")
    assert (world.folder / "etc/rc.conf").read_text() == 'flipslot_enable="YES"\n'
    assert (world.folder / "boot/loader.conf").read_text() == 'geom_uzip_load="YES"\n'
    for changed, made in (("flipslot_enable", "/etc/rc.conf"), ("geom_uzip_load", "/boot")):
        at = world.log.index(["sysrc", f"{changed}=YES"])
        assert ["fsync", made] in world.log[at:]
    script = f"{tmp_path}/usr/rc.d/flipslot"
    renamed = world.log.index(["rename", script])
    assert ["fsync", f"{tmp_path}/usr/rc.d/.flipslot.partial"] in world.log[:renamed]
    assert ["fsync", f"{tmp_path}/usr/rc.d"] in world.log[renamed:]


def test_a_file_that_comes_cut_changes_nothing(host: Host, tmp_path: Path) -> None:
    slotctl, _ = installed(host, tmp_path / "usr")
    new = replace(slotctl, text="#!/bin/sh\nexit 0\n")
    with host.lock() as token:
        answer = host.run(hooks.install_call(host.platform, token, new), new.data[:-1])
    assert answer.status == 23, answer
    assert Path(slotctl.path).read_text() == slotctl.text
    assert not list(Path(slotctl.path).parent.glob(".*"))


def test_after_a_boot_the_hook_mounts_and_serves_what_the_link_names(
    host: Host, world: World, tmp_path: Path
) -> None:
    _, script = installed(host, tmp_path / "usr")
    with (world.folder / "etc/rc.conf").open("a") as conf:
        conf.write('svcj_all_enable="YES"\n')  # FreeBSD 15: in a jail nothing can be mounted
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)

    def rc(word: str) -> "subprocess.CompletedProcess[bytes]":
        environment = {**host.environment, "PATH": host.platform.path}
        return subprocess.run(
            ("/bin/sh", script.path, word), env=environment, capture_output=True, check=False
        )

    stopped = rc("stop")
    assert stopped.returncode == 0, stopped
    world.sysctl("kern.boottime", "{ sec = 1700009000, usec = 1 } Tue Nov 14 22:13:20 2023")
    world.change(mounts=[])
    for status in host.probe().statuses:
        shutil.rmtree(status.slot.mount_point)
        Path(status.slot.mount_point).mkdir()
    started = rc("start")
    assert started.returncode == 0, started
    state = host.probe()
    assert active(host.slots, state) is B
    assert [one.mounted for one in state.statuses] == [True, True]
