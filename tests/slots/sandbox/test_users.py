"""Who uses a slot of a sandbox, and how the rules deal with them."""

import getpass
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from slots import answers, calls
from slots.actions import Drain, Restart, Unmount
from slots.errors import Refused
from slots.rules import User
from slots.slot import Service, Treatment, Uncovered
from tests.slots.guards import until
from tests.slots.hosts import Host, process
from tests.slots.sandbox.frontend import A, B, mounted_active


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
