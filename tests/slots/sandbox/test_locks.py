"""Who may change a set, in a sandbox: the lock, writers, and those that died."""

import os
import re
import secrets
import signal
from dataclasses import replace
from pathlib import Path

from slots import answers, calls
from slots.actions import Erase, Fill, Seal
from slots.errors import LockedError, LockLostError
from tests.slots import images
from tests.slots.guards import ended, until
from tests.slots.hosts import DEADLINE_S, Host, wait_until_gone
from tests.slots.sandbox.frontend import A


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
        pid = killed_holder(host)
        answer = host.do(Erase(A), token)
    assert isinstance(answers.error_of(answer, "www1"), LockLostError)
    assert f"ended: process {pid}, which held it, died" in answer.first("error")


def test_the_lock_of_a_killed_holder_is_stale_and_taken_over(host: Host) -> None:
    with host.lock("ann@desk") as token:
        killed_holder(host)
        stale = host.probe().lock
        assert stale is not None
        assert not stale.alive
    with host.lock("bob@desk") as mine:
        assert mine != token
        assert host.do(Erase(A), mine).status == 0


def killed_holder(host: Host) -> int:
    """Kill who holds the lock; return its number."""
    lock = host.probe().lock
    assert lock is not None
    killed(lock.pid)
    return lock.pid


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: ended(pid))


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
            until(
                lambda: Path(f"/proc/{fields['child']}/comm").read_text() in {"dd\n", "busybox\n"}
            )
            killed(int(fields["pid"]))
            assert host.do(Erase(A), token).status == 22
            assert hanging.stdin is not None
            hanging.stdin.close()
            wait_until_gone(int(fields["child"]))
        assert host.do(Erase(A), token).status == 0


def test_a_dd_that_no_claim_names_yet_writes_nothing(host: Host, shell: str) -> None:
    host.shell = shell
    image = images.with_magic("uzip", 400_000)
    with host.lock() as token:
        host.do(Erase(A), token)
        before = Path(host.slots.slots[0].device).read_bytes()
        # Killed where it would name its dd, just behind the birth of that.
        killed_there = 'note_child() { kill -KILL "$$"; }\n'
        call = killed_there + calls.call(host.platform, Fill(A, image.artefact), token)
        with host.start(call, secrets.token_hex(8), platform=host.platform) as cut:
            _, said = cut.communicate(image.body, timeout=DEADLINE_S)  # until the last has ended
        assert cut.returncode == -signal.SIGKILL, said
        assert Path(host.slots.slots[0].device).read_bytes() == before
        assert host.do(Erase(A), token).status == 0


def test_a_connection_that_ends_within_a_fill_leaves_no_writer(host: Host) -> None:
    image = images.with_magic("uzip", 400_000)
    with host.lock() as token:
        host.do(Erase(A), token)
        assert host.do(Fill(A, image.artefact), token, image.body[:100_000]).status == 21
        assert not list(Path(host.slots.records).glob("*writer*"))
        assert not list(Path(host.slots.records).glob(".*"))
