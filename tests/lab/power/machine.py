"""The machine: QEMU on a disk whose cache is lost with the power."""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.disks import MIB
from tests.lab.heard import Heard
from tests.lab.power.guest import Image
from tests.lab.processes import LabError, tool, until

SECTOR_BYTES = 512
SLOT_BYTES, STATE_BYTES = 8 * MIB, 24 * MIB
STARTS = {"A": MIB, "B": MIB + SLOT_BYTES, "state": MIB + 2 * SLOT_BYTES}
BOOT_TIMEOUT_S = 180.0
MAGIC = b"hsqs"


def make_disk(path: Path) -> None:
    """Make a disk with two empty slots and a state partition."""
    with path.open("xb") as disk:
        disk.truncate(STARTS["state"] + STATE_BYTES + MIB)
    sizes = {"A": SLOT_BYTES, "B": SLOT_BYTES, "state": STATE_BYTES}
    table = ["label: gpt"] + [
        f"start={STARTS[name] // SECTOR_BYTES}, size={size // SECTOR_BYTES}, type=linux"
        for name, size in sizes.items()
    ]
    tool("sfdisk", "--quiet", str(path), stdin="\n".join(table) + "\n")
    options = f"offset={STARTS['state']}"
    tool(
        "mkfs.ext4", "-q", "-F", "-E", options, "-J", "size=4", str(path), f"{STATE_BYTES // 1024}k"
    )


def slot_image(disk: Path, slot: str, images: Mapping[str, Image]) -> str:
    """Return the version in a slot, empty if nothing would mount it; LabError: half of one."""
    with disk.open("rb") as file:
        file.seek(STARTS[slot])
        data = file.read(SLOT_BYTES)
    if not data.startswith(MAGIC):
        return ""
    for version, image in images.items():
        size = image.artefact.size_bytes
        if hashlib.sha256(data[:size]).hexdigest() == image.artefact.sha256:
            return version
    raise LabError(f"slot {slot} would be mounted, and holds no whole image")


def check_state(disk: Path, scratch: Path) -> None:
    """Let e2fsck replay the journal in a copy of the state partition, as a boot would."""
    with disk.open("rb") as file:
        file.seek(STARTS["state"])
        scratch.write_bytes(file.read(STATE_BYTES))
    done = subprocess.run(
        ["e2fsck", "-f", "-p", str(scratch)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    scratch.unlink()
    if done.returncode not in {0, 1}:
        raise LabError(f"the state is not clean: e2fsck {done.returncode}: {done.stdout}")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is off."""

    folder: Path
    disk: Path
    kernel: Path
    initramfs: Path

    @contextmanager
    def boot(self, **words: object) -> Iterator["Boot"]:
        """Switch it on; what still runs at the end loses its power."""
        socket = self.folder / "disk.socket"
        socket.unlink(missing_ok=True)
        cache = self.folder / "cache"  # of the drive: lost with the power
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        drive = subprocess.Popen(
            ["nbdkit", "-f", "-U", str(socket), "--filter=cache", "file", str(self.disk),
             "cache=writeback", "cache-min-block-size=4096"],
            env={**os.environ, "TMPDIR": str(cache)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        machine = None
        try:
            until("the disk is served", socket.exists, within_s=20)
            machine = Boot(drive, self._start(socket, words))
            yield machine
        finally:
            if machine is None:
                drive.kill()
                drive.wait()
            else:
                machine.cut()

    def _start(self, socket: Path, words: Mapping[str, object]) -> subprocess.Popen[str]:
        line = " ".join(f"{name}={value}" for name, value in words.items())
        return subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,tb-size=128", "-cpu", "qemu64", "-M", "q35",
             "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-serial", "stdio",
             "-drive", f"file=nbd+unix:///?socket={socket},format=raw,if=virtio,cache=none",
             "-kernel", str(self.kernel), "-initrd", str(self.initramfs),
             "-append", f"console=ttyS0 quiet panic=-1 random.trust_cpu=on {line}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip


class Boot:
    """A machine that is on; what it says is read as it comes."""

    def __init__(self, drive: subprocess.Popen[bytes], machine: subprocess.Popen[str]) -> None:
        self._drive, self._machine = drive, machine
        self._heard = Heard(machine.stdout)

    @property
    def console(self) -> list[str]:
        """All that it has written so far."""
        return [line.rstrip() for line in self._heard.lines]

    @property
    def said(self) -> list[str]:
        """What the machine told the test so far."""
        return [line.partition("@ ")[2] for line in self.console if "@ " in line]

    def step_seconds(self) -> dict[str, float]:
        """Return how long each step took at most."""
        began: dict[str, float] = {}
        longest: dict[str, float] = {}
        for line, moment in zip(self.console, self._heard.at, strict=True):
            match line.partition("@ ")[2].split():
                case ["begin", step]:
                    began[step] = moment
                case ["done", step]:
                    longest[step] = max(longest.get(step, 0.0), moment - began[step])
                case _:
                    pass
        return longest

    def wait(self, line: str, times: int = 1) -> None:
        """Wait until the machine has said this so often; LabError if it ends without it."""
        if not self._heard.wait_for(lambda: self.said.count(line) >= times, BOOT_TIMEOUT_S):
            raise LabError(f"no {line!r}; the console: " + "\n".join(self.console[-40:]))

    def cut(self) -> list[str]:
        """Cut the power: the drive's cache and the memory go. Return what was said."""
        self._machine.send_signal(signal.SIGSTOP)  # or it would see its disk go, and tell of it
        self._drive.kill()
        self._machine.kill()
        self._drive.wait()
        self._machine.wait()
        self._heard.close()
        return self.said
