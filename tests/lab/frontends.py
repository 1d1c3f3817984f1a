"""The lab: starts and ends a set of real frontends, and reaches into them.

One network namespace per frontend and one for the admin box, joined by a bridge; a disk with two
slot partitions and one for its state on a loop device; a root file system that is the machine's
own, seen through an overlay. Several labs can be up at once, told apart by their prefix.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.lab.disks import MIB, Node, disk_file, lab_loops, start_disk, stop_disks
from tests.lab.files import FRONTEND, write_frontend, write_inventory, write_key
from tests.lab.network import (
    ADMIN,
    NETNS,
    addresses,
    lab_namespaces,
    namespace,
    plug,
    start_network,
    stop_network,
)
from tests.lab.processes import LabError, child_of, listens, until

PROJECT = Path(__file__).resolve().parents[2]
MARKER = ".flipslot-lab"
PACKAGES = {
    "ip": "iproute2",
    "sfdisk": "fdisk",
    "losetup": "mount",
    "partx": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "runsvdir": "runit",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "nginx": "nginx-light",
    "fcgiwrap": "fcgiwrap",
    "busybox": "busybox-static",
    "dash": "dash",
    "perl": "perl-base",
}
CLONE_NEWNET = 0x40000000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What kind of lab. `shells` are root's login shells, repeated over the frontends.

    `disks` may be a folder in memory: then no flush has to wait for what else this machine writes.
    """

    folder: Path
    prefix: str = "flipslot"
    frontends: int = 4
    slot_bytes: int = 1024 * MIB
    shells: tuple[str, ...] = ("/bin/bash",)
    noisy: bool = False
    disks: Path | None = None  # None: in the folder

    @property
    def numbers(self) -> dict[str, int]:
        """The last part of each frontend's address, by its name."""
        return {f"www{n}": 10 + n for n in range(1, self.frontends + 1)}


