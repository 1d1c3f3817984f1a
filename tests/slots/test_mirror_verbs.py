"""Packs and images that a host pulls from mirrors: how each may fail, and the next one."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls
from slots.actions import Erase, Seal
from slots.manifest import HEAD_BYTES
from slots.sandbox import Sandbox
from slots.slot import SlotName, Written
from tests.slots import images, packs
from tests.slots.hosts import SHELLS, Host, found_commands, sandbox_slots
from tests.slots.mirrors import FAULTS, HANGS, Mirror, closed_port, deaf_port, mirror

B = SlotName.B
SLOT_BYTES = 2 << 20
# What the verbs need besides a program that downloads.
BASE = (
    *("cat", "chmod", "cp", "cut", "date", "dd", "df", "env", "grep", "gzip", "ln", "mkdir"),
    *("mkfifo", "mv", "od", "readlink", "rm", "rmdir", "sed", "setsid", "sha256sum"),
    *("sleep", "sort", "stat", "sync", "tail", "tee", "tr", "wc", "xargs"),
)
HASTE = "CONNECT_S=2 STALL_S=1\n"  # a test does not wait as long as an admin
PATIENCE_S = 8  # for busybox, which does not see by itself that nothing comes
CHANCE = random.Random(7)  # noqa: S311 - bytes of a test
PACK = packs.Pack(CHANCE.randbytes(300_000))
IMAGE = images.of_bytes(CHANCE.randbytes(700_000), "squashfs")


@pytest.fixture(scope="module")
def server() -> Iterator[Mirror]:
    with mirror() as made:
        made.objects[PACK.sha256] = PACK.data
        made.objects[IMAGE.artefact.sha256] = IMAGE.data
        yield made


@pytest.fixture(params=["curl", "wget", "busybox"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """A host that has this one program to download with."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"needs {request.param}")
    if request.param == "busybox":
        busybox_downloads(program, request.getfixturevalue("server"))
    commands = found_commands(tmp_path / "commands", BASE)
    (commands / ("wget" if request.param == "busybox" else request.param)).symlink_to(program)
    slots = sandbox_slots(tmp_path, SLOT_BYTES, records="records of it")
    return Host(replace(Sandbox(), path=str(commands)), slots)


def busybox_downloads(program: str, server: Mirror) -> None:
    """Skip where the program itself falls: a static one may lack what looks up names."""
    url = server.url("good", PACK.sha256)
    done = subprocess.run((program, "wget", "-q", "-O", "/dev/null", url), check=False)
    if done.returncode:
        pytest.skip(f"busybox wget does not run here: status {done.returncode}")


def staged(host: Host) -> Path:
    return Path(host.slots.records) / "staging/cgi" / f"{PACK.sha256}.pack"


def fetch(host: Host, token: str, *urls: str, timeout_s: int = 20) -> answers.Answer:
    reach = calls.MirrorReach(urls, timeout_s)
    return host.run(HASTE + calls.fetch_call(token, PACK.sha256, PACK.size_bytes, reach))


def pull(
    host: Host, token: str, *urls: str, timeout_s: int = 20, offset: int = HEAD_BYTES
) -> answers.Answer:
    reach = calls.MirrorReach(urls, timeout_s)
    return host.run(HASTE + calls.pull_call(token, B, IMAGE.artefact, reach, offset))


def test_the_first_mirror_that_has_the_pack_gives_it(host: Host, server: Mirror) -> None:
    with host.lock() as token:
        answer = fetch(host, token, server.url("good", PACK.sha256))
        assert answer.status == 0, answer
        assert staged(host).read_bytes() == PACK.data
        assert answer.first("pulled") == str(PACK.size_bytes)
        again = fetch(host, token, server.url("empty", PACK.sha256))
    assert (again.status, again.first("pulled")) == (0, "0")


