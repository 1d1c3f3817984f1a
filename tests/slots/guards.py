"""Frontends with a guard at work: armed, waited for, ended."""

import gzip
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from slots import calls, scripts
from slots.actions import Arm, Drain, Flip, Mount, Restart
from slots.answers import Answer
from slots.sandbox import Sandbox
from slots.slot import GuardState, Service, SlotName
from tests.slots import images
from tests.slots.hosts import Host, sandbox_slots, write

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 1 << 20
PATIENCE_S = 60.0


def frontend(folder: Path, shell: str = "dash", services: tuple[Service, ...] = ()) -> Host:
    folder.mkdir(parents=True)
    slots = replace(sandbox_slots(folder, SLOT_BYTES), services=services)
    return Host(Sandbox(), slots, shell=shell)


def ready(folder: Path, host: Host) -> Host:
    """Serve one image from A, and mount another in B."""
    one, two = images.squashfs(folder, "one"), images.squashfs(folder, "two")
    with host.lock() as token:
        for name, image in ((A, one), (B, two)):
            write(host, name, image, token)
            assert host.do(Mount(name, "squashfs"), token).status == 0
        assert host.do(Flip(A), token).status == 0
    return host


def arm(host: Host, token: str, seconds: int, back_from: SlotName = B) -> Answer:
    """Arm with a guard that runs under the host's shell."""
    leave = (Restart(back_from, host.slots.services), Drain(back_from, host.slots.services, 2))
    action = Arm(back_from, "cgi-2", seconds, leave)
    payload = scripts.guard_payload(host.platform, host.slots, action, token)
    own_shell = gzip.compress(gzip.decompress(payload).replace(b"/bin/sh", host.shell.encode()))
    call = calls.call(host.platform, action, token)
    return host.run(call.replace("/bin/sh", host.shell), own_shell)


def guard_pid(host: Host) -> int:
    lines = Path(host.slots.records, "cgi.guardian").read_text().splitlines()
    return int(dict(line.split("=", 1) for line in lines)["pid"])


def end_guard(host: Host) -> None:
    with suppress(OSError):
        os.kill(guard_pid(host), signal.SIGKILL)


@contextmanager
def waiting(host: Host) -> Iterator[None]:
    """Hold the guard: under load its time may be up before the test has done the rest."""
    os.kill(guard_pid(host), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(guard_pid(host), signal.SIGCONT)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fired(host: Host) -> bool:
    guard = host.probe().guard
    return guard is not None and guard.state is GuardState.FIRED


def unlocked(host: Host) -> bool:
    """Whether nobody is at work: a guard lets the lock go once it has said what it did."""
    return host.probe().lock is None


def ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
