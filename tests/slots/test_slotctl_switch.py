"""slotctl by hand: a switch is checked and taken back as by a deploy, and guarded if asked to."""

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slots.actions import Judge
from slots.checks import CommandCheck, Level
from slots.slot import GuardState, Service, SlotName, Verdict
from tests.slots.guards import guard_pid, until
from tests.slots.hosts import DEADLINE_S, process
from tests.slots.test_slotctl import BOOT_ID, Frontend, here, in_shell

__all__ = ["here", "in_shell"]  # fixtures

A, B = SlotName.A, SlotName.B


def checked(one: Frontend, *checks: CommandCheck, **changes: object) -> None:
    one.host.slots = replace(one.host.slots, checks=checks, **changes)  # type: ignore[arg-type]


def serves(version: str, one: Frontend) -> CommandCheck:
    return CommandCheck(("grep", "-q", version, f"{one.host.slots.link}/version"), 1)


def truly_booted(one: Frontend) -> None:
    """Let guards and probes see one boot."""
    (one.folder / "boot_id").write_text(Path(BOOT_ID).read_text())


def test_what_fails_a_required_check_is_taken_back_in_each_shell(in_shell: Frontend) -> None:
    checked(in_shell, serves("one", in_shell))
    with in_shell.host.lock() as token:
        assert in_shell.host.do(Judge(A, Verdict.GOOD), token).status == 0
    ended = in_shell.slotctl("rollback")
    assert ended.returncode == 5, ended
    assert "failed: exit status 1 (tried for 1 s); taken back, slot A serves again" in ended.stderr
    state = in_shell.host.probe()
    assert in_shell.serves is A
    assert (state.status(A).verdict, state.status(B).verdict) == (Verdict.GOOD, Verdict.BAD)
    checked(in_shell, serves("two", in_shell))
    assert "passed grep" in in_shell.done("flip", "cgi", "B")
    assert in_shell.serves is B


def test_unless_it_is_confirmed_in_time_the_host_goes_back_in_each_shell(
    in_shell: Frontend,
) -> None:
    truly_booted(in_shell)
    guardian = in_shell.records / "cgi.guardian"
    pid = f"sed -n s/^pid=//p {shlex.quote(str(guardian))}"
    hold = f"[ ! -e {shlex.quote(str(guardian))} ] || kill -STOP $({pid})"
    checked(in_shell, CommandCheck(("sh", "-c", hold)))  # until the test has looked, under any load
    ended = in_shell.slotctl("flip", "cgi", "B", "--confirm-within", "6")
    assert ended.returncode == 0, ended
    assert "slotctl confirm cgi, or slot A serves again" in ended.stdout
    assert in_shell.serves is B
    assert re.search(r"back to slot A in [0-9]+ s, unless", in_shell.done("status"))
    os.kill(guard_pid(in_shell.host), signal.SIGCONT)
    checked(in_shell)
    until(lambda: in_shell.serves is A)
    until(lambda: "the guard went back to slot A" in in_shell.done("status"))
    assert in_shell.host.probe().lock is None
    in_shell.done("--confirm-within=600", "rollback")
    guard = in_shell.host.probe().guard
    assert guard is not None
    assert (guard.state, guard.alive, guard.back) == (GuardState.ARMED, True, A)
    assert guard.left_s is not None
    assert 0 < guard.left_s <= 600
    assert re.search(r"back to slot A in [0-9]+ s, unless", in_shell.done("status"))
    assert "no guard goes back any more" in in_shell.done("confirm")
    assert (in_shell.serves, in_shell.host.probe().guard) == (B, None)


def test_what_a_check_took_back_leaves_no_guard(here: Frontend) -> None:
    truly_booted(here)
    checked(here, serves("one", here))
    assert here.slotctl("rollback", "--confirm-within", "600").returncode == 5
    assert (here.serves, here.host.probe().guard) == (A, None)


def test_a_switch_that_is_killed_amid_its_checks_is_taken_back_by_its_guard(
    here: Frontend,
) -> None:
    truly_booted(here)
    checked(here, CommandCheck(("sleep", "60"), 60))
    here.slotctl("status")  # installs it
    words = ("rollback", "cgi", "--confirm-within", "3")
    argv = ("dash", str(here.folder / "slotctl"), *words)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        until(lambda: here.serves is B)
        child.send_signal(signal.SIGKILL)
    until(lambda: here.serves is A)


def test_a_guard_that_is_faster_than_the_checks_ends_the_switch_with_its_own_status(
    here: Frontend,
) -> None:
    truly_booted(here)
    checked(here, CommandCheck(("sleep", "40"), 60))
    assert here.slotctl("rollback", "cgi", "--confirm-within", "2").returncode == 5
    until(lambda: here.serves is A)


def test_a_check_that_is_only_wanted_is_told(here: Frontend) -> None:
    checked(here, CommandCheck(("false",), 0.5, Level.WANTED))
    out = here.done("rollback")
    assert "before the flip already: `false` failed: exit status 1" in out
    assert "wanted, but `false` failed" in out
    assert "(it failed before the flip too)" in out
    assert here.serves is B


def test_a_service_that_does_not_restart_is_a_reason_to_go_back(here: Frontend) -> None:
    service = Service("web", ("nobody",), ("false",), always=True)
    checked(here, services=(service,))
    ended = here.slotctl("rollback")
    assert (ended.returncode, "not restarted: web: status 1; taken back" in ended.stderr) == (
        5,
        True,
    )
    assert "and then not restarted" in ended.stderr
    assert here.serves is A


def test_who_stays_in_the_old_slot_is_named_and_nothing_is_taken_back(here: Frontend) -> None:
    service = Service("sleep", ("sleep",), ("true",), deadline_s=0.5)
    checked(here, CommandCheck(("true",)), services=(service,), drain_s=0.5)
    here.done("boot")
    with process("sleep", "60", cwd=here.host.slots.slot(A).mount_point) as child:
        ended = here.slotctl("rollback")
    assert (ended.returncode, f"pid {child.pid} sleep" in ended.stderr) == (3, True)
    assert "passed true" in ended.stdout
    assert here.serves is B


def test_where_nothing_is_left_to_go_back_to_a_failing_check_is_a_failure(here: Frontend) -> None:
    Path(here.host.slots.link).unlink()
    (here.records / "cgi.B.mounted").unlink()
    assert here.slotctl("flip", "cgi", "A", "--confirm-within", "9").returncode == 2
    assert here.serves is None
    checked(here, CommandCheck(("false",), 0.5))
    ended = here.slotctl("flip", "cgi", "A")
    assert (ended.returncode, "nothing to go back to" in ended.stderr) == (3, True)
    assert here.serves is A


@pytest.mark.parametrize(
    "words",
    [
        "flip cgi B --confirm-within",
        "flip cgi B --confirm-within 0",
        "rollback --confirm-within=soon",
        "rollback --confirm-within=1000000",
        "status --confirm-within 5",
    ],
)
def test_an_option_that_means_nothing_is_refused(here: Frontend, words: str) -> None:
    ended = here.slotctl(*shlex.split(words))
    assert (ended.returncode, "--confirm-within N" in ended.stderr) == (2, True)
    assert here.serves is A


def test_a_session_that_is_cut_off_amid_a_switch_leaves_a_whole_one(here: Frontend) -> None:
    checked(here, CommandCheck(("sleep", "2"), 9))
    here.slotctl("status")
    argv = ("dash", str(here.folder / "slotctl"), "rollback")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        until(lambda: here.serves is B)
        child.stdout.close()
        child.stderr.close()
        child.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert child.wait(DEADLINE_S) == 0
    assert here.serves is B