def test_how_much_of_a_pack_is_there_is_told_while_it_comes(host: Host, server: Mirror) -> None:
    with host.lock() as token:
        answer = fetch(host, token, server.url("slow", PACK.sha256), timeout_s=PATIENCE_S)
    assert answer.status == 0, answer
    *during, end = map(int, answer.all("written"))
    assert during, answer
    assert during == sorted(during)
    assert 0 < during[0] < PACK.size_bytes
    assert end == PACK.size_bytes
    assert staged(host).read_bytes() == PACK.data


def frees(host: Host, folder: Path, *kib: int) -> None:
    """Let the host's df say that so much is free, once after the other, then the last again."""
    df = Path(host.platform.path) / "df"
    df.unlink()
    (folder / "free").write_text("".join(f"{one}\n" for one in kib))
    df.write_text(
        f"#!/bin/sh\ncd {folder}; read -r free <free; sed -n '1!p' free >rest\n"
        "[ ! -s rest ] || mv rest free\nprintf 'head\\ndisk 1 1 %s 1%% /\\n' \"$free\"\n"
    )
    df.chmod(0o755)


def test_without_room_for_a_pack_nothing_is_pulled_and_nothing_pushed(
    host: Host, server: Mirror, tmp_path: Path
) -> None:
    frees(host, tmp_path, PACK.size_bytes // 1024 - 1)
    server.asked.clear()
    with host.lock() as token:
        answer = fetch(host, token, server.url("good", PACK.sha256))
        pushed = calls.stage_call(token, PACK.sha256, PACK.size_bytes, 0)
        for one in (answer, host.run(pushed, PACK.data)):
            assert one.status == 21, one
            assert "KiB are free for the pack" in one.first("error")
            assert "staging" in one.first("hint")
    assert server.asked == []
    assert list(staged(host).parent.iterdir()) == []


def test_a_part_of_a_pack_does_not_fill_a_disk_that_is_full(
    host: Host, server: Mirror, tmp_path: Path
) -> None:
    """A record that finds no room there would end the deploy."""
    for kib, kept_bytes in ((5000, PACK.size_bytes // 2), (10, 0)):
        frees(host, tmp_path, 1_000_000, kib)
        with host.lock() as token:
            answer = fetch(host, token, server.url("broken", PACK.sha256))
        assert answer.status == 21, answer
        assert sum(path.stat().st_size for path in staged(host).parent.iterdir()) == kept_bytes


@pytest.mark.parametrize("fault", [*FAULTS, *HANGS])
def test_a_mirror_that_fails_does_not_stop_the_next_one(
    host: Host, server: Mirror, fault: str
) -> None:
    bad = server.url(fault, PACK.sha256)
    server.asked.clear()
    began = time.monotonic()
    with host.lock() as token:
        answer = fetch(host, token, bad, server.url("good", PACK.sha256), timeout_s=PATIENCE_S)
    assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data
    (why,) = answer.all("failed_mirror")
    assert why.startswith(f"{bad}: ")
    assert why != f"{bad}: "
    assert answer.first("mirror") == server.url("good", PACK.sha256)
    assert ended_by_itself(why) or (fault in HANGS and has_busybox(host)), why
    assert time.monotonic() - began < 3 * PATIENCE_S
    assert "404" in why or fault != "empty"
    assert "elsewhere" not in dict(server.asked) or has_busybox(host)
    # What never ends is not kept beyond the size of what is wanted.
    assert int(answer.first("pulled")) <= 2 * PACK.size_bytes + 1024


def test_a_mirror_that_takes_no_connection_is_soon_given_up(host: Host, server: Mirror) -> None:
    with deaf_port() as port, host.lock() as token:
        urls = (f"http://127.0.0.1:{port}/{PACK.sha256}", server.url("good", PACK.sha256))
        answer = fetch(host, token, *urls, timeout_s=PATIENCE_S)
    assert answer.status == 0, answer
    (why,) = answer.all("failed_mirror")
    assert ended_by_itself(why) or has_busybox(host), why


@pytest.mark.parametrize("programs", [("curl",), ("wget",), ("curl", "wget")])
def test_a_limit_of_bytes_a_second_is_kept(
    server: Mirror, tmp_path: Path, programs: tuple[str, ...]
) -> None:
    commands = found_commands(tmp_path / "commands", BASE)
    for program in programs:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"needs {program}")
        spy = commands / program
        spy.write_text(f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/asked\nexec {found} "$@"\n')
        spy.chmod(0o755)
    host = Host(replace(Sandbox(), path=str(commands)), sandbox_slots(tmp_path, SLOT_BYTES))
    reach = calls.MirrorReach((server.url("good", PACK.sha256),), 20, 100_000)
    began = time.monotonic()
    with host.lock() as token:
        answer = host.run(calls.fetch_call(token, PACK.sha256, PACK.size_bytes, reach))
    assert answer.status == 0, answer
    asked = (tmp_path / "asked").read_text().splitlines()[-1]
    # Of the two wget keeps closer to it: curl reads what is there already at once.
    assert asked.startswith(f"{commands}/{programs[-1]} ")
    assert "--limit-rate" in asked
    assert "curl" in asked or time.monotonic() - began > 0.6 * PACK.size_bytes / 100_000


def test_a_busybox_that_knows_how_long_to_wait_gives_up_a_mirror_that_hangs(
    server: Mirror, tmp_path: Path
) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    busybox_downloads(busybox, server)
    commands = found_commands(tmp_path / "commands", (*BASE, "timeout"))
    wget = commands / "wget"  # as builds do whose -T works
    wget.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exec {busybox} wget --version\n'
        '[ "$2" = -T ] || exit 9\n'
        f'wait_s=$3; shift 3; exec timeout "$wait_s" {busybox} wget -q "$@"\n'
    )
    wget.chmod(0o755)
    host = Host(replace(Sandbox(), path=str(commands)), sandbox_slots(tmp_path, SLOT_BYTES))
    urls = (server.url(folder, PACK.sha256) for folder in ("hang", "good"))
    began = time.monotonic()
    with host.lock() as token:
        assert fetch(host, token, *urls, timeout_s=30).status == 0
    assert time.monotonic() - began < 20


def ended_by_itself(why: str) -> bool:
    """Tell whether it was not its time that ended a download: a limit of bytes, or of silence."""
    return "no end within" not in why


def has_busybox(host: Host) -> bool:
    """Tell whether it downloads with busybox, which follows redirects and waits for what hangs."""
    return (Path(host.platform.path) / "wget").resolve().name == "busybox"


@pytest.mark.parametrize("fault", [*FAULTS, *HANGS])
def test_an_image_from_a_mirror_that_fails_is_pulled_from_the_next_one(
    host: Host, server: Mirror, fault: str
) -> None:
    bad, good = (server.url(folder, IMAGE.artefact.sha256) for folder in (fault, "good"))
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, bad, good, timeout_s=PATIENCE_S)
        assert answer.status == 0, answer
        assert answer.first("mirror") == good
        (why,) = answer.all("failed_mirror")
        assert why.startswith(f"{bad}: ")
        assert ended_by_itself(why) or (fault in HANGS and has_busybox(host)), why
        assert "404" in why or fault != "empty"
        if fault == "redirect" and not has_busybox(host):
            assert "302" in why or "redirection" in why
        assert "elsewhere" not in dict(server.asked) or has_busybox(host)
        assert host.do(Seal(B, IMAGE.artefact, "r"), token, IMAGE.head).status == 0
        assert host.do(images.proof(B, IMAGE.artefact), token).status == 0


def proven(host: Host, token: str) -> bool:
    """Seal the slot, and tell whether it holds the image."""
    assert host.do(Seal(B, IMAGE.artefact, "r"), token, IMAGE.head).status == 0
    return host.do(images.proof(B, IMAGE.artefact), token).status == 0


CUT_AT = len(IMAGE.data) // 2 // HEAD_BYTES * HEAD_BYTES  # whole blocks of the half that came


def test_an_image_that_was_cut_goes_on_behind_the_last_block_that_came(
    host: Host, server: Mirror
) -> None:
    cut, good = (server.url(folder, IMAGE.artefact.sha256) for folder in ("cut", "good"))
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, cut)
        assert answer.status == 21, answer
        assert answer.first("pulled") == str(CUT_AT)
        assert host.probe().status(B).written == Written(IMAGE.artefact.sha256, CUT_AT)
        host.do(Erase(B), token)
        server.asked.clear()
        answer = pull(host, token, good, offset=CUT_AT)
        assert answer.status == 0, answer
        if has_busybox(host):
            assert server.asked == [("good", "")]
        else:
            assert server.asked == [("good", f"bytes={CUT_AT}-")]
            assert answer.first("pulled") == str(len(IMAGE.data) - CUT_AT)
            assert answer.first("went_on") == str(CUT_AT)
        server.asked.clear()
        again = pull(host, token, good, offset=len(IMAGE.data))
        assert (again.status, again.first("pulled"), server.asked) == (0, "0", [])
        assert proven(host, token)


