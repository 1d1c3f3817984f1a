"""The slots of a frontend: what the inventory says of them, and what a probe found."""

from dataclasses import dataclass
from enum import StrEnum
from posixpath import dirname, join, normpath, relpath

from slots.checks import CommandCheck
from slots.trials import Trial


class SlotName(StrEnum):
    """One of the two slots of a set."""

    A = "A"
    B = "B"

    @property
    def other(self) -> "SlotName":
        """The slot beside this one."""
        return SlotName.B if self is SlotName.A else SlotName.A


class SlotState(StrEnum):
    """What the slot's own first 64 KiB say."""

    EMPTY = "empty"  # no image head, no record of a write
    WRITING = "writing"  # the head is zero and a record says that a write began
    READY = "ready"  # an image head is present
    UNKNOWN = "unknown"  # the host lacks a command that is needed to look


class Verdict(StrEnum):
    """What was recorded of an image after its health checks."""

    GOOD = "good"
    BAD = "bad"


class DeviceKind(StrEnum):
    """What lies at the path where the inventory says that a slot is."""

    DEVICE = "device"  # a block device, or FreeBSD's character disk
    FILE = "file"  # a plain file: right in the sandbox, wrong elsewhere
    MISSING = "missing"
    OTHER = "other"
    UNKNOWN = "unknown"  # the host lacks a command that is needed to look


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as the inventory describes it: absolute paths on the frontend."""

    name: SlotName
    device: str
    mount_point: str


class MountKind(StrEnum):
    """What can be mounted inside a slot."""

    DEVFS = "devfs"  # the few device nodes; on Linux a private tmpfs, never the host's /dev
    TMPFS = "tmpfs"
    BIND = "bind"  # a directory of the host (FreeBSD: nullfs)
    NFS = "nfs"
    FILES = "files"  # a small tmpfs that holds copies of files of the host


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of the host, copied under `name` into a mount of kind `files`."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class InnerMount:
    """One mount inside a slot. `at` is relative to the slot's mount point, without `..`."""

    kind: MountKind
    at: str
    source: str = ""  # bind: a directory of the host; nfs: server:/path
    size: str = ""  # tmpfs, files: as mount(8) takes it, such as 64m
    mode: str = ""  # tmpfs: octal, such as 1777
    read_only: bool = False  # bind, nfs
    files: tuple[HostFile, ...] = ()


class Treatment(StrEnum):
    """What a rule does about the processes that it covers."""

    GRACEFUL = "graceful"  # the service lets go of the slot by itself, as its work ends
    RESTART = "restart"
    COMMAND = "command"
    WAIT = "wait"
    KILL = "kill"  # TERM, then KILL


class Uncovered(StrEnum):
    """What is done about a process that uses the old slot and that no rule covers."""

    STOP = "stop"  # it is named, and nothing is flipped
    WAIT = "wait"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Service:
    """A rule: which processes it covers, and what is done about those that use the old slot.

    A process is covered if its command name fits one of `processes` (names or globs) and, where
    `user` is set, it is that user's; by the first such rule. `always` acts even if none uses the
    slot. An empty `command` means the platform's own way to restart or reload it.
    """

    name: str
    processes: tuple[str, ...]
    command: tuple[str, ...] = ()  # the word {pids} stands for the processes
    always: bool = False
    treatment: Treatment = Treatment.RESTART
    user: str = ""
    deadline_s: float = 30.0  # to let go of the slot; of `kill`, from TERM to KILL


@dataclass(frozen=True, slots=True)
class SlotSet:
    """Two slots behind one symlink, as they are on one frontend."""

    name: str
    link: str
    slots: tuple[Slot, Slot]  # A, then B
    records: str = "/var/db/slots"
    staging: str = ""  # where a pack lies until it is replayed; empty: beside the records
    mounts: tuple[InnerMount, ...] = ()
    services: tuple[Service, ...] = ()  # rules, in the order in which they act
    uncovered: Uncovered = Uncovered.STOP
    drain_s: float = 30.0  # for what no rule covers
    confirm_s: int = 120  # from the flip; then the guard goes back
    preflight: tuple[Trial, ...] = ()  # tried inside a slot before the link is set to it
    checks: tuple[CommandCheck, ...] = ()  # those that the host can make without an admin box

    def slot(self, name: SlotName) -> Slot:
        """Return the slot of this name."""
        return self.slots[0] if name is SlotName.A else self.slots[1]

    def target(self, name: SlotName) -> str:
        """Return the link's text when this slot is active: relative, so that it holds in jails."""
        return relpath(self.slot(name).mount_point, dirname(self.link))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What was noted when an image was written into a slot; true only if `head_sha256` still is."""

    release: str
    format: str
    size_bytes: int
    sha256: str
    head_sha256: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The digest that was read back from the slot, be it the image's or not.

    It holds for this boot, this device and, of a mounted slot, this mount alone.
    """

    sha256: str
    boot_id: str
    device: str
    at_epoch_s: int


