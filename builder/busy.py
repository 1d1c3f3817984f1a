"""Is a package manager at work in a chroot? A build in the middle of it would freeze half of it.

Locks are asked for with F_GETLK, which takes none: a package manager that starts meanwhile is not
disturbed.
"""

import errno
import fcntl
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from slots.errors import Refused

# struct flock: format, and where the type and the pid stand in it.
_FLOCK = ("@hhqqi4x", 0, 4) if sys.platform.startswith("linux") else ("@qqihhi", 3, 2)

LOCKS = {
    "var/lib/dpkg/lock-frontend": "apt or dpkg",
    "var/lib/dpkg/lock": "dpkg",
    "var/lib/apt/lists/lock": "apt",
    "var/cache/apt/archives/lock": "apt",
    "var/db/pkg/local.sqlite": "pkg",
}
JOURNALS = {
    "var/db/pkg/local.sqlite-journal": "pkg",
    "var/db/pkg/local.sqlite-wal": "pkg",
}
_UNFINISHED = re.compile(
    rb"^Package: (\S+)\nStatus: \S+ (?:reinstreq \S+|\S+ half-installed|\S+ half-configured)$",
    re.MULTILINE,
)


def refuse_busy(source: Path) -> None:
    """Refuse a chroot in which a package manager works, or was interrupted."""
    for reason, hint in _reasons(source):
        raise Refused(f"{source}: {reason}", hint=hint)


def _reasons(source: Path) -> Iterator[tuple[str, str]]:
    for name, who in LOCKS.items():
        if holder := _lock_holder(source / name):
            pid = f"process {holder}" if holder > 0 else "a process elsewhere"
            yield f"{who} is at work in it ({pid} holds {name})", "wait until it has ended"
    for name, who in JOURNALS.items():
        if _size_bytes(source / name):
            yield (
                f"{who} is at work in it, or was interrupted ({name} is not empty)",
                f"wait until it has ended, or run `{who} -c {source} check -d`",
            )
    repair = f"wait until it has ended, or run `chroot {source} dpkg --configure -a`"
    if _journal_of_dpkg(source / "var/lib/dpkg/updates"):
        yield "dpkg is at work in it, or was interrupted (var/lib/dpkg/updates)", repair
    if packages := _unfinished(source / "var/lib/dpkg/status"):
        yield f"dpkg left packages half done: {packages}", repair


def _lock_holder(path: Path) -> int:
    """Return the pid that holds a write lock on a file, 0 for none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0  # missing, or unreadable: the scan names that
    layout, type_at, pid_at = _FLOCK
    asked: list[int] = [0, 0, 0, 0, 0, 0][: 5 if type_at == 0 else 6]
    asked[type_at] = fcntl.F_RDLCK
    try:
        answer = struct.unpack(
            layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(layout, *asked))
        )
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP}:
            return 0  # a file system without locks
        raise
    finally:
        os.close(descriptor)
    return 0 if answer[type_at] == fcntl.F_UNLCK else int(answer[pid_at]) or -1


def _size_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _journal_of_dpkg(folder: Path) -> bool:
    """Tell whether dpkg's journal holds entries that are not yet in its status file."""
    try:
        return any(one.name.isdigit() for one in folder.iterdir())
    except OSError:
        return False


def _unfinished(status: Path) -> str:
    try:
        text = status.read_bytes()
    except OSError:
        return ""
    names = [name.decode(errors="replace") for name in _UNFINISHED.findall(text)]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
