"""Why nothing is done on a frontend. Each refusal names the thing, the rule and the next step."""

from deployer.image import Image, elsewise, holds
from deployer.wording import megabytes
from slots.errors import LockedError, Refused
from slots.manifest import Release
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


def unfit(slots: SlotSet, state: FrontendState, target: SlotName) -> Refused | LockedError | None:
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


def unwritable(
    slots: SlotSet, state: FrontendState, target: SlotName, image: Image
) -> Refused | None:
    """Return why the image cannot be put there, if it would have to be written."""
    status = state.status(target)
    if holds(status, image):
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


def damaged(status: SlotStatus) -> Refused | None:
    """Return why a slot that was read back different cannot serve."""
    if not status.damaged or status.holds is None or status.proof is None:
        return None
    name, held = status.slot.name, status.holds
    return Refused(
        f"slot {name} is damaged: its digest is {status.proof.sha256[:12]}…, "
        f"not {held.sha256[:12]}… of {held.release}",
        hint=f"deploy it again to slot {name}",
    )


def bad(slots: SlotSet, state: FrontendState, target: SlotName, image: Image) -> Refused | None:
    """Return why an image whose checks failed there is not tried again."""
    status = state.status(target)
    if status.verdict is not Verdict.BAD or not holds(status, image):
        return None
    serving = target is active(slots, state)
    return Refused(
        f"{image.release} in slot {target} {'serves, but ' if serving else ''}"
        f"is recorded as bad: its checks failed{elsewise(image, status)}",
        hint="`deploy rollback` goes back" if serving else "deploy another, or add --allow-bad",
    )


def no_artefact(state: FrontendState, release: Release, restrict: str | None) -> Refused:
    """Return that the release has nothing which this host can mount."""
    has = restrict or ", ".join(one.format for one in release.artefacts)
    can = ", ".join(state.formats) or "nothing that we build"
    return Refused(
        f"{release.label} has no artefact that the host can mount: it is {has}, "
        f"the host mounts {can}",
        hint="build the release with such a format" if state.formats else "",
    )


def why_not(status: SlotStatus) -> str:
    """Return why there is no image in a slot that could serve."""
    if status.device_kind is DeviceKind.MISSING:
        return f"slot {status.slot.name} has no device {status.slot.device}"
    if status.image is not None and status.holds is None:
        return f"slot {status.slot.name} no longer holds {status.image.release}"
    if status.head_sha256 and status.state == "ready":
        return f"slot {status.slot.name} holds an image of which no record is left"
    return f"slot {status.slot.name} is {status.state}"
