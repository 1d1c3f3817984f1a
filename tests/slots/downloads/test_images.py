"""Images that a host pulls straight into a slot: cut, gone on with, begun anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls
from slots.actions import Erase, Seal
from slots.manifest import HEAD_BYTES
from slots.sandbox import Sandbox
from slots.slot import Written
from tests.slots import images
from tests.slots.downloads.frontend import (
    BASE,
    HASTE,
    IMAGE,
    PATIENCE_S,
    SLOT_BYTES,
    B,
    ended_by_itself,
    has_busybox,
    nobody_holds_the_answer_once_killed,
    proven,
    pull,
    under,
)
from tests.slots.hosts import Host, found_commands, sandbox_slots
from tests.slots.mirrors import FAULTS, HANGS, Mirror


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


def test_under_every_shell_a_cut_image_goes_on_and_a_lie_is_begun_anew(
    tmp_path: Path, server: Mirror, shell: str
) -> None:
    host = under(shell, tmp_path)
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


def test_nobody_holds_the_answer_when_the_script_of_a_pull_was_killed(
    host: Host, server: Mirror
) -> None:
    reach = calls.MirrorReach((server.url("slow", IMAGE.artefact.sha256),), 20)
    with host.lock() as token:
        host.do(Erase(B), token)
        call = "SEGMENT_BYTES=131072\n" + calls.pull_call(token, B, IMAGE.artefact, reach)
        nobody_holds_the_answer_once_killed(host, call, 10)
