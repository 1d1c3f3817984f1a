"""The frontends' disks: sparse files with a GPT, on loop devices, their partitions added by hand.

The kernel may lack a GPT parser, so `partx` adds the partitions; no udev makes links to them.
"""

import contextlib
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab.processes import LabError, tool, until

MIB = 1 << 20
STATE_BYTES = 256 * MIB  # room for a pack of a large upgrade; the file is sparse
SLOT_LABELS = ("cgiA", "cgiB")
LABELS = (*SLOT_LABELS, "state")
SUFFIX = ".disk"


@dataclass(frozen=True, slots=True)
class Node:
    """One block device of a disk. `label` is the partition's name, empty for the whole disk."""

    name: str
    major: int
    minor: int
    label: str

    def __str__(self) -> str:
        return f"{self.name}:{self.major}:{self.minor}:{self.label}"


def disk_file(folder: Path, prefix: str, name: str) -> Path:
    """Return where a frontend's disk lies; its name tells whose it is in the loop table."""
    return folder / f"{prefix}-{name}{SUFFIX}"


def start_disk(file: Path, slot_bytes: int) -> tuple[Node, ...]:
    """Make a disk with two slots and a state partition; return the disk and its partitions."""
    with file.open("xb") as disk:
        disk.truncate(2 * slot_bytes + STATE_BYTES + 4 * MIB)
    table = ["label: gpt"]
    table += [f'size={slot_bytes // 512}, type=linux, name="{label}"' for label in SLOT_LABELS]
    table += [f'size={STATE_BYTES // 512}, type=linux, name="{LABELS[-1]}"']
    tool(
        "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(file),
        stdin="\n".join(table) + "\n",
    )  # fmt: skip
    loop = tool("losetup", "--find", "--show", str(file)).strip()
    _drop_partitions(loop)  # a lab that was cut off may have left some to whoever comes next
    tool("partx", "--add", "--nr", f"1:{len(LABELS)}", loop)
    base = Path(loop).name
    nodes = [_node(base, ""), *(_node(f"{base}p{n}", label) for n, label in enumerate(LABELS, 1))]
    state = Path("/dev") / nodes[-1].name
    if not stat.S_ISBLK(state.stat().st_mode):
        raise LabError(f"{state} is no block device (does this machine's /dev follow the kernel?)")
    tool("mkfs.ext4", "-q", "-F", str(state))
    return tuple(nodes)


def _node(name: str, label: str) -> Node:
    major, _, minor = Path(f"/sys/class/block/{name}/dev").read_text().strip().partition(":")
    return Node(name, int(major), int(minor), label)


def stop_disks(prefix: str) -> None:
    """Detach every loop device whose file is a disk of this lab, even a file that is gone."""
    for loop in lab_loops(prefix):
        # In this order: a detached loop device would keep its partitions.
        until(f"the partitions of {loop} go", partial(_drop_partitions, loop), within_s=20)
        until(f"{loop} is free", partial(_detach, prefix, loop), within_s=20)


def _drop_partitions(loop: str) -> bool:
    """Delete the partitions of a loop device; False while a mount that is going away holds one."""
    disk = Path("/sys/class/block") / Path(loop).name
    if any(disk.glob(f"{disk.name}p*")):
        with contextlib.suppress(LabError):
            tool("partx", "--delete", loop)
    return not any(disk.glob(f"{disk.name}p*"))


def lab_loops(prefix: str) -> list[str]:
    """Return the loop devices of this lab."""
    listed = tool("losetup", "--list", "--noheadings", "--raw", "-O", "NAME,BACK-FILE")
    rows = (line.partition(" ")[::2] for line in listed.splitlines())
    return [
        loop
        for loop, back in rows
        if (
            base := Path(back.removesuffix(" (deleted)").removesuffix("\\x20(deleted)")).name
        ).startswith(f"{prefix}-")
        and base.endswith(SUFFIX)
    ]


def _detach(prefix: str, loop: str) -> bool:
    with contextlib.suppress(LabError):  # still held by a mount that is going away
        tool("losetup", "--detach", loop)
    return loop not in lab_loops(prefix)
