"""Places that a measure may change: copies of a tree, and folders in memory."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

TMPFS_SHARE = "size=80%,nr_inodes=0"


@contextlib.contextmanager
def changeable(tree: Path, folder: Path) -> Iterator[Path]:
    """Give a copy of a tree: an overlay as root, which costs nothing, else a real one."""
    with _emptied(folder):
        if os.geteuid() == 0:
            with _overlay(tree, folder) as mounted:
                yield mounted
        else:
            copy(tree, folder / "copy")
            yield folder / "copy"


@contextlib.contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Give an empty folder: in memory as root, else on the disk."""
    with _emptied(folder):
        if os.geteuid() == 0:
            with _mounted(folder, "-t", "tmpfs", "-o", TMPFS_SHARE, "tmpfs"):
                yield folder
        else:
            yield folder


@contextlib.contextmanager
def copied(tree: Path, folder: Path) -> Iterator[Path]:
    """Give a real copy of a tree, with inodes that keep their numbers."""
    with _emptied(folder):
        copy(tree, folder / "copy")
        yield folder / "copy"


def copy(tree: Path, to: Path) -> None:
    """Copy a tree with owners, times and links."""
    subprocess.run(["cp", "-a", "--reflink=auto", f"{tree}/.", f"{to}/"], check=True)


@contextlib.contextmanager
def _overlay(tree: Path, folder: Path) -> Iterator[Path]:
    parts = {name: folder / name for name in ("upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    # redirect_dir: a directory of the lower tree can be renamed, as on a disk.
    options = f"lowerdir={tree},upperdir={parts['upper']},workdir={parts['work']},redirect_dir=on"
    with _mounted(parts["merged"], "-t", "overlay", "-o", options, "overlay"):
        yield parts["merged"]


@contextlib.contextmanager
def _mounted(at: Path, *arguments: str) -> Iterator[None]:
    subprocess.run(["mount", *arguments, str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder)
