"""What a frontend is set up with: folders, slotctl, and what calls it at boot.

The files of the hooks are templates beside the verbs; which of them a machine takes is asked there.
"""

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slots import scripts
from slots.answers import Answer
from slots.errors import HostError
from slots.platform import Platform
from slots.slot import MountKind, SlotSet

BOOT_LIMIT_S = 1800  # both slots of every set may have to be read: 100 MB/s read 180 GB in it
SLOTCTL_MODE = 0o700  # it holds the environment of trials, and the commands of rules


_FILE = re.compile(r"[0-9a-f]{64} [0-7]{0,5}|missing|other")


class PathState(StrEnum):
    """What lies at a path."""

    FOLDER = "folder"
    MISSING = "missing"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is to be on the frontend."""

    path: str
    mode: int
    text: str

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def sha256(self) -> str:
        """The digest of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Hook:
    """A way to be called at boot: its name in the answer of a host, and its file there."""

    system: str
    path: str
    mode: int
    render: Callable[[str, Sequence[SlotSet]], str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a host says of what is installed, in the order in which it was asked."""

    system: str
    enabled: bool
    folders: tuple[PathState, ...]
    files: tuple[str, ...]  # "SHA256 MODE", missing, other


def slotctl_file(platform: Platform, records: str, sets: Sequence[SlotSet]) -> File:
    """Return slotctl as it is to be on a frontend with these sets."""
    path = platform.slotctl or f"{records}/slotctl"
    return File(path, SLOTCTL_MODE, scripts.slotctl(platform, sets))


# --- the files of the hooks --------------------------------------------------------------------


def rc_script(slotctl: str, sets: Sequence[SlotSet]) -> str:
    """Return FreeBSD's rc.d script."""
    return scripts.render(
        "freebsd/flipslot.rc.j2", slotctl=slotctl, limit_s=BOOT_LIMIT_S, network=_network(sets)
    )


def init_script(slotctl: str, sets: Sequence[SlotSet]) -> str:
    """Return a script for /etc/init.d, with the header that LSB defines."""
    return scripts.render(
        "linux/flipslot.init.j2",
        slotctl=slotctl,
        limit_s=BOOT_LIMIT_S,
        network=_network(sets),
        services=" ".join(_services(sets)),
    )


def unit(slotctl: str, sets: Sequence[SlotSet]) -> str:
    """Return a systemd unit: before everything that has default dependencies (systemd.unit(5)).

    With an NFS mount inside it cannot come before the network: then before the sets' services.
    """
    network = _network(sets)
    paths = [path for one in sets for path in (one.records, one.link.rpartition("/")[0])]
    units = [_unit_of(slot.device) for one in sets for slot in one.slots]
    services = [f"{name}.service" for name in _services(sets)]
    return scripts.render(
        "linux/flipslot.service.j2",
        slotctl=_unit_word(slotctl.replace("$", "$$")),
        limit_s=BOOT_LIMIT_S,
        network=network,
        requires_mounts=_unit_lines("RequiresMountsFor", map(_unit_word, paths)),
        devices=_unit_lines("Wants", units) + "\n" + _unit_lines("After", units),
        before=" ".join([*([] if network else ["basic.target"]), *services, "shutdown.target"]),
        wanted_by="multi-user.target" if network else "basic.target",
    )


def _network(sets: Sequence[SlotSet]) -> bool:
    return any(mount.kind is MountKind.NFS for one in sets for mount in one.mounts)


def _services(sets: Sequence[SlotSet]) -> list[str]:
    """Return the names of all services, each once: an inventory allows letters, digits, `._-`."""
    return list(dict.fromkeys(rule.name for one in sets for rule in one.services))


def _unit_lines(key: str, words: "Sequence[str] | map[str]") -> str:
    return "\n".join(f"{key}={word}" for word in dict.fromkeys(words))


def _unit_word(text: str) -> str:
    """Return a word as a unit quotes it (systemd.syntax(7)), specifiers too."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if any(char in text for char in " '\"\\;") else text


def _unit_of(path: str) -> str:
    """Return the unit of a device node, as `systemd-escape --path` has it."""
    data = path.strip("/").encode("utf-8", "surrogateescape")
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
    words = [
        "-" if byte == ord("/") else chr(byte) if byte in plain and not (n == 0 and byte == 0x2E)
        else f"\\x{byte:02x}"
        for n, byte in enumerate(data)
    ]  # fmt: skip
    return "".join(words).replace("%", "%%") + ".device"


HOOKS: Mapping[str, tuple[Hook, ...]] = {
    "FreeBSD": (Hook("rc.d", "/usr/local/etc/rc.d/flipslot", 0o555, rc_script),),
    "Linux": (
        Hook("systemd", "/etc/systemd/system/flipslot.service", 0o644, unit),
        Hook("init.d", "/etc/init.d/flipslot", 0o755, init_script),
    ),
    "sandbox": (),
}
"""What may call slotctl at boot, by platform: which of them a machine takes is asked there."""


# --- calls -------------------------------------------------------------------------------------


def installed_call(platform: Platform, folders: Sequence[str], files: Sequence[str]) -> str:
    """Return the call that asks what is installed; it changes nothing."""
    asked = [
        "verb_hook_is",
        *(shlex.join(("verb_folder_is", path)) for path in folders),
        *(shlex.join(("verb_file_is", path)) for path in files),
    ]
    return _with_library(platform, "\n".join(asked))


def folder_call(platform: Platform, token: str, path: str) -> str:
    """Return the call that makes a folder, and those above it."""
    return _with_library(platform, shlex.join(("verb_folder", token, path)))


def install_call(platform: Platform, token: str, file: File) -> str:
    """Return the call that takes a file as payload and puts it in its place."""
    words = ("verb_install", token, file.path, f"{file.mode:04o}", file.sha256)
    return _with_library(platform, shlex.join(words))


def enable_call(platform: Platform, token: str) -> str:
    """Return the call that has the hook called at boot."""
    return _with_library(platform, shlex.join(("verb_enable", token)))


def _with_library(platform: Platform, call: str) -> str:
    names = ("common/provision.sh", f"{platform.name.lower()}/provision.sh")
    return scripts.behind(names, call)


def found(answer: Answer, n_folders: int, n_files: int) -> Found:
    """Return what is installed; HostError if the answer is not of what was asked."""
    folders, files = answer.all("folder"), answer.all("file")
    known = all(one in list(PathState) for one in folders) and all(map(_FILE.fullmatch, files))
    if not known or (len(folders), len(files)) != (n_folders, n_files) or not answer.first("hook"):
        raise HostError("the host's answer of what is installed is not of what was asked")
    return Found(
        answer.first("hook"),
        answer.first("enabled") == "yes",
        tuple(PathState(one) for one in folders),
        files,
    )
