"""The actions of a plan, in their order: writing a slot, switching to it, the way back. Pure.

A new step of a deployment gets its place here.
"""

from dataclasses import dataclass, replace

from deployer.choice import Choice
from deployer.image import Image, recorded
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
    Restart,
    Seal,
    Stage,
    Unmount,
)
from slots.manifest import Artefact
from slots.slot import FrontendState, SlotName, SlotSet, SlotStatus, Uncovered, Verdict, active


@dataclass(frozen=True, slots=True)
class Writing:
    """How a slot comes to hold an image: the actions, and those that stand in if they fail."""

    choice: Choice | None = None
    actions: tuple[Action, ...] = ()
    fallback: tuple[Action, ...] = ()


NOTHING = Writing()


def write(
    free: tuple[Action, ...], status: SlotStatus, artefact: Artefact, image: Image, choice: Choice
) -> Writing:
    """Bring an image into a slot, by its pack or whole, behind the actions that free the slot."""
    slot = status.slot.name
    seal = Seal(slot, artefact, image.release)
    whole = (*free, Erase(slot, artefact), Fill(slot, artefact), seal)
    pack, left = choice.pack, status.written
    if pack is None:
        # What a cut transfer left is not sent again; if its proof fails, all of it is.
        resumed = left is not None and left.sha256 == image.sha256
        return Writing(choice, whole, (*whole, image.proof_in(slot)) if resumed else ())
    # Staged first: a pack that cannot be brought leaves in the slot what it holds.
    stage = Stage(pack.sha256, pack.size_bytes)
    replay = Patch(slot, artefact, pack.sha256, pack.old.sha256)
    return Writing(
        choice, (stage, *free, Erase(slot), replay, seal), (*whole, image.proof_in(slot))
    )


def free(
    slots: SlotSet, state: FrontendState, slot: SlotName, *, force: bool
) -> tuple[Action, ...]:
    """Unmount the slot; first move what a cut switch left in it to the one that the link names."""
    if not state.status(slot).mounted:
        return ()
    if active(slots, state) is None:
        return (Unmount(slot, force),)
    services = tuple(replace(one, always=False) for one in slots.services)
    left = (Restart(slot, services, slots.uncovered),)
    drain = () if force else (Drain(slot, services, slots.drain_s),)
    return (*left, *drain, Unmount(slot, force))


def covered(slots: SlotSet, served: SlotName | None, target: SlotName) -> tuple[Action, ...]:
    """Look for a process in the slot that serves which nothing is known to be done about."""
    if served in {None, target} or slots.uncovered is not Uncovered.STOP:
        return ()
    return (Cover(target.other, slots.services),)


def switch(
    slots: SlotSet, served: SlotName | None, target: SlotName, image: Image, *, guarded: bool
) -> tuple[Action, ...]:
    """Mount always: a mount that was cut may lack what belongs inside it.

    A guard is armed where there is a way back.
    """
    leave = _move(slots, target)
    arm = (Arm(target, image.release, slots.confirm_s, leave),) if guarded else ()
    flip = () if served is target else (Flip(target),)
    tried = (Preflight(target, slots.preflight),) if flip and slots.preflight else ()
    before = () if served in {None, target} else (Baseline(target.other),)
    confirm = (Confirm(target),) if guarded else ()
    return (
        Mount(target, image.format),
        *tried,
        *covered(slots, served, target),
        *before,
        *arm,
        *flip,
        *_move(slots, target.other),
        Check(target),
        *confirm,
        Judge(target, Verdict.GOOD),
    )


def _move(slots: SlotSet, left: SlotName) -> tuple[Restart | Drain, ...]:
    """Move all that uses a slot to the one that the link names now."""
    return (
        Restart(left, slots.services, slots.uncovered),
        Drain(left, slots.services, slots.drain_s),
    )


def way_back(slots: SlotSet, state: FrontendState, target: SlotName) -> tuple[Action, ...]:
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
        prove = () if back.proven else (recorded(held).proof_in(name),)
        remount = (*prove, Mount(name, held.format))
    good = (Judge(name, Verdict.GOOD),) if held is not None else ()
    return (
        *remount,
        Flip(name),
        Judge(target, Verdict.BAD),
        *_move(slots, target),
        Check(name),
        *good,
        Disarm(target),
    )
