"""Run one plan on one frontend: under its lock, undone if it fails behind the flip.

The only loop that changes a frontend. What it reports is read back from the host at the end.
"""

import platform as box
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import NoReturn

from deployer import me
from deployer.frontend import Frontend, HeldLock
from deployer.health import Health
from deployer.plan import Plan
from deployer.transfer import Job, Work
from deployer.trips import Again, Trips
from slots.actions import (
    Action,
    Arm,
    Check,
    Flip,
    Judge,
    Mount,
    Patch,
    Prove,
    Restart,
    Stage,
)
from slots.errors import (
    HostError,
    LockedError,
    LockLostError,
    ProductError,
    Refused,
    RolledBackError,
    StragglersError,
    UnreachableError,
    VerificationError,
)
from slots.events import Notice, step
from slots.probe import parse
from slots.slot import FrontendState, SlotName, SlotSet, Verdict, active

Replan = Callable[[SlotSet, FrontendState], Plan | Refused | LockedError]


Run = Callable[[Action, Sequence[Action]], None]


def execute(
    frontend: Frontend, shown: Plan, replan: Replan, work: Work, again: Again
) -> FrontendState:
    """Lead one frontend to its goal and return what a last probe found there.

    `again` connects once more, as anybody would: what is confirmed is within reach.
    """
    with locked(frontend) as lock:
        state = parse(lock.probed, frontend.slots)
        plan = _plan_again(frontend, state, shown, replan)
        job = Job(frontend, lock.token, work, state)
        with closing(Trips(job, Health(frontend, work.wanted_failed), again)) as trips:
            perform(plan, trips.run, trips.stop_point, _teller(frontend))
            return _read_back(frontend, plan, trips)


def holder() -> str:
    """Return by which name the lock says who works there."""
    return f"{me.name()}@{box.node()}"


@contextmanager
def locked(frontend: Frontend) -> Iterator[HeldLock]:
    """Hold the lock of the set."""
    with step(frontend.emit, "lock", frontend.host.name):
        lock = frontend.lock(holder())
    try:
        yield lock
    finally:
        lock.release()


def _plan_again(frontend: Frontend, state: FrontendState, shown: Plan, replan: Replan) -> Plan:
    """Plan anew under the lock: what was shown must still be what is to be done."""
    match replan(frontend.slots, replace(state, lock=None)):  # the lock is ours now
        case Plan() as plan if plan.same_work(shown):
            return plan
        case Plan():
            raise HostError(
                "the frontend changed since its plan was shown; nothing was done",
                hint="deploy again",
            )
        case refusal:
            raise refusal


def _teller(frontend: Frontend) -> Callable[[str], None]:
    return lambda message: frontend.emit(Notice(message, frontend.host.name))


def perform(
    plan: Plan,
    run: Run,
    stop_point: Callable[[], None],
    tell: Callable[[str], None],
) -> None:
    """Run the actions; before the flip a failure changes nothing, behind it the plan is undone.

    `run` takes an action and those that follow if all goes well: they may go together.

    Where a short cut to the image fails, the whole image is written instead, once.
    """
    flipped = plan.active is plan.target
    stragglers: StragglersError | None = None
    waiting, fallback = [*plan.actions], [*plan.fallback]
    while waiting:
        action = waiting.pop(0)
        if not flipped:
            stop_point()
        flipped = flipped or isinstance(action, Flip)
        if stragglers is not None and isinstance(action, Judge):
            continue  # not yet: the next deploy restarts and drains again
        try:
            _attempt(plan, action, waiting, run, flipped=flipped)
        except StragglersError as error:
            if not flipped:
                raise
            stragglers = error
        except (HostError, VerificationError, Refused) as error:
            if not _calls_for_the_whole(action, error, fallback):
                raise
            stop_point()
            tell(f"{error.message}: the whole image is written")
            waiting, fallback = fallback + _behind_the_proof(action, waiting), []
    if stragglers is not None:
        raise StragglersError(
            f"slot {plan.target} serves {plan.image.release}, but {stragglers.message}",
            hint=stragglers.hint,
        )


def _attempt(
    plan: Plan, action: Action, waiting: Sequence[Action], run: Run, *, flipped: bool
) -> None:
    """Run one action; what fails behind the flip and speaks against the image is undone."""
    try:
        run(action, waiting)
    except RolledBackError:
        raise  # by the guard: there is nothing left to undo
    except UnreachableError as error:
        if not flipped and isinstance(action, Arm):  # the flip goes with it
            raise HostError(
                f"{error.message}, in the switch: slot {plan.target} may serve "
                f"{plan.image.release} already",
                hint=_what_next(plan),
            ) from error
        _after_the_flip(plan, error, flipped=flipped)
    except (LockedError, LockLostError) as error:
        _after_the_flip(plan, error, flipped=flipped)
    except ProductError as error:
        if not flipped or not _doubts_the_image(action):
            raise
        _undo(plan, run, error)


