"""What to do on a frontend, decided from what a probe found. Pure: nothing here touches a host.

A plan is safe to cut anywhere: the slot that the link names is never written, and the next plan,
made from the state that a cut left, goes on from there (tests/deployer/simulator.py judges).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slots.actions import (
    Action,
    Check,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Prove,
    Restart,
    Seal,
    Unmount,
)
from slots.errors import LockedError, Refused
from slots.manifest import Artefact, Release
from slots.platform import PLATFORMS
from slots.slot import (
    DeviceKind,
    FrontendState,
    LinkKind,
    Lock,
    SlotName,
    SlotSet,
    SlotStatus,
    Verdict,
    active,
)


class Goal(StrEnum):
    """What a plan is for."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Image:
    """The image that shall serve: what is needed to recognise, prove and mount it."""

    release: str
    format: str
    size_bytes: int
    sha256: str
    head_sha256: str

    @classmethod
    def of(cls, artefact: Artefact, release: str) -> "Image":
        """Return the image that an artefact becomes in a slot."""
        return cls(
            release,
            artefact.format,
            artefact.size_bytes,
            artefact.sha256,
            artefact.head_sha256,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions that lead a frontend to its goal; none if it is there.

    `undo` leads back after a failure behind the flip; it is empty where there is no way back.
    """

    goal: Goal
    active: SlotName | None  # what the link names before
    target: SlotName
    image: Image
    actions: tuple[Action, ...]
    undo: tuple[Action, ...]
    facts: tuple[str, ...]

    @property
    def sends_bytes(self) -> int:
        """How many bytes of image will travel."""
        return self.image.size_bytes if any(isinstance(one, Fill) for one in self.actions) else 0

    def same_work(self, other: "Plan") -> bool:
        """Tell whether both do the same thing, whatever they say about it."""
        return (self.active, self.target, self.image, self.actions, self.undo) == (
            other.active,
            other.target,
            other.image,
            other.actions,
            other.undo,
        )


def plan_deploy(
    slots: SlotSet,
    state: FrontendState,
    release: Release,
    wanted: SlotName | None,
    *,
    allow_bad: bool = False,
    restrict: str | None = None,
) -> Plan | Refused | LockedError:
    """Plan to serve a release from the wanted slot (None: the inactive one).

    `restrict` leaves one artefact to choose from: the format of the file that the admin named.
    """
    artefact = _mountable(state, release, restrict)
    if artefact is None:
        return _no_artefact(state, release, restrict)
    image = Image.of(artefact, release.label)
    target = wanted or _auto(slots, state, image)
    refusal = _unfit(slots, state, target) or _unwritable(slots, state, target, image)
    if refusal is None and not allow_bad:
        refusal = _bad(slots, state, target, image)
    if refusal is not None:
        return refusal
    status = state.status(target)
    writing = () if _holds(status, image) else _write(status, artefact, release.label)
    return _serve(Goal.DEPLOY, slots, state, target, image, writing)


def plan_rollback(
    slots: SlotSet, state: FrontendState, known: Sequence[Release], *, allow_bad: bool = False
) -> Plan | Refused | LockedError:
    """Plan to serve what the inactive slot holds; `known` releases help where a record is lost."""
    served = active(slots, state)
    if served is None and state.link_kind is LinkKind.MISSING:
        return Refused(f"{slots.link} does not exist: nothing was deployed, nothing to roll back")
    target = (served or SlotName.A).other
    refusal = _unfit(slots, state, target)
    image = identify(state.status(target), known)
    if refusal is None and image is None:
        refusal = Refused(
            f"there is nothing to roll back to: {_why_not(state.status(target))}",
            hint="deploy a release instead",
        )
    if refusal is None and image is not None and not allow_bad:
        refusal = _bad(slots, state, target, image)
    if refusal is not None or image is None:
        return refusal or Refused("there is nothing to roll back to")
    return _serve(Goal.ROLLBACK, slots, state, target, image, ())


def identify(status: SlotStatus, known: Sequence[Release]) -> Image | None:
    """Return the image in a slot: by its record or, if that is lost, by the head of a release."""
    held = status.holds
    if held is not None:
        return Image(held.release, held.format, held.size_bytes, held.sha256, held.head_sha256)
    for release in known:
        for artefact in release.artefacts:
            if status.head_sha256 and artefact.head_sha256 == status.head_sha256:
                return Image.of(artefact, release.label)
    return None


def rollback_hindrance(
    slots: SlotSet, state: FrontendState, known: Sequence[Release]
) -> str | None:
    """Return why `deploy rollback` would refuse now, or None: it is ready."""
    match plan_rollback(slots, state, known):
        case Plan():
            return None
        case Refused(message=message) | LockedError(message=message):
            return message


# --- refusals: each names the thing, the rule and the next step ---


def _unfit(slots: SlotSet, state: FrontendState, target: SlotName) -> Refused | LockedError | None:
    """Return why no work can be done on this frontend at all."""
    if state.lock is not None and state.lock.alive:
        return _locked(slots, state.lock)
    if state.missing:
        return Refused(f"the host lacks {', '.join(state.missing)}", hint="install them there")
    if state.link_kind is LinkKind.OTHER:
        return Refused(
            f"{slots.link} is there, but is not a symlink",
            hint=f"move it away; a deploy makes it a link to {slots.target(target)}",
        )
    if state.link_kind is LinkKind.LINK and active(slots, state) is None:
        first, second = (slots.target(name) for name in SlotName)
        return Refused(
            f"{slots.link} points to {state.link_target}, which is neither slot",
            hint=f"point it to {first} or {second}, or remove it",
        )
    return _wrong_device(state, target) or _wrong_mount(state)


def _locked(slots: SlotSet, lock: Lock) -> LockedError:
    return LockedError(
        f"{lock.holder} is at work on the set {slots.name} (process {lock.pid} there)",
        hint="wait, or end that with `deploy unlock`",
    )


def _wrong_device(state: FrontendState, target: SlotName) -> Refused | None:
    status = state.status(target)
    device = status.slot.device
    if status.device_kind is PLATFORMS[state.platform].slot_kind:
        return None
    found = {
        DeviceKind.MISSING: f"there is no {device}",
        DeviceKind.FILE: f"{device} is a plain file, not a device",
    }.get(status.device_kind, f"{device} is not a device")
    return Refused(f"slot {target}: {found}", hint="the inventory names the slots of each host")


def _wrong_mount(state: FrontendState) -> Refused | None:
    for status in state.statuses:
        if status.mount_note:
            return Refused(
                f"slot {status.slot.name}: {status.mount_note}",
                hint=f"unmount what does not belong to {status.slot.mount_point}",
            )
    return None


def _unwritable(
    slots: SlotSet, state: FrontendState, target: SlotName, image: Image
) -> Refused | None:
    """Return why the image cannot be put there, if it would have to be written."""
    status = state.status(target)
    if _holds(status, image):
        return None
    if target is active(slots, state):
        held = status.holds
        return Refused(
            f"slot {target} is active and holds {held.release if held else 'another image'}",
            hint=f"deploy to slot {target.other}, or roll back first",
        )
    if image.size_bytes > status.size_bytes:
        return Refused(
            f"slot {target} is too small: {mebibytes(status.size_bytes)} for the "
            f"{mebibytes(image.size_bytes)} of {image.release} ({image.format})",
            hint="enlarge the partition, or build a smaller image",
        )
    return None


def _bad(slots: SlotSet, state: FrontendState, target: SlotName, image: Image) -> Refused | None:
    status = state.status(target)
    if status.verdict is not Verdict.BAD or not _holds(status, image):
        return None
    serving = target is active(slots, state)
    return Refused(
        f"{image.release} in slot {target} {'serves, but ' if serving else ''}"
        "is recorded as bad: its checks failed",
        hint="`deploy rollback` goes back" if serving else "deploy another, or add --allow-bad",
    )


def _mountable(state: FrontendState, release: Release, restrict: str | None) -> Artefact | None:
    """Return the artefact that the host can mount, its best format first."""
    for format_ in state.formats:
        artefact = release.artefact(format_)
        if artefact is not None and restrict in {None, format_}:
            return artefact
    return None


def _no_artefact(state: FrontendState, release: Release, restrict: str | None) -> Refused:
    has = restrict or ", ".join(one.format for one in release.artefacts)
    can = ", ".join(state.formats) or "nothing that we build"
    return Refused(
        f"{release.label} has no artefact that the host can mount: it is {has}, "
        f"the host mounts {can}",
        hint="build the release with such a format" if state.formats else "",
    )


def _why_not(status: SlotStatus) -> str:
    if status.device_kind is DeviceKind.MISSING:
        return f"slot {status.slot.name} has no device {status.slot.device}"
    if status.image is not None and status.holds is None:
        return f"slot {status.slot.name} no longer holds {status.image.release}"
    if status.head_sha256 and status.state == "ready":
        return f"slot {status.slot.name} holds an image of which no record is left"
    return f"slot {status.slot.name} is {status.state}"


# --- plans ---


def _auto(slots: SlotSet, state: FrontendState, image: Image) -> SlotName:
    """Choose the slot: the one that serves this image already, else the inactive one."""
    served = active(slots, state)
    if served is not None:
        return served if _holds(state.status(served), image) else served.other
    return next((name for name in SlotName if _holds(state.status(name), image)), SlotName.A)


def _holds(status: SlotStatus, image: Image) -> bool:
    return status.holds is not None and status.holds.sha256 == image.sha256


def _write(status: SlotStatus, artefact: Artefact, release: str) -> tuple[Action, ...]:
    slot = status.slot.name
    unmount: tuple[Action, ...] = (Unmount(slot),) if status.mounted else ()
    return (*unmount, Erase(slot), Fill(slot, artefact), Seal(slot, artefact, release))


def _serve(  # noqa: PLR0917 - all that a plan is made of
    goal: Goal,
    slots: SlotSet,
    state: FrontendState,
    target: SlotName,
    image: Image,
    writing: tuple[Action, ...],
) -> Plan:
    """Plan to serve a slot that holds the image, or will once it is written."""
    served = active(slots, state)
    status = state.status(target)
    proven = not writing and status.proof is not None and status.proof.sha256 == image.sha256
    judged = not writing and status.verdict is Verdict.GOOD
    actions: tuple[Action, ...] = ()
    if not (served is target and proven and judged and status.mounted):
        # Read back before every switch: an earlier proof says nothing of the disk since then.
        prove = Prove(target, image.size_bytes, image.sha256)
        actions = (*writing, prove, *_switch(slots, served, target, image))
    facts = tuple(_facts(state, served, target, image, actions))
    undo = _way_back(slots, state, target) if actions else ()
    return Plan(goal, served, target, image, actions, undo, facts)


def _switch(
    slots: SlotSet, served: SlotName | None, target: SlotName, image: Image
) -> tuple[Action, ...]:
    """Mount always: a mount that was cut may lack what belongs inside it."""
    flip = () if served is target else (Flip(target),)
    return (
        Mount(target, image.format),
        *flip,
        Restart(target.other, slots.services),
        Check(target),
        Judge(target, Verdict.GOOD),
    )


def _way_back(slots: SlotSet, state: FrontendState, target: SlotName) -> tuple[Action, ...]:
    """Return to the other slot, if it served until now or holds an image that may serve."""
    back = state.status(target.other)
    name = back.slot.name
    served = name is active(slots, state)
    held = back.holds
    if not (served and back.mounted) and (held is None or back.verdict is Verdict.BAD):
        return ()
    remount: tuple[Action, ...] = ()
    if not back.mounted and held is not None:
        prove = () if back.proof else (Prove(name, held.size_bytes, held.sha256),)
        remount = (*prove, Mount(name, held.format))
    return (
        *remount,
        Flip(name),
        Judge(target, Verdict.BAD),
        Restart(target, slots.services),
        Check(name),
    )


def _facts(
    state: FrontendState,
    served: SlotName | None,
    target: SlotName,
    image: Image,
    actions: tuple[Action, ...],
) -> Iterator[str]:
    """Yield what an admin wants to read before saying yes."""
    status = state.status(target)
    size = mebibytes(image.size_bytes)
    full = percent(image.size_bytes, status.size_bytes)
    yield f"{image.release} as {image.format}, {size}: slot {target} {full} % full"
    if not actions:
        yield f"slot {target} serves it already, proven and good: nothing to do"
        return
    if any(isinstance(one, Fill) for one in actions):
        yield f"slot {target} {_contents(status)}: the whole image travels"
    else:
        yield f"slot {target} holds it already: nothing travels"
    if served is target:
        yield f"slot {target} serves already: what a cut left open is finished"
    if served is None:
        yield "nothing is served yet: there is no way back from a failed check"
    if state.lock is not None and not state.lock.alive:
        yield f"the lock of {state.lock.holder} is left from a dead holder and is taken over"


def _contents(status: SlotStatus) -> str:
    if status.holds is not None:
        return f"holds {status.holds.release}"
    if status.state == "ready":
        return "holds something unknown"
    return "is empty" if status.state == "empty" else "was left half-written"


def mebibytes(size_bytes: int) -> str:
    """Return a size as an admin reads it."""
    return f"{size_bytes / (1 << 20):.1f} MiB"


def percent(part: int, whole: int) -> int:
    """Return how full something is, 100 only when it is really full."""
    return min(99, part * 100 // whole) if part < whole else 100
