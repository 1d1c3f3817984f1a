"""The guard, slotctl and the boot on FreeBSD."""

import os
from dataclasses import replace
from pathlib import Path

from slots import calls, scripts
from slots.actions import Arm, Confirm, Drain, Flip, Mount, Restart
from slots.checks import CommandCheck
from slots.slot import GuardState, InnerMount, MountKind, Service, active
from tests.slots.freebsd.frontend import A, B, World, serve, uzip
from tests.slots.guards import fired, until, waiting
from tests.slots.hosts import Host, process, write


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
                until(lambda: fired(host))
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
