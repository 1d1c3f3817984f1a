"""Who uses a slot on FreeBSD, and whose lock still holds."""

import getpass

import pytest

from slots import calls
from slots.actions import Drain, Restart, Unmount
from slots.rules import User
from slots.slot import Service
from tests.slots.freebsd.frontend import A, B, World, serve, uzip
from tests.slots.hosts import Host, process


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
