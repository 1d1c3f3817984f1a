# os.path starts faster than pathlib, and each command is a start of Python.
# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH110, PTH112, PTH113, PTH116, PTH118, PTH123, PTH202, PTH208
"""Stand-ins of FreeBSD's commands: they accept what FreeBSD does and refuse all else, loudly.

The world is the folder $STANDIN_WORLD: `state`, `log` (what was done, in order), `labels`,
`modules/`, `sysctl/`, and `dev/`, whose files are the disks; paths under /dev/ lead there.
The commands that keep no state are sh, in freebsd_sh/: each of these costs a start of Python.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing, pathlib, json and contextlib would triple the time of a start
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn

UNSUPPORTED = 64
ERRNO = {
    "EBUSY": "Device busy",
    "ENXIO": "Device not configured",
    "ENOENT": "No such file or directory",
    "EINVAL": "Invalid argument",
}
SECTOR = 512
MEMORY_TYPES = (
    "devfs",
    "tmpfs",
    "nullfs",
    "nfs",
)  # nfs is beyond the contracts, needed all the same


def unsupported(*what: str) -> NoReturn:
    """End a use that FreeBSD would not take, or that no contract describes."""
    sys.stderr.write(f"stand-in: unsupported: {' '.join(what)}\n")
    sys.exit(UNSUPPORTED)


def die(text: str, status: int = 1) -> NoReturn:
    """End as the command would."""
    sys.stderr.write(text + "\n")
    sys.exit(status)


class World:
    """What the host is like, between one command and the next."""

    def __init__(self, folder: str, state: dict[str, Any]) -> None:
        self.folder = folder
        self.state = state

    def has_uzip(self) -> bool:
        return os.path.exists(f"{self.folder}/modules/g_uzip")

    def labels(self) -> dict[str, str]:
        """Return the provider under each label."""
        lines = text(f"{self.folder}/labels").splitlines()
        return {line.split()[0]: line.split()[2] for line in lines}

    def disk(self, path: str) -> str | None:
        """Return the file behind a device node, or None if there is no such node."""
        name = path.removeprefix("/dev/")
        if not path.startswith("/dev/") or name.endswith(".uzip"):
            return None
        file = f"{self.folder}/dev/{self.labels().get(name, name)}"
        return file if os.path.isfile(file) else None

    def log(self, *words: str) -> None:
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            log.write("\t".join(words) + "\n")

    def number(self, path: str) -> int:
        """Return a device number: one for each node."""
        return zlib.crc32(path.encode()) & 0xFFFFFF

    def opened_for_writing(self, path: str) -> None:
        """Spoil what GEOM built on this provider; a mount of it loses its device."""
        for alias in self.aliases(path):
            self.state["tasted"].pop(alias, None)
            for mount in self.state["mounts"]:
                if mount["special"] == f"{alias}.uzip":
                    mount["spoiled"] = True

    def closed(self, path: str) -> None:
        for alias in self.aliases(path):
            self.state["tasted"][alias] = time.time() + self.state["taste_delay_s"]

    def aliases(self, path: str) -> list[str]:
        name = path.removeprefix("/dev/")
        under = self.labels().get(name, name)
        labels = [label for label, on in self.labels().items() if on == under]
        return [f"/dev/{one}" for one in (under, *labels)]

    def uzip_size(self, path: str) -> int | None:
        """Return the size of a .uzip node, or None if there is none (yet)."""
        disk = path.removesuffix(".uzip")
        file = self.disk(disk)
        if not path.endswith(".uzip") or file is None or not self.has_uzip():
            return None
        if self.state["tasted"].get(disk, time.time() + 1) > time.time():
            return None
        with open(file, "rb") as stream:
            head = stream.read(SECTOR)
        if not head.startswith(b"#!/bin/sh\n"):
            return None
        return int.from_bytes(head[128:132], "big") * int.from_bytes(head[132:136], "big")


class world:  # noqa: N801 - used as a function: `with world() as here`
    """Hold the world: one command at a time."""

    def __enter__(self) -> World:
        folder = os.environ["STANDIN_WORLD"]
        self.lock = os.open(f"{folder}/state.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.held = World(folder, eval(text(f"{folder}/state")))  # noqa: S307 - our own repr
        return self.held

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        state = f"{self.held.folder}/state"
        with open(f"{state}.partial", "w", encoding="utf-8") as new:
            new.write(repr(self.held.state))
        os.rename(f"{state}.partial", state)
        os.close(self.lock)


def text(path: str) -> str:
    """Return what a file holds."""
    with open(path, encoding="utf-8") as file:
        return file.read()


# --- mounts ------------------------------------------------------------------------------------


def mount(argv: list[str]) -> None:
    match argv:
        case ["-p"]:
            with world() as here:
                for one in here.state["mounts"]:
                    sys.stdout.write(
                        f"{one['special']}\t{one['node']}\t{one['type']}\t{one['opts']}\t0 0\n"
                    )
        case ["-t", "cd9660", "-o", opts, special, node]:
            mount_cd9660(opts, special, node)
        case ["-t", kind, "-o", opts, special, node] if kind in MEMORY_TYPES:
            mount_memory(kind, opts, special, node)
        case ["-t", "devfs", special, node]:
            mount_memory("devfs", "rw", special, node)
        case _:
            unsupported("mount", *argv)


def real_node(node: str) -> str:
    real = os.path.realpath(node)
    if not os.path.isdir(real):
        die(f"mount: {node}: {ERRNO['ENOENT']}")
    return real


def mount_cd9660(opts: str, special: str, node: str) -> None:
    real = real_node(node)
    if "ro" not in opts.split(","):
        unsupported("mount -t cd9660 -o", opts)
    with world() as here:
        disk = here.disk(special.removesuffix(".uzip"))
        if disk is None or (special.endswith(".uzip") and here.uzip_size(special) is None):
            die(f"mount_cd9660: {special}: {ERRNO['ENOENT']}")
        if any(one["special"] == special for one in here.state["mounts"]):
            die(f"mount_cd9660: {special}: {ERRNO['EBUSY']}")
        with open(disk, "rb") as stream:
            head = stream.read(40_000)
        if not special.endswith(".uzip") and head[32769:32774] != b"CD001":
            die(f"mount_cd9660: {special}: {ERRNO['EINVAL']}")
        for folder in here.state["image_folders"]:
            os.makedirs(f"{real}/{folder}", exist_ok=True)
        here.state["mounts"].append(
            {"special": special, "node": real, "type": "cd9660", "opts": opts, "spoiled": False}
        )
        here.log("mount", special, real)


def mount_memory(kind: str, opts: str, special: str, node: str) -> None:
    real = real_node(node)
    if kind == "tmpfs" and "size=no" in opts:
        die(f"mount: {special}: {ERRNO['EINVAL']}")
    with world() as here:
        here.state["mounts"].append(
            {"special": special, "node": real, "type": kind, "opts": opts, "spoiled": False}
        )
        here.log("mount", kind, real)
        if kind == "devfs":
            for name in ("null", "mem"):
                open(f"{real}/{name}", "w", encoding="utf-8").close()


def umount(argv: list[str]) -> None:
    match argv:
        case [operand] if not operand.startswith("-"):
            umount_one(operand)
        case _:
            unsupported("umount", *argv)


def umount_one(operand: str) -> None:
    real = os.path.realpath(operand)
    with world() as here:
        mounts = here.state["mounts"]
        found = next((one for one in reversed(mounts) if one["node"] == real), None)
        if found is None:
            if not os.path.exists(real):
                die(
                    f"umount: {operand}: statfs: {ERRNO['ENOENT']}\n"
                    f"umount: {operand}: unknown file system"
                )
            die(f"umount: {operand}: not a file system root directory")
        inside = any(one["node"].startswith(real + "/") for one in mounts)
        if inside or any(user["node"] == real for user in here.state["users"]):
            die(f"umount: unmount of {real} failed: {ERRNO['EBUSY']}")
        mounts.remove(found)
        here.log("umount", real)
    for root, folders, files in os.walk(real, topdown=False):
        for name in files:
            os.unlink(os.path.join(root, name))
        for name in folders:
            os.rmdir(os.path.join(root, name))


def devfs(argv: list[str]) -> None:
    match argv:
        case ["-m", node, "ruleset", "4"]:
            with world() as here:
                here.log("devfs ruleset 4", node)
        case ["-m", node, "rule", "applyset"]:
            with world() as here:
                if f"devfs ruleset 4\t{node}\n" not in text(f"{here.folder}/log"):
                    unsupported("devfs applyset before ruleset")
            os.unlink(f"{node}/mem")
        case _:
            unsupported("devfs", *argv)


# --- dd ----------------------------------------------------------------------------------------

DD_OPERANDS = frozenset(
    [
        "bs",
        "cbs",
        "conv",
        "count",
        "files",
        "fillchar",
        "ibs",
        "if",
        "iflag",
        "iseek",
        "obs",
        "of",
        "oflag",
        "oseek",
        "seek",
        "skip",
        "speed",
        "status",
    ]
)
DD_CONV = frozenset(["notrunc", "noerror", "sync", "osync", "fsync", "fdatasync", "sparse"])


def dd(argv: list[str]) -> None:
    operands = {}
    for word in argv:
        name, equals, value = word.partition("=")
        if name not in DD_OPERANDS or not equals:
            die(f"dd: unknown operand {name}")
        operands[name] = value
    conv = frozenset(filter(None, operands.get("conv", "").split(",")))
    iflag = frozenset(filter(None, operands.get("iflag", "").split(",")))
    if not conv <= DD_CONV:
        die(f"dd: unknown conversion {','.join(conv - DD_CONV)}")
    if not iflag <= {"direct", "fullblock"}:
        die("dd: unknown iflag " + ",".join(iflag))
    if "osync" in conv and "bs" in operands:
        die("dd: bs and osync: illegal argument combination")
    Copy(operands, conv, iflag).run()


def dd_number(text: str) -> int:
    units = {"b": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    unit = units.get(text[-1:].lower())
    return int(text[:-1]) * unit if unit else int(text)


class Copy:
    """One run of dd."""

    def __init__(
        self, operands: dict[str, str], conv: frozenset[str], iflag: frozenset[str]
    ) -> None:
        self.conv, self.iflag = conv, iflag
        both = operands.get("bs", "512")
        self.ibs = dd_number(operands.get("bs") or operands.get("ibs", both))
        self.obs = dd_number(operands.get("bs") or operands.get("obs", both))
        self.reblock = not ("bs" in operands and not conv)
        self.count = int(operands["count"]) if "count" in operands else None
        self.skip = int(operands.get("skip", operands.get("iseek", "0"))) * self.ibs
        self.seek = int(operands.get("seek", operands.get("oseek", "0"))) * self.obs
        self.source, self.target = operands.get("if"), operands.get("of")
        self.device: str | None = None
        self.full = self.part = self.out_full = self.out_part = self.bytes = 0

    def run(self) -> None:
        try:
            source = self.open_source()
            target = self.open_target()
            self.copy(source, target)
            if self.conv & {"fsync", "fdatasync"}:
                os.fsync(target)
        finally:
            if self.device is not None and self.target is not None:
                with world() as here:
                    here.closed(self.target)
        self.report()

    def report(self) -> None:
        sys.stderr.write(
            f"{self.full}+{self.part} records in\n{self.out_full}+{self.out_part} records out\n"
            f"{self.bytes} bytes transferred in 0.000100 secs (1 bytes/sec)\n"
        )

    def open_source(self) -> int:
        if self.source is None:
            return 0
        with world() as here:
            file, sector = here.disk(self.source), here.state.get("sector", SECTOR)
        if file is not None and (self.ibs % sector or self.skip % sector):
            die(f"dd: {self.source}: {ERRNO['EINVAL']}")
        path = file or self.source
        if file is None and not os.path.exists(path):
            die(f"dd: {self.source}: {ERRNO['ENOENT']}")
        descriptor = os.open(path, os.O_RDONLY)
        if self.skip and self.source != "/dev/zero":
            os.lseek(descriptor, self.skip, os.SEEK_SET)
        return descriptor

    def open_target(self) -> int:
        if self.target is None:
            return 1
        with world() as here:
            self.device = here.disk(self.target)
            if self.device is not None:
                here.opened_for_writing(self.target)
                here.log("dd", self.target, str(self.seek))
        if self.device is None and self.target.startswith("/dev/") and self.target != "/dev/null":
            die(f"dd: {self.target}: Operation not supported")
        path = self.device or self.target
        descriptor = os.open(path, os.O_RDWR | (0 if self.device else os.O_CREAT), 0o644)
        if not self.device and "notrunc" not in self.conv and self.target != "/dev/null":
            os.ftruncate(descriptor, self.seek)
        os.lseek(descriptor, self.seek, os.SEEK_SET)
        return descriptor

    def copy(self, source: int, target: int) -> None:
        pending = b""
        done = 0
        while self.count is None or done < self.count:
            block = self.read(source)
            if not block:
                break
            done += 1
            self.full, self.part = (
                (self.full + 1, self.part) if len(block) == self.ibs else (self.full, self.part + 1)
            )
            pending += block
            while len(pending) >= self.obs or (pending and not self.reblock):
                self.write(target, pending[: self.obs])
                pending = pending[self.obs :]
        if pending:
            padding = bytes(self.obs - len(pending)) if "osync" in self.conv else b""
            self.write(target, pending + padding)

    def read(self, source: int) -> bytes:
        block = os.read(source, self.ibs)
        while "fullblock" in self.iflag and block and len(block) < self.ibs:
            more = os.read(source, self.ibs - len(block))
            if not more:
                break
            block += more
        return block

    def write(self, target: int, block: bytes) -> None:
        if self.device is not None:
            if len(block) % SECTOR:
                self.report()
                die(f"dd: {self.target}: {ERRNO['EINVAL']}")
            room = os.path.getsize(self.device) - os.lseek(target, 0, os.SEEK_CUR)
            if len(block) > room:
                os.write(target, block[:room])
                self.report()
                die(
                    f"dd: {self.target}: short write on character device\n"
                    f"dd: {self.target}: end of device"
                )
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
        self.bytes += len(block)
        if len(block) == self.obs:
            self.out_full += 1
        else:
            self.out_part += 1


# --- files -------------------------------------------------------------------------------------


def flags(command: str, argv: list[str], known: str) -> tuple[set[str], list[str]]:
    """Split options from operands, as getopt without arguments does."""
    given: set[str] = set()
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if not set(word[1:]) <= set(known):
            unsupported(command, *argv)
        given |= set(word[1:])
    return given, rest


def stat(argv: list[str]) -> None:
    follow = argv[:1] == ["-L"]
    match argv[follow:]:
        case ["-f", "%HT" | "%d" | "%r" as form, path]:
            sys.stdout.write(f"{stat_field(form, path)}\n")
        case ["-f", "%Lp", path] if not path.startswith("/dev/"):
            if not os.path.exists(path):
                die(f"stat: {path}: stat: {ERRNO['ENOENT']}")
            sys.stdout.write(f"{os.stat(path).st_mode & 0o777:o}\n")
        case _:
            unsupported("stat", *argv)


def stat_field(form: str, path: str) -> str:
    with world() as here:
        node = here.disk(path) is not None or here.uzip_size(path) is not None
        if path.startswith("/dev/") and not node:
            die(f"stat: {path}: stat: {ERRNO['ENOENT']}")
        if node:
            return "Character Device" if form == "%HT" else str(here.number(path))
        if not os.path.exists(path):
            die(f"stat: {path}: stat: {ERRNO['ENOENT']}")
        if form == "%HT":
            return "Directory" if os.path.isdir(path) else "Regular File"
        real = os.path.realpath(path)
        over = [one for one in here.state["mounts"] if one["node"] == real]
        return str(here.number(over[-1]["special"]) if over else os.stat(path).st_dev)


# --- devices, modules, processes -----------------------------------------------------------------


def diskinfo(argv: list[str]) -> None:
    if len(argv) != 1 or argv[0].startswith("-"):
        unsupported("diskinfo", *argv)
    (path,) = argv
    with world() as here:
        file, uzip = here.disk(path), here.uzip_size(path)
        sector = here.state.get("sector", SECTOR) if uzip is None else SECTOR
    if file is None and uzip is None:
        die(f"diskinfo: {path}: {ERRNO['ENOENT']}")
    size = uzip if file is None else os.path.getsize(file)
    assert size is not None
    sys.stdout.write(f"{path}\t{sector}\t{size}\t{size // sector}\t0\t0\n")


def kldload(argv: list[str]) -> None:
    given, operands = flags("kldload", argv, "nq")
    if operands != ["geom_uzip"]:
        unsupported("kldload", *argv)
    with world() as here:
        level = f"{here.folder}/sysctl/kern.securelevel"
        if os.path.exists(level) and int(text(level)) > 0:  # asked first, whatever is loaded
            die("kldload: can't load geom_uzip: Operation not permitted")
        if here.has_uzip():
            if "n" not in given:
                die("kldload: can't load geom_uzip: module already loaded or in kernel")
            return
        open(f"{here.folder}/modules/g_uzip", "w", encoding="utf-8").close()
        for disk in os.listdir(f"{here.folder}/dev"):
            here.closed(f"/dev/{disk}")


def fuser(argv: list[str]) -> None:
    if argv[:1] != ["-cm"] or len(argv) != 2:
        unsupported("fuser", *argv)
    real = os.path.realpath(argv[1])
    with world() as here:
        mounted = any(one["node"] == real for one in here.state["mounts"])
        for user in here.state["users"]:
            if user["node"] == real or not mounted:
                sys.stdout.write(f"{user['pid']:6d}")
                sys.stderr.write("c")
        if not mounted:
            sys.stdout.write(f"{1:6d}")  # the root filesystem: everybody
    sys.stderr.write("\n")


def fstat(argv: list[str]) -> None:
    if argv[:2] != ["-f", "-m"] or len(argv) != 3:
        unsupported("fstat", *argv)
    real = os.path.realpath(argv[2])
    sys.stdout.write("USER     CMD          PID   FD MOUNT      INUM MODE         SZ|DV R/W\n")
    with world() as here:
        mounted = any(one["node"] == real for one in here.state["mounts"])
        for user in here.state["users"]:
            if user["node"] != real and mounted:
                continue
            for descriptor in user.get("holds", ["wd"]):
                start = f"{'root':<8.8s} {user.get('command', 'sleep'):<10s} {user['pid']:5d}"
                sys.stdout.write(f"{start} {descriptor:>4s} {'-':<10s} 4711 -r--r--r--  512  r\n")
        if not mounted:
            sys.stdout.write("root     init           1 root /              2 drwxr-xr-x  512  r\n")


def service(argv: list[str]) -> None:
    match argv:
        case [name, "onerestart" | "restart" as verb]:
            with world() as here:
                rights = here.state["services"].get(name)
                if rights is None:
                    sys.stdout.write(f"{name} does not exist in /etc/rc.d or the local startup\n")
                    sys.exit(1)
                if verb == "restart" and not rights["enabled"]:
                    sys.stdout.write(f"Cannot 'restart' {name}. Set {name}_enable to YES\n")
                    return
                here.log("service", name, verb)
                pids = rights["pids"]
                here.state["users"] = [u for u in here.state["users"] if u["pid"] not in pids]
        case _:
            unsupported("service", *argv)


def resumed(path: str) -> tuple[int, int]:
    """Return the open file and its size, of what is there of a download."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    return target, os.fstat(target).st_size


