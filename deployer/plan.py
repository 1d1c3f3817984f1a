"""What to do on a frontend, decided from what a probe found. Pure: nothing here touches a host.

A plan is safe to cut anywhere: the slot that the link names is never written, and the next plan,
made from the state that a cut left, goes on from there (tests/deployer/simulator.py judges).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from deployer import steps
from deployer.choice import LINE_BYTES_PER_S, Choice, Offers, choose
from deployer.image import Image, elsewise, holds, identify
from deployer.refusals import bad, damaged, no_artefact, unfit, unwritable, why_not
from deployer.steps import NOTHING, Writing
from deployer.wording import megabytes, percent, told
from slots.actions import (
    Action,
    Disarm,
    Fill,
)
from slots.errors import LockedError, Refused
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.slot import (
    FrontendState,
    GuardState,
    ImageRecord,
    LinkKind,
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
class Plan:
    """The actions that lead a frontend to its goal; none if it is there.

    `undo` leads back after a failure behind the flip; it is empty where there is no way back.
    `fallback` writes the whole image where a patch fails, up to and with its proof.
    """

    goal: Goal
    active: SlotName | None  # what the link names before
    target: SlotName
    image: Image
    actions: tuple[Action, ...]
    undo: tuple[Action, ...]
    fallback: tuple[Action, ...] = ()
    choice: Choice | None = None  # how the image comes into the slot; None: it is there
    facts: tuple[str, ...] = ()  # what an admin wants to read before saying yes

    @property
    def sends_bytes(self) -> int:
        """How many bytes will travel, if nothing fails."""
        return self.choice.sends_bytes if self.choice is not None else 0

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
    offers: Offers = MappingProxyType({}),
    heads: Mapping[str, int] = MappingProxyType({}),
    line_bytes_per_s: float = LINE_BYTES_PER_S,
    mirrors: Sequence[str] = (),
    force_unmount: bool = False,
) -> Plan | Refused | LockedError:
    """Plan to serve a release from the wanted slot (None: the inactive one).

    `restrict` leaves one artefact to choose from: the format of the file that the admin named.
    `offers` are the packs that are made; `heads` how many bytes the head of an image travels in, by
    the digest of the image; `line_bytes_per_s` is what the host's line carries.
    `mirrors` are where the host pulls from, if it does; they are told.
    `force_unmount` ends what still uses the slot that is to be written.
    """
    artefact = _mountable(state, release, restrict)
    if artefact is None:
        return no_artefact(state, release, restrict)
    image = Image.of(artefact, release.label)
    target = wanted or _auto(slots, state, image)
    refusal = unfit(slots, state, target) or unwritable(slots, state, target, image)
    if refusal is None and not allow_bad:
        refusal = bad(slots, state, target, image)
    if refusal is not None:
        return refusal
    status = state.status(target)
    if holds(status, image):
        return _serve(Goal.DEPLOY, slots, state, target, image)
    head_bytes = heads.get(artefact.sha256, HEAD_BYTES)
    choice = choose(
        state,
        target,
        artefact,
        offers,
        line_bytes_per_s,
        head_bytes=head_bytes,
        mirrors=mirrors,
    )
    free = steps.free(slots, state, target, force=force_unmount)
    writing = steps.write(free, status, artefact, image, choice)
    plan = _serve(Goal.DEPLOY, slots, state, target, image, writing)
    return replace(plan, facts=(*plan.facts, *_pulled(mirrors)))


def _pulled(mirrors: Sequence[str]) -> tuple[str, ...]:
    return (f"the host pulls from {', else from '.join(mirrors)}",) if mirrors else ()


def wanted_pack(state: FrontendState, plan: Plan) -> tuple[ImageRecord, Artefact] | None:
    """Return between which images a pack could serve this plan: what is held, and what is sent."""
    held = state.status(plan.target.other)
    if held.holds is None or held.damaged:
        return None
    for action in plan.actions:
        if isinstance(action, Fill):
            return held.holds, action.artefact
    return None


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
    refusal = unfit(slots, state, target) or damaged(state.status(target))
    image = identify(state.status(target), known)
    if refusal is None and image is None:
        refusal = Refused(
            f"there is nothing to roll back to: {why_not(state.status(target))}",
            hint="deploy a release instead",
        )
    if refusal is None and image is not None and not allow_bad:
        refusal = bad(slots, state, target, image)
    if refusal is not None or image is None:
        return refusal or Refused("there is nothing to roll back to")
    return _serve(Goal.ROLLBACK, slots, state, target, image)


def rollback_hindrance(
    slots: SlotSet, state: FrontendState, known: Sequence[Release]
) -> str | None:
    """Return why `deploy rollback` would refuse now, or None: it is ready."""
    match plan_rollback(slots, state, known):
        case Plan():
            return None
        case Refused(message=message) | LockedError(message=message):
            return message


def _mountable(state: FrontendState, release: Release, restrict: str | None) -> Artefact | None:
    """Return the artefact that the host can mount, its best format first."""
    for format_ in state.formats:
        artefact = release.artefact(format_)
        if artefact is not None and restrict in {None, format_}:
            return artefact
    return None


def _auto(slots: SlotSet, state: FrontendState, image: Image) -> SlotName:
    """Choose the slot: the one that serves this image already, else the inactive one."""
    served = active(slots, state)
    if served is not None:
        return served if holds(state.status(served), image) else served.other
    return next((name for name in SlotName if holds(state.status(name), image)), SlotName.A)


def _serve(  # noqa: PLR0917 - all that a plan is made of
    goal: Goal,
    slots: SlotSet,
    state: FrontendState,
    target: SlotName,
    image: Image,
    writing: Writing = NOTHING,
) -> Plan:
    """Plan to serve a slot that holds the image, or will once it is written."""
    served = active(slots, state)
    status = state.status(target)
    mounted = status.mounted and not status.missing_mounts
    judged = status.verdict is Verdict.GOOD  # since the link was set to it: a flip drops verdicts
    actions: tuple[Action, ...] = ()
    undo: tuple[Action, ...] = ()
    open_guard = state.guard is not None and state.guard.state is not GuardState.FIRED
    begun = bool(writing.actions) or open_guard
    if begun or not (served is target and status.proven and judged and mounted):
        undo = steps.way_back(slots, state, target)
        # Before anything else: a guard of a run that was cut would go back amid this one.
        disarm = (Disarm(target),) if open_guard else ()
        # Read back before every switch: an earlier proof says nothing of the disk since then.
        prove = image.proof_in(target)
        early = steps.covered(slots, served, target) if writing.actions else ()
        switch = steps.switch(slots, served, target, image, guarded=bool(undo))
        actions = (*disarm, *early, *writing.actions, prove, *switch)
    plan = Plan(
        goal,
        served,
        target,
        image,
        actions,
        undo,
        fallback=writing.fallback,
        choice=writing.choice,
    )
    return replace(plan, facts=tuple(_facts(state, plan)))


def _facts(state: FrontendState, plan: Plan) -> Iterator[str]:
    """Yield what a plan means, in words."""
    target, image = plan.target, plan.image
    status = state.status(target)
    size = megabytes(image.size_bytes)
    full = percent(image.size_bytes, status.size_bytes)
    yield f"{image.release} as {image.format}, {size}: slot {target} {full} % full"
    other_name = elsewise(image, status)
    if not plan.actions:
        yield f"slot {target} serves it already, proven and good: nothing to do{other_name}"
        return
    if plan.choice is not None:
        yield f"slot {target} {_contents(status)}: {_travels(plan, plan.choice)}"
    elif status.holds is None:
        yield f"slot {target} holds it by the looks of its head; its record is lost: it is proven"
    else:
        yield f"slot {target} holds it already: nothing travels{other_name}"
    yield from _left_open(state, plan)
    if state.guard is not None:
        yield told(state.guard)
    if state.lock is not None and not state.lock.alive:
        yield f"the lock of {state.lock.holder} is left from a dead holder and is taken over"


def _travels(plan: Plan, choice: Choice) -> str:
    if choice.pack is None and choice.body_bytes < plan.image.size_bytes - HEAD_BYTES:
        return f"the last {megabytes(choice.sends_bytes)} of a cut transfer travel ({choice.why})"
    if choice.pack is None:
        return f"the whole image travels ({choice.why})"
    return (
        f"{megabytes(plan.sends_bytes)} travel, the rest is copied from slot "
        f"{plan.target.other} ({choice.why})"
    )


def _left_open(state: FrontendState, plan: Plan) -> Iterator[str]:
    """Yield how things stand with the slot that serves, and with the way back."""
    target, status = plan.target, state.status(plan.target)
    if status.missing_mounts:
        yield f"slot {target} lacks its mount {', '.join(status.missing_mounts)}: mounted again"
    elif plan.active is target:
        yield f"slot {target} serves already: what a cut left open is finished"
    if plan.active is None:
        to = f"a failed check goes to slot {target.other}"
        back = to if plan.undo else "there is no way back from a failed check"
        yield f"nothing serves: there is no link; {back}"


def _contents(status: SlotStatus) -> str:
    if status.damaged and status.holds is not None:
        return f"holds a damaged {status.holds.release}"
    if status.holds is not None:
        return f"holds {status.holds.release}"
    if status.state == "ready":
        return "holds something unknown"
    return "is empty" if status.state == "empty" else "was left half-written"