@dataclass(frozen=True, slots=True)
class Written:
    """How much of an image a transfer that was cut left in the slot."""

    sha256: str
    size_bytes: int  # from the image's beginning


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One slot as the last probe found it."""

    slot: Slot
    device_kind: DeviceKind
    size_bytes: int  # of the device; 0 if there is none
    state: SlotState
    head_sha256: str  # of the first 64 KiB, empty if unreadable
    mounted: bool  # this very device at this very mount point
    mount_note: str = ""  # what is wrong with the mount, if something is
    image: ImageRecord | None = None
    proof: Proof | None = None
    verdict: Verdict | None = None
    missing_mounts: tuple[str, ...] = ()  # what the inventory mounts inside, and is not there
    sector_bytes: int = 512  # the device is read in whole ones of these
    written: Written | None = None

    @property
    def holds(self) -> ImageRecord | None:
        """The image in the slot, if the record is still true of what the slot holds."""
        if self.state is not SlotState.READY or self.image is None:
            return None
        return self.image if self.image.head_sha256 == self.head_sha256 else None

    @property
    def proven(self) -> bool:
        """Whether what was read back in this boot is the image, to the bit."""
        return self.holds is not None and self.proof is not None and not self.damaged

    @property
    def damaged(self) -> bool:
        """Whether something else than the image was read back in this boot."""
        if self.holds is None or self.proof is None:
            return False
        return self.proof.sha256 != self.holds.sha256


@dataclass(frozen=True, slots=True)
class Lock:
    """Who is at work on a set of a frontend. `alive` is false when the holder is gone."""

    holder: str
    pid: int
    boot_id: str
    since_epoch_s: int
    alive: bool


class GuardState(StrEnum):
    """How far the dead man's switch has come."""

    ARMED = "armed"  # goes back unless it is confirmed in time
    FIRING = "firing"  # is going back, or was cut while it did
    FIRED = "fired"  # went back; the record stays until the next deploy


@dataclass(frozen=True, slots=True)
class Guard:
    """The record of a guard: which slot it goes back to, and from which."""

    state: GuardState
    back: SlotName
    target: SlotName
    release: str  # that was to be confirmed
    seconds: int
    at_epoch_s: int  # when it was armed
    alive: bool  # its process
    why: str = ""  # of one that fired
    error: str = ""  # what failed when it went back
    left_s: int | None = None  # until it goes back, counted by the host; None: it does not wait


class Served(StrEnum):
    """What the boot could serve, where that is not what the link named."""

    NONE = "none"  # no valid slot
    INSTEAD = "instead"  # the other slot, proven


@dataclass(frozen=True, slots=True)
class BootNote:
    """What the boot hook left for whoever asks, until the link is set anew."""

    state: Served
    text: str
    at_epoch_s: int


class LinkKind(StrEnum):
    """What lies at the path of the link."""

    LINK = "link"
    MISSING = "missing"
    OTHER = "other"  # a directory, a file


@dataclass(frozen=True, slots=True)
class FrontendState:
    """One frontend as the last probe found it."""

    platform: str  # a name of slots.platform.PLATFORMS
    boot_id: str
    link_kind: LinkKind
    link_target: str
    statuses: tuple[SlotStatus, SlotStatus]  # A, then B
    formats: tuple[str, ...]  # artefact formats that this host can mount
    missing: tuple[str, ...] = ()  # commands that the verbs need and the host lacks
    lock: Lock | None = None
    guard: Guard | None = None
    boot: BootNote | None = None  # None: it served what the link named, or there is no hook
    slotctl_sha256: str = ""  # of what is installed; empty: nothing is
    missing_restarts: tuple[str, ...] = ()  # services whose restart command the host lacks
    clock_epoch_s: int = 0  # the host's, for how old a proof is
    copies_bytes: bool = False  # its dd finds a byte, not only a block
    downloaders: tuple[str, ...] = ()  # what it may pull from a mirror with
    staging_free_bytes: int | None = None  # None: unknown
    staged: tuple[tuple[str, int], ...] = ()  # packs in staging, by digest: bytes that are there

    def status(self, name: SlotName) -> SlotStatus:
        """Return the status of the slot of this name."""
        return self.statuses[0] if name is SlotName.A else self.statuses[1]


def active(slots: SlotSet, state: FrontendState) -> SlotName | None:
    """Return the slot that the link names, or None: active is where the link points."""
    if state.link_kind is not LinkKind.LINK:
        return None
    pointed = normpath(join(dirname(slots.link), state.link_target))
    return next((name for name in SlotName if slots.slot(name).mount_point == pointed), None)