def fetch(argv: list[str]) -> None:  # noqa: C901 - its steps in order
    """Fetch into a file, going on with what is there, or to stdout; a redirect is not followed."""
    import urllib.error
    import urllib.request
    from email.utils import parsedate_to_datetime

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    match argv:
        case ["-q", "-A", "-T", seconds, "-o", "-", url]:
            target, have, forced = 1, 0, True
        case ["-q", "-A", "-R", "-r", "-T", seconds, "-o", path, url]:
            target, have, forced = *resumed(path), False
        case ["-q", "-A", "-F", "-R", "-r", "-T", seconds, "-o", path, url]:
            target, have, forced = *resumed(path), True
        case _:
            unsupported("fetch", *argv)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=float(seconds)) as answer:
            modified = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
            if have and not forced and os.fstat(target).st_mtime != modified:
                die("fetch: local modification time does not match remote")
            if have and answer.status != 206:
                os.ftruncate(target, 0)
            while data := answer.read(1 << 16):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
            if target != 1:
                os.utime(target, (modified, modified))
            if answer.length:
                die(f"fetch: {url} appears to be truncated")
    except urllib.error.HTTPError as error:
        die(f"fetch: {url}: {error.reason}")
    except (OSError, ValueError) as error:
        die(f"fetch: transfer timed out: {error}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "dd": dd,
    "devfs": devfs,
    "diskinfo": diskinfo,
    "fetch": fetch,
    "fstat": fstat,
    "fuser": fuser,
    "kldload": kldload,
    "mount": mount,
    "service": service,
    "stat": stat,
    "umount": umount,
}


def launcher(name: str) -> str:
    """Return the text of an executable that is this command."""
    folder, file = os.path.split(__file__)
    module = file.removesuffix(".py")
    return (
        f"#!/bin/sh\nexec {sys.executable} -S -E -s -c 'import sys; "
        f'sys.path.insert(0, "{folder}"); import {module}; '
        f'{module}.COMMANDS["{name}"](sys.argv[1:])\' "$@"\n'
    )