def _after_the_flip(plan: Plan, error: ProductError, *, flipped: bool) -> NoReturn:
    if not flipped:
        raise error
    raise HostError(
        f"{error.message}, after the flip: slot {plan.target} serves "
        f"{plan.image.release}, not yet checked",
        hint=_what_next(plan),
    ) from error


def _calls_for_the_whole(action: Action, error: ProductError, fallback: list[Action]) -> bool:
    """Tell whether a short cut to the image failed, and not the way to the frontend."""
    lost = isinstance(error, LockLostError)
    return bool(fallback) and not lost and isinstance(action, Stage | Patch | Prove)


def _behind_the_proof(action: Action, waiting: list[Action]) -> list[Action]:
    """Return what is still to do once the slot is written and proven another way."""
    if isinstance(action, Prove):
        return waiting
    proofs = [number for number, one in enumerate(waiting) if isinstance(one, Prove)]
    return waiting[proofs[0] + 1 :]


def _what_next(plan: Plan) -> str:
    if any(isinstance(action, Arm) for action in plan.actions):
        return "deploy again, or `deploy confirm`; else the guard of that frontend goes back"
    return "deploy again: it goes on from there"


def _doubts_the_image(action: Action) -> bool:
    """Tell whether a failure of this action speaks against the image that was flipped to."""
    return isinstance(action, Flip | Restart | Check)


def _undo(plan: Plan, run: Run, cause: ProductError) -> NoReturn:
    """Go back to the slot that served before; raises RolledBackError, or what prevents that."""
    message = cause.message
    if not plan.undo:
        raise HostError(
            f"slot {plan.target} serves {plan.image.release} but failed: {message}; "
            "there is no other image to go back to"
        ) from cause
    back = plan.target.other
    trouble: list[tuple[Action, ProductError]] = []
    for number, action in enumerate(plan.undo, start=1):
        if trouble and action == Judge(back, Verdict.GOOD):
            continue  # not on this evidence: the next deploy of it restarts and checks again
        try:
            run(action, plan.undo[number:])
        except RolledBackError:
            raise  # the guard was faster
        except ProductError as error:
            if isinstance(action, Prove | Mount | Flip):
                raise HostError(
                    f"{message}; and going back to slot {back} failed: {error.message}",
                    hint="look at that frontend now: slot "
                    f"{plan.target} may serve a broken {plan.image.release}",
                ) from error
            trouble.append((action, error))
    also = "; and then: " + "; ".join(error.message for _, error in trouble) if trouble else ""
    raise RolledBackError(
        f"{plan.image.release} failed: {message}; rolled back, slot {back} serves again{also}",
        hint=_doubt(plan, trouble),
    ) from cause


def _doubt(plan: Plan, trouble: list[tuple[Action, ProductError]]) -> str:
    """Return what is to be said where the old image does no better than the new one."""
    if not any(isinstance(action, Check) for action, _ in trouble):
        return ""
    return (
        "the old image fails its check too: look at the check, or at what both need; "
        f"{plan.image.release} stays recorded as bad (--allow-bad tries it again)"
    )


def _read_back(frontend: Frontend, plan: Plan, trips: Trips) -> FrontendState:
    """Believe no step: ask the frontend what serves now."""
    with step(frontend.emit, "reread", frontend.host.name) as detail:
        state = parse(trips.probe(), frontend.slots)
        status = state.status(plan.target)
        proof = status.proof.sha256 if status.proof else ""
        if active(frontend.slots, state) is not plan.target or not status.mounted:
            raise HostError(f"at the end slot {plan.target} does not serve: {_served(state)}")
        if status.missing_mounts:
            lacks = ", ".join(status.missing_mounts)
            raise HostError(f"at the end slot {plan.target} lacks its mount {lacks}")
        if proof != plan.image.sha256:
            raise VerificationError(
                f"at the end slot {plan.target} is not proven to hold {plan.image.release}"
            )
        detail.append(f"slot {plan.target} serves {plan.image.release}")
    return state


def _served(state: FrontendState) -> str:
    mounted = [name for name in SlotName if state.status(name).mounted]
    return f"the link points to {state.link_target or 'nothing'}, mounted: {mounted or 'none'}"
