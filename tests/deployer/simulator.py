"""A frontend in memory: the semantics of every action, with a crash between or inside any of them.

Each action is a list of small durable steps; a crash leaves those before it done. The rules of the
host's verbs enforce are assertions here: a plan that breaks one fails its test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from slots.actions import (
    Action,
    Arm,
    Baseline,
    Check,
    Confirm,
    Cover,
    Disarm,
    Drain,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Patch,
    Preflight,
    Prove,
    Restart,
    Seal,
    Stage,
    Unmount,
)
from slots.manifest import Artefact, Release
from slots.slot import (
    DeviceKind,
    FrontendState,
    Guard,
    GuardState,
    ImageRecord,
    LinkKind,
    Proof,
    Slot,
    SlotName,
    SlotSet,
    SlotState,
    SlotStatus,
    Verdict,
    Written,
    active,
)
from slots.trials import CommandTrial

SLOT_BYTES = 1 << 20
ZERO = "0" * 64


class CrashError(Exception):
    """The host, the connection or the deployer went away."""


class UnhealthyError(Exception):
    """A check failed."""


class UnfitError(Exception):
    """A trial of the preflight failed."""


class DamagedError(Exception):
    """A slot does not hold what it should."""


class FiredError(Exception):
    """The guard went back and took the lock away: nothing more is done under it."""


@dataclass
class SimulatedSlot:
    head: str = ""  # digest of the head, empty: zeros
    body: str = ""  # digest of the image whose body lies there, "part of …" if cut
    record: ImageRecord | None = None
    writing: bool = False
    proof: str = ""
    verdict: tuple[Verdict, str] | None = None
    mounted: str = ""  # digest of the image that was mounted
    inner_mounts: bool = False
    damaged: bool = False  # a bit of the body is not what was written
    written: tuple[str, int] = ("", 0)  # of which image a cut transfer left how much
    part_damaged: bool = False  # a bit of that is not what was written

    @property
    def whole(self) -> str:
        """The digest of the image in the slot, empty if it is none."""
        fits = self.head and self.head == head_of(self.body) and not self.damaged
        return self.body if fits else ""

    def forget(self) -> None:
        """Lose all records."""
        self.record, self.writing, self.proof, self.verdict = None, False, "", None
        self.written = ("", 0)


def head_of(sha256: str) -> str:
    """An image's head digest, distinct from its own."""
    return "f" + sha256[1:]


