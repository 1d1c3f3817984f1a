"""What to do on a frontend, decided from what a probe found. Pure: nothing here touches a host.

A plan is safe to cut anywhere: the slot that the link names is never written, and the next plan,
made from the state that a cut left, goes on from there (tests/deployer/simulator.py judges).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    ImageRecord,
    LinkKind,
    Lock,
    SlotName,
    SlotSet,
    SlotState,
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

    def proof_in(self, slot: SlotName) -> Prove:
        """Return the action that proves this image in a slot."""
        return Prove(
            slot, self.release, self.format, self.size_bytes, self.sha256, self.head_sha256
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
    writing = () if _holds(status, image) else _write(slots, state, target, artefact, image)
    return _serve(Goal.DEPLOY, slots, state, target, image, writing)


def plan_rollback(
    slots: SlotSet, state: FrontendState, known: Sequence[Release], *, allow_bad: bool = False
) -> Plan | Refused | LockedError:
    """Plan to serve what the inactive slot holds; `known` releases help where a record is lost."""
    served = active(slots, state)
    if served is None and state.link_kind is LinkKind.MISSING:
        return Refused(
            f"{slots.link} does not exist: nothing serves, so there is nothing to go back from",
            hint="deploy a release instead",
        )
    target = (served or SlotName.A).other
    refusal = _unfit(slots, state, target) or _damaged(state.status(target))
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
        return _recorded(held)
    for release in known:
        for artefact in release.artefacts:
            if status.head_sha256 and artefact.head_sha256 == status.head_sha256:
                return Image.of(artefact, release.label)
    return None


def _recorded(held: ImageRecord) -> Image:
    return Image(held.release, held.format, held.size_bytes, held.sha256, held.head_sha256)


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
    if state.missing_restarts:
        return Refused(
            f"the host lacks what restarts {', '.join(state.missing_restarts)}",
            hint="correct `restart` of the service in the inventory, or install the command there",
        )
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
    """Look at both: who uses the slot that serves is asked of its device."""
    for name in (target, target.other):
        status = state.status(name)
        device = status.slot.device
        fits = status.device_kind is PLATFORMS[state.platform].slot_kind
        if fits and status.size_bytes:
            continue
        found = {
            DeviceKind.MISSING: f"there is no {device}",
            DeviceKind.FILE: f"{device} is a plain file, not a device",
        }.get(status.device_kind, f"{device} is not a device that a slot may lie on")
        if fits:
            found = f"{device} has no size"
        return Refused(f"slot {name}: {found}", hint="the inventory names the slots of each host")
    return None


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
        held = status.holds.release if status.holds else "another image"
        return Refused(
            f"slot {target} is active and {'is a damaged' if status.damaged else 'holds'} {held}",
            hint=f"deploy to slot {target.other}, or roll back first",
        )
    if image.size_bytes > status.size_bytes:
        return Refused(
            f"slot {target} is too small: {megabytes(status.size_bytes)} for the "
            f"{megabytes(image.size_bytes)} of {image.release} ({image.format})",
            hint="enlarge the partition, or build a smaller image",
        )
    return None


def _damaged(status: SlotStatus) -> Refused | None:
    if not status.damaged or status.holds is None or status.proof is None:
        return None
    name, held = status.slot.name, status.holds
    return Refused(
        f"slot {name} is damaged: its digest is {status.proof.sha256[:12]}…, "
        f"not {held.sha256[:12]}… of {held.release}",
        hint=f"deploy it again to slot {name}",
    )


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
    """Tell whether the image is there: by the record or, if that is lost, by the slot's head.

    Whether it is there to the bit is for a proof to say; where one said no, it is not there.
    """
    if status.holds is not None:
        return status.holds.sha256 == image.sha256 and not status.damaged
    return status.state is SlotState.READY and status.head_sha256 == image.head_sha256


def _write(
    slots: SlotSet, state: FrontendState, slot: SlotName, artefact: Artefact, image: Image
) -> tuple[Action, ...]:
    free: tuple[Action, ...] = ()
    if state.status(slot).mounted:
        free = (*_leave(slots, state, slot), Unmount(slot))
    return (*free, Erase(slot), Fill(slot, artefact), Seal(slot, artefact, image.release))


def _leave(slots: SlotSet, state: FrontendState, slot: SlotName) -> tuple[Action, ...]:
    """Move services that a cut switch left in a slot to the one that the link names."""
    if active(slots, state) is None:
        return ()
    return (Restart(slot, tuple(replace(one, always=False) for one in slots.services)),)


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
    mounted = status.mounted and not status.missing_mounts
    judged = status.verdict is Verdict.GOOD  # since the link was set to it: a flip drops verdicts
    actions: tuple[Action, ...] = ()
    if writing or not (served is target and status.proven and judged and mounted):
        # Read back before every switch: an earlier proof says nothing of the disk since then.
        prove = image.proof_in(target)
        actions = (*writing, prove, *_switch(slots, served, target, image))
    undo = _way_back(slots, state, target) if actions else ()
    plan = Plan(goal, served, target, image, actions, undo, ())
    return replace(plan, facts=tuple(_facts(state, plan)))


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
    may_serve = held is not None and back.verdict is not Verdict.BAD and not back.damaged
    if not (served and back.mounted) and not may_serve:
        return ()
    remount: tuple[Action, ...] = ()
    if held is not None and (not back.mounted or back.missing_mounts):
        prove = () if back.proven else (_recorded(held).proof_in(name),)
        remount = (*prove, Mount(name, held.format))
    good = (Judge(name, Verdict.GOOD),) if held is not None else ()
    return (
        *remount,
        Flip(name),
        Judge(target, Verdict.BAD),
        Restart(target, slots.services),
        Check(name),
        *good,
    )


def _facts(state: FrontendState, plan: Plan) -> Iterator[str]:
    """Yield what an admin wants to read before saying yes."""
    target, image = plan.target, plan.image
    status = state.status(target)
    size = megabytes(image.size_bytes)
    full = percent(image.size_bytes, status.size_bytes)
    yield f"{image.release} as {image.format}, {size}: slot {target} {full} % full"
    if not plan.actions:
        yield f"slot {target} serves it already, proven and good: nothing to do"
        return
    if plan.sends_bytes:
        yield f"slot {target} {_contents(status)}: the whole image travels"
    elif status.holds is None:
        yield f"slot {target} holds it by the looks of its head; its record is lost: it is proven"
    else:
        yield f"slot {target} holds it already: nothing travels"
    yield from _left_open(state, plan)
    if state.lock is not None and not state.lock.alive:
        yield f"the lock of {state.lock.holder} is left from a dead holder and is taken over"


def _left_open(state: FrontendState, plan: Plan) -> Iterator[str]:
    """Yield how things stand with the slot that serves, and with the way back."""
    target, status = plan.target, state.status(plan.target)
    if status.missing_mounts:
        yield f"slot {target} lacks its mount {', '.join(status.missing_mounts)}: mounted again"
    elif plan.active is target:
        yield f"slot {target} serves already: what a cut left open is finished"
    if plan.active is None:
        back = (
            f"a failed check goes to slot {target.other}"
            if plan.undo
            else ("there is no way back from a failed check")
        )
        yield f"nothing serves: there is no link; {back}"


def _contents(status: SlotStatus) -> str:
    if status.damaged and status.holds is not None:
        return f"holds a damaged {status.holds.release}"
    if status.holds is not None:
        return f"holds {status.holds.release}"
    if status.state == "ready":
        return "holds something unknown"
    return "is empty" if status.state == "empty" else "was left half-written"


def megabytes(size_bytes: int) -> str:
    """Return a size as an admin reads it."""
    return f"{size_bytes / 1_000_000:.1f} MB"


def percent(part: int, whole: int) -> int:
    """Return how full something is, 100 only when it is really full."""
    return min(99, part * 100 // whole) if part < whole else 100