@pytest.mark.parametrize("shell", SHELLS)
def test_under_every_shell_a_cut_image_goes_on_and_a_lie_is_begun_anew(
    tmp_path: Path, server: Mirror, shell: str
) -> None:
    program, *_ = shell.split()
    if shutil.which(program) is None or shutil.which("curl") is None:
        pytest.skip(f"needs {program} and curl")
    host = Host(Sandbox(), sandbox_slots(tmp_path, SLOT_BYTES), shell=shell)
    urls = (server.url(folder, IMAGE.artefact.sha256) for folder in ("cut", "cut-wrong", "good"))
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, *urls)
        assert answer.status == 0, answer
        folders = [folder for folder, _ in server.asked]
        assert folders == ["cut", "cut-wrong", "good", "good"]
        assert proven(host, token)


def test_the_next_mirror_goes_on_where_the_one_before_was_cut(host: Host, server: Mirror) -> None:
    urls = (server.url(folder, IMAGE.artefact.sha256) for folder in ("cut", "cut", "good"))
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, *urls)
        assert answer.status == 0, answer
        assert len(answer.all("failed_mirror")) == 2
        if not has_busybox(host):
            again = CUT_AT + (len(IMAGE.data) - CUT_AT) // 2 // HEAD_BYTES * HEAD_BYTES
            ranges = [("cut", ""), ("cut", f"bytes={CUT_AT}-"), ("good", f"bytes={again}-")]
            assert server.asked == ranges
            assert answer.first("pulled") == str(len(IMAGE.data))
        assert proven(host, token)


