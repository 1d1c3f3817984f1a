"""The verbs of a frontend as data. A plan is a tuple of these; a platform renders each to shell."""

from dataclasses import dataclass

from slots.manifest import Artefact
from slots.slot import Service, SlotName, Uncovered, Verdict
from slots.trials import Trial


@dataclass(frozen=True, slots=True)
class Unmount:
    """Unmount the slot and, before it and in reverse order, all that is mounted inside it."""

    slot: SlotName
    force: bool = False  # end the processes that still use it


@dataclass(frozen=True, slots=True)
class Erase:
    """Record `writing`, drop the slot's other records, zero its first 64 KiB and flush.

    `awaited` is the image that is to follow whole; where it is pulled, a mirror must have it first.
    None: what follows is on the host already.
    """

    slot: SlotName
    awaited: Artefact | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Stream the image from its byte 65,536 to its end into the slot and flush."""

    slot: SlotName
    artefact: Artefact


@dataclass(frozen=True, slots=True)
class Stage:
    """Bring a pack into the staging folder of the host; one that is there is not sent again."""

    pack_sha256: str  # of the file as it travels
    size_bytes: int  # of that file


@dataclass(frozen=True, slots=True)
class Patch:
    """Put the image together behind its head, in place of `Fill`: replay the staged pack's moves.

    It copies from the other slot, which must hold the image of `old_sha256`.
    """

    slot: SlotName
    artefact: Artefact
    pack_sha256: str
    old_sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Write the image's first 64 KiB, flush, record which image this is; a pack has served."""

    slot: SlotName
    artefact: Artefact
    release: str


@dataclass(frozen=True, slots=True)
class Prove:
    """Read the slot back with caches bypassed and record its digest; is it this image's?

    The image is recorded too, if no record says it: a slot is known again once it was proven.
    """

    slot: SlotName
    release: str
    format: str
    size_bytes: int
    sha256: str
    head_sha256: str


@dataclass(frozen=True, slots=True)
class Mount:
    """Mount the slot read-only and, in order, what the inventory mounts inside it."""

    slot: SlotName
    format: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """Try what the slot holds inside it, before anything is served from it; it changes nothing."""

    slot: SlotName
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Run the health checks once before the flip: what fails then is not the new image's doing."""

    slot: SlotName  # the one that serves


@dataclass(frozen=True, slots=True)
class Arm:
    """Start the guard: unless confirmed in time the host itself goes back from `slot`.

    It takes the lock from whoever holds it, flips, and restarts by the same rules.
    """

    slot: SlotName  # that is about to serve
    release: str
    seconds: int
    leave: tuple["Restart | Drain", ...]  # what follows the flip back


@dataclass(frozen=True, slots=True)
class Confirm:
    """Tell the guard, over a new connection, that `slot` may stay; refused if it has fired."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Disarm:
    """End a guard that is armed, of this run or of one that was cut."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Flip:
    """Point the link at the slot with one rename, made durable, and read it back.

    Where the link changes, the slot's verdict goes first: a verdict is of one activation.
    """

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Cover:
    """Refuse to go on while a process that no rule covers uses this slot, the one that serves."""

    slot: SlotName
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class Restart:
    """Apply the rules, in order, to those that still use `left`, the slot that the link left."""

    left: SlotName
    services: tuple[Service, ...]
    uncovered: Uncovered = Uncovered.STOP


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until nothing uses `left`, or every process that does has had the time of its rule."""

    left: SlotName
    services: tuple[Service, ...]
    deadline_s: float  # of processes that no rule covers


@dataclass(frozen=True, slots=True)
class Check:
    """Run the inventory's health checks, from the admin box and on the host."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Judge:
    """Record a verdict on the image in the slot."""

    slot: SlotName
    verdict: Verdict


HostAction = (
    Unmount
    | Erase
    | Fill
    | Patch
    | Seal
    | Prove
    | Mount
    | Preflight
    | Cover
    | Arm
    | Flip
    | Restart
    | Drain
    | Confirm
    | Judge
    | Disarm
)
"""One verb each on the host. A `Fill` may also be several: what a cut one left, a mirror."""

Action = HostAction | Stage | Baseline | Check