@dataclass(slots=True)
class Frontend:
    """One running frontend. `pid` is its pid 1 as the machine sees it."""

    name: str
    address: str
    folder: Path
    nodes: tuple[Node, ...]
    pid: int = 0
    launcher: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Lab:
    """A lab that is up."""

    settings: LabSettings
    frontends: dict[str, Frontend] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where fleet.toml and the keys are."""
        return self.settings.folder

    @property
    def fleet(self) -> Path:
        """The lab's inventory."""
        return self.folder / "fleet.toml"

    def in_admin_box(self, *command: str) -> list[str]:
        """Return a command line that runs this command on the admin box."""
        return ["nsenter", f"--net={NETNS / namespace(self.settings.prefix, ADMIN)}", *command]

    def inside(self, name: str, *command: str) -> list[str]:
        """Return a command line that runs this command inside a frontend, past its sshd."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        return ["nsenter", f"--target={self.frontends[name].pid}", *spaces, *command]

    def on(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a shell script inside a frontend."""
        done = subprocess.run(
            self.inside(name, "/bin/dash", "-c", script),
            capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise LabError(f"{name}: {script}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def fetch(self, name: str, path: str, timeout_s: float = 5) -> tuple[int, str]:
        """Ask a frontend over HTTP from the admin box; status and body (0: no answer)."""
        url = f"http://{self.frontends[name].address}{path}"
        return self.from_admin_box(lambda: _get(url, timeout_s))

    def from_admin_box(self, work: Callable[[], Answer]) -> Answer:
        """Call a function whose sockets are the admin box's."""
        return self.from_box(ADMIN, work)

    def from_box(self, name: str, work: Callable[[], Answer]) -> Answer:
        """Call a function whose sockets are this box's, also after the call."""
        net = NETNS / namespace(self.settings.prefix, name)
        with ThreadPoolExecutor(1, initializer=_enter_network, initargs=(net,)) as thread:
            return thread.submit(work).result()

    def plug(self, name: str, *, up: bool) -> None:
        """Pull a frontend's network cable, or put it back."""
        plug(self.settings.prefix, name, up=up)

    def reboot(self, name: str) -> None:
        """End a frontend without a word and boot it again."""
        frontend = self.frontends[name]
        _kill_frontend(frontend)
        start_frontend(self.settings, frontend)
        wait_until_up([frontend])


def _enter_network(net: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with net.open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", str(net))


def _get(url: str, timeout_s: float) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def why_not() -> str:
    """Return why this machine cannot run the lab, or nothing."""
    if sys.platform != "linux":
        return "the lab needs Linux"
    if os.geteuid() != 0:
        return "the lab needs root: it makes namespaces, mounts and loop devices"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted(name for name in PACKAGES if shutil.which(name, path=path) is None)
    if missing:
        packages = sorted({PACKAGES[name] for name in missing})
        return f"the lab lacks {', '.join(missing)} (apt-get install {' '.join(packages)})"
    filesystems = Path("/proc/filesystems").read_text().split()
    needed = [name for name in ("overlay", "ext4", "squashfs") if name not in filesystems]
    if needed:
        return f"the lab needs a kernel with {', '.join(needed)}"
    if not Path("/dev/loop-control").exists():
        return "the lab needs loop devices (/dev/loop-control)"
    return ""


def start(settings: LabSettings) -> Lab:
    """Start a lab. What a lab of the same prefix left behind is ended first."""
    if reason := why_not():
        raise LabError(reason)
    if not re.fullmatch(r"[a-z][a-z0-9]{0,20}", settings.prefix):
        raise LabError(f"{settings.prefix!r}: a lab's prefix is letters and digits")
    stop(settings)
    try:
        _make_folder(settings)
        return _start(settings)
    except BaseException:
        stop(settings)
        raise


def _start(settings: LabSettings) -> Lab:
    numbers = settings.numbers
    public_key = write_key(settings.folder / "id_ed25519")
    start_network(settings.prefix, {ADMIN: 1, **numbers})
    host_keys = {}
    lab = Lab(settings)
    for index, (name, number) in enumerate(numbers.items()):
        folder = settings.folder / name
        shell = settings.shells[index % len(settings.shells)]
        host_keys[name] = write_frontend(
            folder, public_key, shell, noisy=settings.noisy, numbers=numbers
        )
        disk = disk_file(settings.disks or settings.folder, settings.prefix, name)
        nodes = start_disk(disk, settings.slot_bytes)
        lab.frontends[name] = Frontend(name, addresses(number)[0], folder, nodes)
        start_frontend(settings, lab.frontends[name])
    write_inventory(settings.folder, numbers, host_keys)
    wait_until_up(list(lab.frontends.values()))
    _save(lab)
    return lab


def _make_folder(settings: LabSettings) -> None:
    settings.folder.mkdir(parents=True, exist_ok=True)
    if any(settings.folder.iterdir()):
        raise LabError(f"{settings.folder} holds files that no lab wrote (move them away)")
    (settings.folder / MARKER).write_text(settings.prefix + "\n")
    settings.folder.chmod(0o755)


def start_frontend(settings: LabSettings, frontend: Frontend) -> None:
    """Boot one frontend in its own namespaces."""
    net = NETNS / namespace(settings.prefix, frontend.name)
    command = [
        "nsenter", f"--net={net}",
        "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
        "/bin/sh", str(FRONTEND / "boot.sh"), str(frontend.folder), frontend.name,
        frontend.nodes[-1].name, " ".join(map(str, frontend.nodes)),
    ]  # fmt: skip
    with (frontend.folder / "console.log").open("ab") as log:
        frontend.launcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    frontend.pid = 0


def wait_until_up(frontends: Sequence[Frontend]) -> None:
    """Wait until each frontend's sshd and nginx listen."""
    for frontend in frontends:
        try:
            until(f"{frontend.name} boots", partial(_is_up, frontend), within_s=30)
        except LabError as error:
            console = (frontend.folder / "console.log").read_text(errors="replace")
            raise LabError(f"{error}; its console: {console[-1000:].strip()}") from error


def _is_up(frontend: Frontend) -> bool:
    assert frontend.launcher is not None
    if frontend.launcher.poll() is not None:
        console = (frontend.folder / "console.log").read_text(errors="replace")
        raise LabError(f"{frontend.name} ended while booting: {console[-1000:].strip()}")
    frontend.pid = child_of(frontend.launcher.pid) or 0
    return frontend.pid > 0 and listens(frontend.pid, (22, 80))


def _kill_frontend(frontend: Frontend) -> None:
    assert frontend.launcher is not None
    os.kill(frontend.pid, 9)
    frontend.launcher.wait(timeout=20)
    until(f"{frontend.name} ends", lambda: not Path(f"/proc/{frontend.pid}").exists(), within_s=20)


def stop(settings: LabSettings) -> None:
    """End a lab: processes, namespaces, loop devices, files. Nothing there is fine."""
    stop_network(settings.prefix)
    stop_disks(settings.prefix)
    for name in settings.numbers:
        disk_file(settings.disks or settings.folder, settings.prefix, name).unlink(missing_ok=True)
    if (settings.folder / MARKER).exists():
        shutil.rmtree(settings.folder)


def stop_lab(lab: Lab) -> None:
    """End this lab, and wait for the processes that it started."""
    stop(lab.settings)
    for frontend in lab.frontends.values():
        if frontend.launcher is not None:
            frontend.launcher.wait(timeout=20)


def leftovers(prefix: str) -> list[str]:
    """Return what there still is of a lab."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [
        *lab_namespaces(prefix),
        *lab_loops(prefix),
        *(line for line in mounts if f"/{prefix}-" in line),
    ]


def _save(lab: Lab) -> None:
    pids = {name: frontend.pid for name, frontend in lab.frontends.items()}
    (lab.folder / "state.json").write_text(json.dumps(pids) + "\n")


def is_up(settings: LabSettings) -> bool:
    """Tell whether a lab of these settings runs already."""
    try:
        pids: Mapping[str, int] = json.loads((settings.folder / "state.json").read_text())
    except OSError:
        return False
    return set(pids) == set(settings.numbers) and all(
        listens(pid, (22, 80)) for pid in pids.values()
    )