def test_what_a_lying_mirror_began_of_an_image_is_begun_again_by_the_next(
    host: Host, server: Mirror
) -> None:
    urls = [server.url(folder, IMAGE.artefact.sha256) for folder in ("cut-wrong", "good")]
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, *urls)
        assert answer.status == 0, answer
        assert answer.first("mirror") == urls[1]
        if not has_busybox(host):
            ranges = [("cut-wrong", ""), ("good", f"bytes={CUT_AT}-"), ("good", "")]
            assert server.asked == ranges
        assert proven(host, token)


def test_of_wrong_bytes_nothing_is_gone_on_from(host: Host, server: Mirror) -> None:
    with host.lock() as token:
        for fault in ("wrong", "endless"):
            host.do(Erase(B), token)
            answer = pull(host, token, server.url(fault, IMAGE.artefact.sha256))
            assert answer.status == 21, answer
            assert host.probe().status(B).written is None


@pytest.mark.parametrize("folder", ["noranges", "broken"])
def test_a_mirror_that_cannot_go_on_in_the_middle_does_not_spoil_an_image(
    host: Host, server: Mirror, folder: str
) -> None:
    urls = [server.url(one, IMAGE.artefact.sha256) for one in ("cut", folder, "good")]
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, *urls)
        assert answer.status == 0, answer
        assert answer.first("mirror") == urls[1 if folder == "noranges" else 2]
        assert proven(host, token)


