"""Directories on the disk as data, read with os alone: what images are held against."""

import hashlib
import os
import socket
import stat
from pathlib import Path

Snapshot = dict[bytes, dict[str, object]]


def snapshot(root: Path) -> Snapshot:
    """Describe every entry below a directory, and the directory itself."""
    top = os.fsencode(root)
    found: Snapshot = {}
    inodes: dict[int, bytes] = {}
    for folder, folders, files in os.walk(top):
        for path in [folder, *(folder + b"/" + name for name in sorted(folders + files))]:
            name = path[len(top) :]
            found.setdefault(name, _entry(path, name, inodes))
    return found


def _entry(path: bytes, name: bytes, inodes: dict[int, bytes]) -> dict[str, object]:
    status = os.lstat(path)
    entry: dict[str, object] = {
        "type": stat.S_IFMT(status.st_mode),
        "mode": stat.S_IMODE(status.st_mode),
        "mtime": int(status.st_mtime),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
    if stat.S_ISREG(status.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        if status.st_nlink > 1:
            entry["first"] = inodes.setdefault(status.st_ino, name)
            entry["links"] = status.st_nlink
    elif stat.S_ISLNK(status.st_mode):
        entry["target"] = os.readlink(path)  # noqa: PTH115 - bytes
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        entry["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry


def make_socket(folder: Path, name: str) -> None:
    """Leave a socket in a folder."""
    here = Path.cwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(name)
    finally:
        os.chdir(here)
