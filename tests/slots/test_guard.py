"""The dead man's switch, for real in a sandbox: who is first, confirm or guard, and what then."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from slots import answers, calls, scripts
from slots.actions import Arm, Confirm, Disarm, Flip, Judge, Mount, Restart, Unmount
from slots.errors import RolledBackError
from slots.slot import GuardState, InnerMount, MountKind, Service, SlotName, Verdict, active
from tests.slots.guards import (
    PATIENCE_S,
    SLOT_BYTES,
    A,
    B,
    arm,
    end_guard,
    ended,
    fired,
    frontend,
    guard_pid,
    ready,
    unlocked,
    until,
    waiting,
)
from tests.slots.hosts import Host, process

TRIES = 3  # at a time, in each shell


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = ready(tmp_path, frontend(tmp_path / "a frontend"))
    yield made
    end_guard(made)


def test_what_nobody_confirms_is_taken_back_in_time_under_each_shell(
    shell: str, tmp_path: Path
) -> None:
    mark = tmp_path / "restarted"
    service = Service("web", ("nobody",), ("touch", str(mark)), always=True)
    host = ready(tmp_path, frontend(tmp_path / "it's a frontend", shell, (service,)))
    with host.lock() as token:
        assert arm(host, token, 2).status == 0
        armed_at = time.monotonic()
        with waiting(host):
            assert host.do(Flip(B), token).status == 0
            guard = host.probe().guard
        assert guard is not None
        assert (guard.state, guard.alive) == (GuardState.ARMED, True)
        assert guard.left_s in {0, 1, 2}
        assert (guard.back, guard.target, guard.release, guard.seconds) == (A, B, "cgi-2", 2)
        until(lambda: fired(host))
        assert 1 < time.monotonic() - armed_at < PATIENCE_S
        late = host.do(Judge(B, Verdict.GOOD), token)
        assert isinstance(answers.error_of(late, "www1"), RolledBackError), late
    until(lambda: unlocked(host))
    state = host.probe()
    assert active(host.slots, state) is A
    assert state.guard is not None
    assert (state.guard.why, state.guard.error) == ("not confirmed within 2 s", "")
    assert mark.exists()
    assert state.status(B).verdict is None  # nobody has said that the image is to blame
    until(lambda: ended(guard_pid(host)))


def test_what_is_confirmed_stays_and_the_guard_ends_at_once(shell: str, tmp_path: Path) -> None:
    host = ready(tmp_path, frontend(tmp_path / "frontend", shell))
    with host.lock() as token:
        assert arm(host, token, 60).status == 0
        pid = guard_pid(host)
        assert host.do(Flip(B), token).status == 0
        assert host.do(Confirm(B), token).first("confirmed") == token
        until(lambda: ended(pid))
        assert host.do(Confirm(B), token).status == 0
    state = host.probe()
    assert (active(host.slots, state), state.guard) == (B, None)
    assert [one.name for one in Path(host.slots.records).glob("cgi.*armed*")] == []


def test_exactly_one_of_confirm_and_guard_gets_it(shell: str, tmp_path: Path) -> None:
    hosts = [ready(tmp_path / str(n), frontend(tmp_path / str(n), shell)) for n in range(TRIES)]

    def race(host: Host) -> tuple[int, SlotName | None]:
        with host.lock() as token:
            assert arm(host, token, 3).status == 0
            armed_at = time.monotonic()
            flipped = host.do(Flip(B), token).status
            assert flipped in {0, 25}  # a machine under load may be late
            time.sleep(max(0.0, armed_at + 2.8 - time.monotonic()))
            answer = host.do(Confirm(B), token)
            until(lambda: ended(guard_pid(host)))
        return answer.status, active(host.slots, host.probe())

    with ThreadPoolExecutor(TRIES) as pool:
        outcomes = list(pool.map(race, hosts))
    assert set(outcomes) <= {(0, B), (25, A)}


def test_confirm_and_guard_at_the_very_same_moment(host: Host) -> None:
    """Both try to rename at once, again and again: one record, one winner."""
    won = {"confirmed": 0, "fired": 0}
    with host.lock() as token:
        for number in range(12):
            own = secrets.token_hex(8)
            records = Path(host.slots.records)
            for name in ("firing", "fired", "guard.log"):
                (records / f"cgi.{name}").unlink(missing_ok=True)
            lines = f"token={own}\nback=A\ntarget=B\nseconds=0\nrelease=r\nat=1\n"
            (records / f"cgi.armed.{own}").write_text(lines)
            rename = "mv -f -- %s/cgi.armed.%s %s/cgi.%s 2>/dev/null && say won %s || say won no"
            pair = ("confirmed", "firing") if number % 2 else ("firing", "confirmed")
            calls = [rename % (records_quoted(host), own, records_quoted(host), n, n) for n in pair]
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(host.run, calls))
            winners = [one.first("won") for one in answers if one.first("won") != "no"]
            assert len(winners) == 1, answers
            won["fired" if winners == ["firing"] else "confirmed"] += 1
        assert token
    assert sum(won.values()) == 12


def records_quoted(host: Host) -> str:
    return "'" + host.slots.records.replace("'", "'\"'\"'") + "'"


def test_a_guard_keeps_nothing_of_the_session_that_started_it(host: Host) -> None:
    with host.lock() as token:
        assert arm(host, token, 60).status == 0
        pid = guard_pid(host)
    open_files = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    log, script = f"{host.slots.records}/cgi.guard.log", f"{host.slots.records}/cgi.guard"
    assert open_files <= {"/dev/null", log, script}
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) == pid
    os.kill(pid, signal.SIGHUP)
    os.kill(pid, signal.SIGPIPE)
    time.sleep(0.3)
    assert not ended(pid)
    assert host.probe().lock is None
    guard = host.probe().guard
    assert guard is not None
    assert guard.alive


def test_a_mount_that_fails_half_way_when_the_guard_goes_back_is_undone(host: Host) -> None:
    inner = InnerMount(MountKind.TMPFS, "tmp"), InnerMount(MountKind.TMPFS, "missing")
    with host.lock() as token:
        assert host.do(Unmount(B), token).status == 0
        assert host.do(Mount(B, "squashfs"), token).status == 0
        assert host.do(Flip(B), token).status == 0
        assert host.do(Unmount(A), token).status == 0
        host.slots = replace(host.slots, mounts=inner)
        assert arm(host, token, 1).status == 0
        pid = guard_pid(host)
        until(lambda: ended(pid))
    state = host.probe()
    assert state.guard is not None
    assert "the image has no directory /missing" in state.guard.error
    assert (active(host.slots, state), state.status(A).mounted) == (B, False)


def test_a_deployer_killed_between_arming_and_the_flip_leaves_nothing_to_take_back(
    host: Host,
) -> None:
    with host.lock() as token:
        assert arm(host, token, 1).status == 0
        pid = guard_pid(host)
    until(lambda: ended(pid))
    state = host.probe()
    assert (active(host.slots, state), state.guard, state.lock) == (A, None, None)


def test_a_deployer_that_hangs_before_its_flip_cannot_go_on(host: Host) -> None:
    with host.lock() as token:
        assert arm(host, token, 1).status == 0
        pid = guard_pid(host)
        until(lambda: ended(pid))
        assert host.do(Flip(B), token).status in {24, 25}
    assert active(host.slots, host.probe()) is A


def test_services_that_a_dead_deployer_left_in_the_new_slot_are_moved(host: Host) -> None:
    mark = Path(host.slots.records, "restarted")
    service = Service("sleep", ("sleep",), ("touch", str(mark)), deadline_s=1)
    host.slots = replace(host.slots, services=(service,))
    with process("sleep", "60", cwd=host.slots.slot(B).mount_point):
        with host.lock() as token:
            assert arm(host, token, 1).status == 0
            pid = guard_pid(host)
        until(lambda: ended(pid))
    assert mark.exists()
    assert fired(host)


def test_a_new_deploy_ends_the_guard_of_a_dead_one(host: Host) -> None:
    with host.lock() as token:
        assert arm(host, token, 60).status == 0
        old = guard_pid(host)
        assert host.do(Flip(B), token).status == 0
    with host.lock() as token:
        assert host.do(Disarm(B), token).all("disarmed")
        until(lambda: ended(old))
        assert host.probe().guard is None
        assert arm(host, token, 60).status == 0
        assert arm(host, token, 60).status == 0  # twice: the first one's guard ends
        assert len([*Path(host.slots.records).glob("cgi.armed.*")]) == 1
        assert host.do(Confirm(B), token).status == 0
    assert active(host.slots, host.probe()) is B


def test_a_guard_that_was_killed_is_told(host: Host) -> None:
    with host.lock() as token:
        assert arm(host, token, 60).status == 0
        pid = guard_pid(host)
        os.kill(pid, signal.SIGKILL)
        until(lambda: ended(pid))
    guard = host.probe().guard
    assert guard is not None
    assert (guard.state, guard.alive) == (GuardState.ARMED, False)


def test_a_guard_that_cannot_go_back_says_why(host: Host) -> None:
    with host.lock() as token:
        assert arm(host, token, 4).status == 0  # time to stop it
        with waiting(host):
            assert host.do(Flip(B), token).status == 0
            Path(host.slots.records, "cgi.A.mounted").unlink()
            Path(host.slots.slot(A).device).write_bytes(bytes(SLOT_BYTES))
        until(lambda: fired(host))
    state = host.probe()
    assert active(host.slots, state) is B
    assert state.guard is not None
    assert "slot A" in state.guard.error


def test_a_guard_that_comes_cut_off_is_not_armed(host: Host) -> None:
    action = Arm(B, "cgi-2", 60, ())
    with host.lock() as token:
        payload = scripts.guard_payload(host.platform, host.slots, action, token)
        answer = host.run(calls.call(host.platform, action, token), payload[:-20])
        assert (answer.status, answer.first("error")) == (21, "the guard did not come whole")
        assert host.run(calls.call(host.platform, action, token), b"").status == 21
    assert host.probe().guard is None


def test_a_restart_that_hangs_is_overtaken(host: Host, tmp_path: Path) -> None:
    begun, over = tmp_path / "begun", tmp_path / "over"
    hangs = f"echo >>'{begun}'; until [ -e '{over}' ]; do sleep 0.1; done"
    service = Service("web", ("sleep",), ("sh", "-c", hangs), always=True)
    host.slots = replace(host.slots, services=(service,))
    with host.lock() as token, ThreadPoolExecutor(1) as pool:
        assert arm(host, token, 4).status == 0  # time to stop it
        with waiting(host):
            assert host.do(Flip(B), token).status == 0
            restart = calls.call(host.platform, Restart(A, (service,)), token)
            hanging = pool.submit(host.run, restart)
            until(begun.exists)
        until(lambda: active(host.slots, host.probe()) is A)
        until(lambda: len(begun.read_text()) == 2)  # the guard restarts by the same rules
        assert not hanging.done()
        over.touch()
        assert hanging.result().status == 0
        until(lambda: fired(host))
    until(lambda: unlocked(host))


RENAMED = """\
again=yes
guard_left() {
    guard_left=7
    [ -n "$again" ] || return 0
    again=''
    mv "$RECORDS/$SET.armed.ab" "$RECORDS/$SET.firing"
}
verb_probe
"""


def test_a_record_that_is_renamed_while_it_is_looked_at_is_told_as_it_is_then(
    tmp_path: Path,
) -> None:
    host = ready(tmp_path, frontend(tmp_path / "frontend"))
    fields = "token=ab\nback=A\ntarget=B\nseconds=60\nrelease=r\nat=1\n"
    Path(host.slots.records, "cgi.armed.ab").write_text(fields)
    answer = host.run(f"each_restart() {{ :; }}\n{RENAMED}")
    assert answer.all("guard.state") == ("firing",)
    assert answer.all("guard.back") == ("A",)
    assert answer.all("guard.left") == ("7",)