def test_a_wget_that_knows_no_start_begins_again(tmp_path: Path, server: Mirror) -> None:
    wget = shutil.which("wget")
    if wget is None:
        pytest.skip("needs wget")
    commands = found_commands(tmp_path / "commands", BASE)
    old = commands / "wget"
    old.write_text(f'#!/bin/sh\ncase "$*" in *--start-pos*) exit 2 ;; esac\nexec {wget} "$@"\n')
    old.chmod(0o755)
    host = Host(replace(Sandbox(), path=str(commands)), sandbox_slots(tmp_path, SLOT_BYTES))
    urls = (server.url(folder, IMAGE.artefact.sha256) for folder in ("cut", "good"))
    server.asked.clear()
    with host.lock() as token:
        host.do(Erase(B), token)
        answer = pull(host, token, *urls)
        assert answer.status == 0, answer
        assert server.asked == [("cut", ""), ("good", "")]
        assert proven(host, token)


def test_a_stick_goes_on_where_a_mirror_was_cut(host: Host, server: Mirror, tmp_path: Path) -> None:
    (tmp_path / IMAGE.artefact.sha256).write_bytes(IMAGE.data)
    with host.lock() as token:
        host.do(Erase(B), token)
        cut = server.url("cut", IMAGE.artefact.sha256)
        answer = pull(host, token, cut, f"file:{tmp_path}/{IMAGE.artefact.sha256}")
        assert answer.status == 0, answer
        assert answer.first("pulled") == str(len(IMAGE.data))
        assert proven(host, token)


def test_no_more_is_gone_on_from_than_is_there(host: Host, server: Mirror) -> None:
    with host.lock() as token:
        host.do(Erase(B), token)
        good = server.url("good", IMAGE.artefact.sha256)
        answer = pull(host, token, good, offset=CUT_AT)
    assert answer.status == 20, answer
    assert (
        answer.first("error") == f"slot B: {HEAD_BYTES} bytes of the image are there, not {CUT_AT}"
    )


def test_if_all_mirrors_fail_each_says_why_and_nothing_is_kept(host: Host, server: Mirror) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/{PACK.sha256}"
    urls = (dead, server.url("wrong", PACK.sha256), f"file:/no/such/{PACK.sha256}")
    with host.lock() as token:
        answer = fetch(host, token, *urls)
        host.do(Erase(B), token)
        image = pull(host, token, dead, server.url("wrong", IMAGE.artefact.sha256))
    assert (answer.status, image.status) == (21, 21)
    assert len(answer.all("failed_mirror")) == 3
    assert "connect" in answer.all("failed_mirror")[0].lower()
    assert "digest" in answer.all("failed_mirror")[1]
    assert "there is no file" in answer.all("failed_mirror")[2]
    assert not staged(host).exists()
    assert "digest" in image.all("failed_mirror")[1]


@pytest.mark.parametrize("fault", ["wrong", "old", "empty"])
def test_a_slot_is_not_erased_for_an_image_that_no_mirror_has(
    host: Host, server: Mirror, fault: str
) -> None:
    device = Path(host.slots.slot(B).device)
    with device.open("r+b") as file:
        file.write(b"#!/bin/sh what is the way back")
    held = device.read_bytes()
    bad, good = (server.url(folder, IMAGE.artefact.sha256) for folder in (fault, "good"))

    def erase(*urls: str) -> answers.Answer:
        reach = calls.MirrorReach(urls, PATIENCE_S)
        return host.run(HASTE + calls.erase_call(token, B, IMAGE.artefact, reach))

    with host.lock() as token:
        refused = erase(bad)
        assert refused.status == 21, refused
        assert "slot B is as it was" in refused.first("error")
        assert refused.first("failed_mirror").startswith(f"{bad}: ")
        assert device.read_bytes() == held
        assert erase(bad, good).status == 0
    assert device.read_bytes()[:512] == bytes(512)


