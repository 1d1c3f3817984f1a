"""Packs that a host pulls into its staging folder: how each mirror may fail, and the next one."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slots import calls
from slots.sandbox import Sandbox
from tests.slots.downloads.frontend import (
    BASE,
    PACK,
    PATIENCE_S,
    SLOT_BYTES,
    busybox_downloads,
    ended_by_itself,
    fetch,
    has_busybox,
    nobody_holds_the_answer_once_killed,
    staged,
    under,
)
from tests.slots.hosts import Host, found_commands, sandbox_slots
from tests.slots.mirrors import FAULTS, HANGS, Mirror, deaf_port


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


def test_under_every_shell_a_pack_is_pulled_from_the_second_mirror(
    tmp_path: Path, server: Mirror, shell: str
) -> None:
    host = under(shell, tmp_path)
    urls = (server.url(folder, PACK.sha256) for folder in ("cut-wrong", "slow"))
    with host.lock() as token:
        answer = fetch(host, token, *urls)
    assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data
    assert len(answer.all("written")) > 2


def test_nobody_tells_of_a_pack_when_its_script_was_killed(host: Host, server: Mirror) -> None:
    """What holds the answer open would hold the connection open."""
    reach = calls.MirrorReach((server.url("hang", PACK.sha256),), 20)
    with host.lock() as token:
        call = calls.fetch_call(token, PACK.sha256, PACK.size_bytes, reach)
        nobody_holds_the_answer_once_killed(host, call, 5)


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
