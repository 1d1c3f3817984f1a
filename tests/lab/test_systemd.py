"""The boot hook under a real systemd as pid 1: shut down, cut off, found armed, found broken."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slots import hooks
from slots.actions import Flip, Mount
from slots.hooks import HOOKS, File
from slots.slot import GuardState, Service, Slot, SlotName, SlotSet, active
from tests.lab.processes import LabError
from tests.lab.systemd_machine import Boot, Machine, chroot
from tests.slots import images
from tests.slots.hosts import Host, write

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loop devices and namespaces"),
    pytest.mark.skipif(shutil.which("losetup") is None, reason="needs losetup (util-linux)"),
]
A, B = SlotName.A, SlotName.B
SLOT_BYTES = 4 << 20
WEB = """\
[Unit]
Description=serves the slot
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat /webroot/cgi/version >>/var/db/served || echo nothing >>/var/db/served'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    try:
        debian = chroot()
    except LabError as error:
        pytest.skip(f"no systemd to boot: {error}")
    devices: list[str] = []
    try:
        for name in "ab":
            (tmp_path / name).write_bytes(bytes(SLOT_BYTES))
            argv = ("losetup", "--find", "--show", str(tmp_path / name))
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no loop device: {done.stderr.strip()}")
            devices.append(done.stdout.strip())
        slots = SlotSet(
            "cgi",
            "/webroot/cgi",
            (Slot(A, devices[0], "/webroot/cgi1"), Slot(B, devices[1], "/webroot/cgi2")),
            services=(Service("web", ("web",)),),
        )
        yield Machine(debian, tmp_path, slots)
    finally:
        for device in devices:
            subprocess.run(("losetup", "--detach", device), check=True)


def provisioned(boot: Boot) -> None:
    """Install slotctl and the unit by the verbs of `deploy provision`, and a service."""
    host = boot.host
    slotctl = hooks.slotctl_file(host.platform, host.slots.records, (host.slots,))
    (hook,) = (one for one in HOOKS["Linux"] if one.system == "systemd")
    unit = File(hook.path, hook.mode, hook.render(slotctl.path, (host.slots,)))
    web = File("/etc/systemd/system/web.service", 0o644, WEB)
    with host.lock() as token:
        for file in (slotctl, unit, web):
            answer = host.run(hooks.install_call(host.platform, token, file), file.data)
            assert answer.status == 0, answer
        answer = host.run(hooks.enable_call(host.platform, token))
        assert answer.status == 0, answer
    boot.run("systemctl", "enable", "web.service")
    found = hooks.found(host.run(hooks.installed_call(host.platform, (), (unit.path,))), 0, 1)
    assert (found.system, found.enabled) == ("systemd", True)


def filled(host: Host, folder: Path, name: SlotName, version: str) -> None:
    with host.lock() as token:
        write(host, name, images.squashfs(folder, version), token)
        answer = host.do(Mount(name, "squashfs"), token)
        assert answer.status == 0, answer


def served(machine: Machine) -> list[str]:
    """Return what served, boot by boot, when the service was started."""
    return (machine.folder / "state/db/served").read_text().split()


def test_systemd_has_the_hook_serve_before_the_services_whatever_happened(
    machine: Machine, tmp_path: Path
) -> None:
    records = machine.folder / "state/db/slots"
    with machine.boot() as boot:
        provisioned(boot)
        filled(boot.host, tmp_path, A, "one")
        with boot.host.lock() as token:
            assert boot.host.do(Flip(A), token).status == 0
        boot.run("systemctl", "start", "flipslot.service")
        boot.shut_down()
    assert (records / "cgi.A.kept").exists(), "the clean stop says what need not be read again"

    with machine.boot() as boot:
        assert "is proven" not in boot.log("flipslot")
        assert "serves slot A" in boot.log("flipslot")
        assert served(machine) == ["one"]
        filled(boot.host, tmp_path, B, "two")
        armed = boot.run(slotctl_of(boot), "flip", "cgi", "B", "--confirm-within", "3600")
        assert "or slot A serves again" in armed
        assert active(boot.host.slots, boot.host.probe()) is B
        boot.cut()

    with machine.boot() as boot:
        log = boot.log("flipslot")
        assert "slot B is proven" in log  # filled since the last clean stop
        assert "slot A is proven" not in log
        assert "a switch that nobody confirmed was cut: slot A is to serve" in log
        state = boot.host.probe()
        assert active(boot.host.slots, state) is A
        assert state.guard is not None
        assert (state.guard.state, state.guard.error) == (GuardState.FIRED, "")
        assert served(machine) == ["one", "one"]
        boot.run(slotctl_of(boot), "flip", "cgi", "B")
        boot.shut_down()

    with machine.boot() as boot:
        assert served(machine) == ["one", "one", "two"]
        assert "is proven" not in boot.log("flipslot")
        boot.cut()

    for slot in machine.slots.slots:
        Path(slot.device).write_bytes(bytes(1 << 17))
    with machine.boot() as boot:
        assert "no slot serves: slot B is empty; slot A is empty" in boot.log("flipslot")
        assert "flipslot.service" in boot.run("systemctl", "list-units", "--failed")
        assert served(machine)[-1] == "nothing"
        note = boot.host.probe().boot
        assert note is not None
        assert note.text.startswith("no slot serves")


def slotctl_of(boot: Boot) -> str:
    """Return where slotctl is installed."""
    return boot.host.platform.slotctl