@pytest.mark.parametrize("folder", ["good", "noranges"])
def test_a_pack_that_was_cut_goes_on_where_it_was(host: Host, server: Mirror, folder: str) -> None:
    with host.lock() as token:
        fetch(host, token, server.url("broken", PACK.sha256))
        partial = staged(host).with_suffix(".partial")
        had = partial.stat().st_size
        assert had == PACK.size_bytes // 2
        answer = fetch(host, token, server.url(folder, PACK.sha256))
    assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data
    if folder == "good":
        assert server.asked[-1] == ("good", f"bytes={had}-")
        assert answer.first("pulled") == str(PACK.size_bytes - had)


def test_what_a_lying_mirror_began_is_begun_again_by_an_honest_one(
    host: Host, server: Mirror
) -> None:
    with host.lock() as token:
        fetch(host, token, server.url("stalls", PACK.sha256), timeout_s=3)
        partial = staged(host).with_suffix(".partial")
        partial.write_bytes(bytes(1000))
        answer = fetch(host, token, server.url("good", PACK.sha256))
    assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data


def test_a_stick_is_a_mirror_too(host: Host, tmp_path: Path) -> None:
    stick = tmp_path / "usb stick"
    stick.mkdir()
    (stick / PACK.sha256).write_bytes(PACK.data)
    (stick / IMAGE.artefact.sha256).write_bytes(IMAGE.data)
    with host.lock() as token:
        assert fetch(host, token, f"file:{stick}/{PACK.sha256}").status == 0
        host.do(Erase(B), token)
        answer = pull(host, token, f"file:{stick}/{IMAGE.artefact.sha256}")
        assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data
    written = Path(host.slots.slot(B).device).read_bytes()[: len(IMAGE.data)]
    assert written == bytes(65_536) + IMAGE.body


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("nothing there", "there is no file"),
        ("a folder", "there is no file"),
        ("short", " bytes came of "),
        ("wrong", "wrong bytes"),
        ("longer", "more than "),
    ],
)
def test_a_stick_that_rotted_does_not_stop_the_next_mirror(
    tmp_path: Path, server: Mirror, fault: str, why: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    host = Host(Sandbox(), sandbox_slots(tmp_path, SLOT_BYTES, records="records of it"))
    for data, name in ((PACK.data, PACK.sha256), (IMAGE.data, IMAGE.artefact.sha256)):
        spoilt = {
            "short": data[:-1],
            "wrong": data[:-1] + bytes([data[-1] ^ 1]),
            "longer": data + b"x",
        }
        if fault in spoilt:
            (tmp_path / name).write_bytes(spoilt[fault])
        elif fault == "a folder":
            (tmp_path / name).mkdir()
    with host.lock() as token:
        urls = (f"file:{tmp_path}/{PACK.sha256}", server.url("good", PACK.sha256))
        answer = fetch(host, token, *urls)
        assert answer.status == 0, answer
        assert staged(host).read_bytes() == PACK.data
        assert why in answer.first("failed_mirror"), answer
        host.do(Erase(B), token)
        names = (f"file:{tmp_path}", server.folder("good"))
        answer = pull(host, token, *(f"{name}/{IMAGE.artefact.sha256}" for name in names))
        assert answer.status == 0, answer
        assert answer.first("failed_mirror").startswith(f"file:{tmp_path}/"), answer
        assert proven(host, token)


def test_a_host_that_has_nothing_to_download_with_says_so(host: Host, server: Mirror) -> None:
    for name in ("curl", "wget"):
        (Path(host.platform.path) / name).unlink(missing_ok=True)
    with host.lock() as token:
        answer = fetch(host, token, server.url("good", PACK.sha256))
    assert "none of curl, wget, fetch" in answer.first("failed_mirror")