@dataclass
class Frontend:
    """The simulated frontend; `healthy` says of which images the checks succeed."""

    slots: SlotSet
    healthy: Callable[[str], bool] = lambda _: True
    link: SlotName | None = None
    cells: dict[SlotName, SimulatedSlot] = field(
        default_factory=lambda: {name: SimulatedSlot() for name in SlotName}
    )
    boot: int = 1
    running: SlotName | None = None  # the slot that the services run from
    staged: str = ""  # digest of the pack in the staging folder
    armed: SlotName | None = None  # the slot that a guard goes back from
    fired: bool = False  # a guard took the lock of the run that is going on
    tried: Callable[[str], bool] = lambda _: True  # of which images the preflight succeeds

    def state(self) -> FrontendState:
        link_kind = LinkKind.LINK if self.link else LinkKind.MISSING
        target = self.slots.target(self.link) if self.link else ""
        first, second = (self._status(name) for name in SlotName)
        guard = None
        if self.armed:
            guard = Guard(GuardState.ARMED, self.armed.other, self.armed, "", 60, 0, alive=True)
        return FrontendState(
            *("Linux", f"boot{self.boot}", link_kind, target, (first, second), ("squashfs",)),
            copies_bytes=True,
            guard=guard,
        )

    def _status(self, name: SlotName) -> SlotStatus:
        cell = self.cells[name]
        proof = Proof(cell.proof, f"boot{self.boot}", "7:0", 0) if cell.proof else None
        held = cell.record.sha256 if cell.record else ""
        state = SlotState.WRITING if cell.writing else SlotState.EMPTY
        return SlotStatus(
            self.slots.slot(name),
            DeviceKind.DEVICE,
            SLOT_BYTES,
            SlotState.READY if cell.head else state,
            cell.head or ZERO,
            mounted=bool(cell.mounted),
            image=cell.record,
            proof=proof,
            verdict=cell.verdict[0] if cell.verdict and cell.verdict[1] == held else None,
            missing_mounts=("dev",) if cell.mounted and not cell.inner_mounts else (),
            written=Written(*cell.written) if cell.writing and cell.written[0] else None,
        )

    @property
    def restarted(self) -> str:
        """The digest of the image that the services run from, empty: none."""
        return self.cells[self.running].mounted if self.running else ""

    @property
    def served(self) -> str:
        """The digest of the image that a request is answered from, empty: none."""
        return self.cells[self.link].mounted if self.link else ""

    def reboot(self) -> None:
        """Lose all that is not on disk; nothing is mounted afterwards."""
        self.boot += 1
        for cell in self.cells.values():
            cell.mounted, cell.proof, cell.inner_mounts = "", "", False
        self.running = None

    def boot_hook(self) -> None:
        """What a provisioned frontend does at boot, before its services start."""
        for cell in self.cells.values():
            if cell.record and cell.whole == cell.record.sha256:
                cell.proof = cell.mounted = cell.whole
                cell.inner_mounts = True
        self.fire()
        if self.link and not self.cells[self.link].mounted and self.cells[self.link.other].mounted:
            self.link = self.link.other
        self.running = self.link

    def fire(self) -> None:
        """The guard's time is up: it goes back, if nobody confirmed."""
        if self.armed is None:
            return
        left, self.armed, self.fired = self.armed, None, True
        back = self.cells[left.other]
        if self.link is left:
            if not back.mounted and back.whole and back.record:
                back.mounted, back.inner_mounts = back.whole, True
            if not back.mounted:
                return  # it says so in its record
            back.verdict = None
            self.link = left.other
        if self.running is left:
            self.running = self.link

    def begin(self) -> None:
        """Take the lock: a run of its own."""
        self.fired = False

    def run(self, action: Action, steps: int | None = None) -> None:
        """Do an action; with `steps`, crash after that many of its steps."""
        if self.fired and not isinstance(action, Check):
            raise FiredError
        for done, _ in enumerate(self._steps(action)):
            if steps is not None and done >= steps:
                raise CrashError
        if steps is not None:
            raise CrashError

    def _steps(self, action: Action) -> Iterator[None]:  # noqa: C901, PLR0912, PLR0915 - one case per verb
        """Yield before each step that changes something."""
        match action:
            case Unmount(slot):
                cell = self._free_to_change(slot)
                assert self.running is not slot, "what is in use cannot be unmounted"
                yield
                cell.inner_mounts = False
                yield
                cell.mounted, cell.proof = "", ""  # a proof is of one mount
            case Erase(slot):
                cell = self._writable(slot)
                yield
                cell.writing, cell.record, cell.proof, cell.verdict = True, None, "", None
                if cell.head:
                    cell.written, cell.part_damaged = ("", 0), False
                yield
                cell.head = ""
            case Fill(slot, artefact):
                cell = self._writable(slot)
                assert not cell.head, "a body is written only under an erased head"
                yield
                if cell.written[0] != artefact.sha256:
                    cell.written, cell.part_damaged = (artefact.sha256, 0), False
                cell.body = f"part of {artefact.sha256}"
                yield
                cell.written = (artefact.sha256, artefact.size_bytes // 2)
                yield
                cell.body, cell.damaged = artefact.sha256, cell.part_damaged
            case Stage(pack_sha256, _):
                yield
                self.staged = f"part of {pack_sha256}"
                yield
                self.staged = pack_sha256
            case Patch(slot, artefact, pack_sha256, old_sha256):
                cell, old = self._writable(slot), self.cells[slot.other]
                assert not cell.head, "a body is written only under an erased head"
                assert self.staged == pack_sha256, "a pack is staged before it is replayed"
                assert old.record, "a patch begins with an image that is known"
                assert old.record.sha256 == old_sha256, "and with no other"
                yield
                cell.written, cell.part_damaged = ("", 0), False
                yield
                cell.body = f"part of {artefact.sha256}"
                yield
                cell.body, cell.damaged = artefact.sha256, old.damaged
            case Seal(slot, artefact, release):
                cell = self._writable(slot)
                yield
                cell.head = artefact.head_sha256
                yield
                cell.record = record_of(artefact, release)
                yield
                cell.writing, cell.written, cell.part_damaged = False, ("", 0), False
                yield
                self.staged = ""
            case Prove(slot):
                cell = self.cells[slot]
                assert cell.head == action.head_sha256, "what is proven must look so"
                yield
                cell.proof = ""
                yield
                cell.record = recorded(action)
                yield
                cell.proof = cell.whole or "d" * 64
                if cell.proof != action.sha256:
                    raise DamagedError
            case Mount(slot, _):
                cell = self.cells[slot]
                assert cell.whole, "only a whole image can be mounted"
                assert cell.proof == cell.whole, "only a proven image is mounted"
                if not cell.mounted and self.link is slot:
                    yield
                    cell.verdict = None
                yield
                cell.mounted = cell.whole
                yield
                cell.inner_mounts = True
            case Arm(slot):
                assert not self.armed or self.armed is slot, "one guard at a time"
                assert self.cells[slot].mounted, "what is about to serve is ready"
                yield
                self.armed = slot
            case Confirm() | Disarm():
                yield
                self.armed = None
            case Flip(slot):
                cell = self.cells[slot]
                assert cell.mounted, "the link never names an unmounted slot"
                assert cell.inner_mounts, "nor one that lacks what belongs inside"
                if self.link is not slot:
                    yield
                    cell.verdict = None
                yield
                self.link = slot
            case Cover(slot):
                yield
                assert self.link is slot, "what serves is looked at before the flip"
            case Preflight(slot):
                yield
                cell = self.cells[slot]
                assert self.link is not slot, "what is tried does not serve yet"
                assert cell.mounted, "a slot is entered by its mount"
                assert cell.inner_mounts, "and tried with all that is mounted inside"
                if not self.tried(cell.mounted):
                    raise UnfitError
            case Baseline(slot):
                yield
                assert self.link is slot, "a baseline is of what serves before the flip"
            case Drain(left):
                yield
                assert self.running is not left, "what was restarted has left"
            case Restart(left):
                yield
                if self.running in {left, None}:
                    self.running = self.link
            case Check(slot):
                yield
                assert self.fired or self.link is slot, "checks look at what is served"
                if not self.healthy(self.served):
                    raise UnhealthyError
            case Judge(slot, verdict):
                assert self.cells[slot].record, "a verdict is of a recorded image"
                yield
                self.cells[slot].verdict = (verdict, self.cells[slot].whole)

    def _free_to_change(self, slot: SlotName) -> SimulatedSlot:
        assert active(self.slots, self.state()) is not slot, "the active slot is never touched"
        return self.cells[slot]

    def _writable(self, slot: SlotName) -> SimulatedSlot:
        cell = self._free_to_change(slot)
        assert not cell.mounted, "a mounted slot is never written"
        return cell


def record_of(artefact: Artefact, release: str) -> ImageRecord:
    return ImageRecord(
        release, artefact.format, artefact.size_bytes, artefact.sha256, artefact.head_sha256
    )


def recorded(proof: Prove) -> ImageRecord:
    return ImageRecord(
        proof.release, proof.format, proof.size_bytes, proof.sha256, proof.head_sha256
    )


def slot_set() -> SlotSet:
    """The set of slots of the mission."""
    return SlotSet(
        "cgi",
        "/webroot/cgi",
        (
            Slot(SlotName.A, "/dev/disk/by-partlabel/cgiA", "/webroot/cgi1"),
            Slot(SlotName.B, "/dev/disk/by-partlabel/cgiB", "/webroot/cgi2"),
        ),
        preflight=(CommandTrial(("true",)),),
    )


def release(letter: str, size_bytes: int = 1 << 19, format_: str = "squashfs") -> Release:
    """A release whose digests are made of one letter."""
    artefact = Artefact.model_validate(
        {
            "format": format_,
            "file": f"{letter}.{format_}",
            "size_bytes": size_bytes,
            "sha256": letter * 64,
            "head_sha256": head_of(letter * 64),
            "index": f"{letter}.index",
            "index_sha256": letter * 64,
            "codec": "zstd",
            "level": 9,
            "cluster_bytes": 131_072,
        }
    )
    return Release(
        id=letter * 16,
        name="cgi",
        version=letter,
        mtree="tree.mtree",
        mtree_sha256=letter * 64,
        entries=1,
        content_bytes=1,
        artefacts=(artefact,),
    )


def serving(letter: str, healthy: Callable[[str], bool] = lambda _: True) -> Frontend:
    """A frontend that serves a good release from slot A."""
    frontend = Frontend(slot_set(), healthy, SlotName.A, running=SlotName.A)
    only = release(letter).artefacts[0]
    frontend.cells[SlotName.A] = SimulatedSlot(
        head=only.head_sha256,
        body=only.sha256,
        record=record_of(only, f"cgi-{letter}"),
        proof=only.sha256,
        verdict=(Verdict.GOOD, only.sha256),
        mounted=only.sha256,
        inner_mounts=True,
    )
    return frontend
