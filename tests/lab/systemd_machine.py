"""A machine whose pid 1 is a real systemd: booted, shut down, or cut off as by a loss of power."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slots.linux import Linux
from slots.slot import SlotSet
from tests.lab.processes import LabError, child_of, until
from tests.lab.real_chroot import debootstrap
from tests.slots.hosts import Host

CACHE = Path("/var/tmp/flipslot-systemd")
ENVIRONMENT = "FLIPSLOT_SYSTEMD"
BOOT_SCRIPT = Path(__file__).parent / "frontend/systemd.sh"
BOOT_TIMEOUT_S = 240.0
NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--net")
UP = {"running", "degraded"}


def chroot() -> Path:
    """Return the Debian that the environment names, the cached one, or a new one."""
    if "cgroup2" not in Path("/proc/filesystems").read_text():
        raise LabError("systemd needs cgroup2, which this kernel lacks")
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    if not CACHE.is_dir():
        debootstrap(CACHE, "systemd-sysv")
    return CACHE


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is off; its slots are loop devices of this one."""

    chroot: Path
    folder: Path
    slots: SlotSet

    @contextmanager
    def boot(self) -> Iterator["Boot"]:
        """Switch it on and wait until systemd is done; what still runs at the end is cut off."""
        nodes = " ".join(_node(Path(one.device)) for one in self.slots.slots)
        argv = ("unshare", *NAMESPACES, "--fork", "--kill-child", "sh", str(BOOT_SCRIPT))
        child = subprocess.Popen(
            (*argv, str(self.chroot), str(self.folder), nodes), start_new_session=True
        )
        try:
            boot = Boot(child, Host(Linux(), self.slots))
            boot.wait()
            yield boot
        finally:
            child.kill()
            child.wait()


class Boot:
    """A machine that is on."""

    def __init__(self, child: "subprocess.Popen[bytes]", host: Host) -> None:
        self._child = child
        until("systemd starts", lambda: child_of(child.pid), within_s=BOOT_TIMEOUT_S)
        self._first = child_of(child.pid) or 0
        host.before = ("nsenter", "--target", str(self._first), *NAMESPACES)
        self.host = host

    def wait(self) -> None:
        """Wait until everything that is started at boot was started."""
        argv = ("systemctl", "is-system-running")
        until("systemd is done", lambda: self._said(argv).strip() in UP, within_s=BOOT_TIMEOUT_S)

    def run(self, *argv: str) -> str:
        """Run a command there, which must succeed."""
        done = self._ended(argv)
        if done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def log(self, unit: str) -> str:
        """Return what a unit said in this boot."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def shut_down(self) -> None:
        """Let systemd stop everything in its order."""
        self._ended(("systemctl", "poweroff"))
        self._child.wait(BOOT_TIMEOUT_S)

    def cut(self) -> None:
        """Take everything away at once; nothing is told that it is to stop."""
        os.kill(self._first, signal.SIGKILL)
        self._child.wait(BOOT_TIMEOUT_S)

    def _said(self, argv: tuple[str, ...]) -> str:
        return self._ended(argv).stdout

    def _ended(self, argv: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (*self.host.before, *argv), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=BOOT_TIMEOUT_S,
        )  # fmt: skip


def _node(device: Path) -> str:
    number = device.stat().st_rdev
    return f"{device.name}:{os.major(number)}:{os.minor(number)}"
