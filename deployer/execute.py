"""Run one plan on one frontend: under its lock, undone if it fails behind the flip.

The only loop that changes a frontend. What it reports is read back from the host at the end.
"""

import getpass
import platform as box
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import NoReturn, assert_never

from deployer import transfer
from deployer.connection import Connection
from deployer.frontend import Frontend, HeldLock, read_timeout_s
from deployer.health import Health
from deployer.plan import Plan
from deployer.probe import probe, quietly
from deployer.transfer import Job, Work
from slots import answers, scripts
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
    HostAction,
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
from slots.manifest import HEAD_BYTES
from slots.rules import User
from slots.slot import FrontendState, SlotName, SlotSet, Verdict, active

RESTART_TIMEOUT_S = 120.0  # for each service
TRIAL_GRACE_S = 10.0  # to end what does not end by itself

Replan = Callable[[SlotSet, FrontendState], Plan | Refused | LockedError]


Connect = Callable[[], AbstractContextManager[Connection]]


def execute(
    frontend: Frontend, shown: Plan, replan: Replan, work: Work, again: Connect
) -> FrontendState:
    """Lead one frontend to its goal and return what a last probe found there.

    `again` connects once more, as anybody would: what is confirmed is within reach.
    """
    with locked(frontend) as lock:
        frontend, plan = _plan_again(frontend, shown, replan)
        work.stop_point()
        job = Job(frontend, lock.token, work)
        run = partial(_run_action, job, health=Health(frontend), again=again)
        perform(plan, run, work.stop_point, _teller(frontend))
        return _read_back(frontend, plan)


def holder() -> str:
    """Return by which name the lock says who works there."""
    return f"{getpass.getuser()}@{box.node()}"


@contextmanager
def locked(frontend: Frontend) -> Iterator[HeldLock]:
    """Hold the lock of the set."""
    with step(frontend.emit, "lock", frontend.host.name):
        lock = frontend.lock(holder())
    try:
        yield lock
    finally:
        lock.release()


def _plan_again(frontend: Frontend, shown: Plan, replan: Replan) -> tuple[Frontend, Plan]:
    """Plan anew under the lock: what was shown must still be what is to be done."""
    with step(frontend.emit, "probe", frontend.host.name):
        frontend, state = _asked(frontend)
        match replan(frontend.slots, replace(state, lock=None)):  # the lock is ours now
            case Plan() as plan if plan.same_work(shown):
                return frontend, plan
            case Plan():
                raise HostError(
                    "the frontend changed since its plan was shown; nothing was done",
                    hint="deploy again",
                )
            case refusal:
                raise refusal


def _asked(frontend: Frontend) -> tuple[Frontend, FrontendState]:
    """Probe again; what a probe notices was shown with the plan."""
    probed, state = probe(quietly(frontend))
    return replace(probed, emit=frontend.emit), state


def _teller(frontend: Frontend) -> Callable[[str], None]:
    return lambda message: frontend.emit(Notice(message, frontend.host.name))


def perform(
    plan: Plan,
    run: Callable[[Action], None],
    stop_point: Callable[[], None],
    tell: Callable[[str], None],
) -> None:
    """Run the actions; before the flip a failure changes nothing, behind it the plan is undone.

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
            _attempt(plan, action, run, flipped=flipped)
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


def _attempt(plan: Plan, action: Action, run: Callable[[Action], None], *, flipped: bool) -> None:
    """Run one action; what fails behind the flip and speaks against the image is undone."""
    try:
        run(action)
    except RolledBackError:
        raise  # by the guard: there is nothing left to undo
    except (UnreachableError, LockedError, LockLostError) as error:
        if not flipped:
            raise
        raise HostError(
            f"{error.message}, after the flip: slot {plan.target} serves "
            f"{plan.image.release}, not yet checked",
            hint=_what_next(plan),
        ) from error
    except ProductError as error:
        if not flipped or not _doubts_the_image(action):
            raise
        _undo(plan, run, error)


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


def _undo(plan: Plan, run: Callable[[Action], None], cause: ProductError) -> NoReturn:
    """Go back to the slot that served before; raises RolledBackError, or what prevents that."""
    message = cause.message
    if not plan.undo:
        raise HostError(
            f"slot {plan.target} serves {plan.image.release} but failed: {message}; "
            "there is no other image to go back to"
        ) from cause
    back = plan.target.other
    trouble: list[tuple[Action, ProductError]] = []
    for action in plan.undo:
        if trouble and action == Judge(back, Verdict.GOOD):
            continue  # not on this evidence: the next deploy of it restarts and checks again
        try:
            run(action)
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


def _run_action(job: Job, action: Action, health: Health, again: Connect) -> None:
    """Run one action on the frontend."""
    frontend, name = job.frontend, type(action).__name__.lower()
    with step(frontend.emit, name, frontend.host.name, _total(action)) as detail:
        detail.extend(_run(job, action, health, again))


def _total(action: Action) -> int | None:
    """Return how many bytes an action moves, if that is worth a progress bar."""
    match action:
        case Fill(artefact=artefact):
            return artefact.size_bytes - HEAD_BYTES
        case Stage(size_bytes=size_bytes):
            return size_bytes
        case _:
            return None


def _run(  # noqa: C901, PLR0911, PLR0912 - a case for each kind
    job: Job, action: Action, health: Health, again: Connect
) -> list[str]:
    """Return what is worth telling of an action that went well."""
    frontend = job.frontend
    match action:
        case Check():
            return [health.check()]
        case Baseline():
            return [health.before()]
        case Preflight(trials=trials):
            longest_s = sum(TRIAL_GRACE_S + one.deadline_s for one in trials)
            answer = _ask(job, action, frontend.host.ssh.command_timeout_s + longest_s)
            return list(answer.all("passed"))
        case Fill():
            return transfer.bring_image(job, action)
        case Seal():
            return transfer.push_head(job, action)
        case Stage():
            return transfer.bring_pack(job, action)
        case Patch(slot, artefact=artefact):
            _ask(job, action, read_timeout_s(frontend.host, 2 * artefact.size_bytes))
            return [f"from slot {slot.other} and the pack"]
        case Prove(size_bytes=size_bytes, sha256=sha256):
            _ask(job, action, read_timeout_s(frontend.host, size_bytes))
            return [f"read back, SHA-256 {sha256[:16]}…"]
        case Restart(services=services):
            timeout_s = sum(RESTART_TIMEOUT_S + one.deadline_s for one in services)
            return _told(_ask(job, action, RESTART_TIMEOUT_S + timeout_s))
        case Drain(services=services, deadline_s=deadline_s):
            longest_s = max((deadline_s, *(one.deadline_s for one in services)))
            answer = _ask(job, action, frontend.host.ssh.command_timeout_s + longest_s)
            return [_drained(answer, action)]
        case Arm(slot, _, seconds, _):
            _arm(job, action)
            return [f"goes back to slot {slot.other} unless confirmed within {seconds} s"]
        case Confirm():
            with again() as connection:
                anew = replace(frontend, connection=connection)
                _ask(replace(job, frontend=anew), action, None)
            return ["over a new connection"]
        case Unmount() | Erase() | Mount() | Cover() | Judge() | Disarm():
            _ask(job, action, None)
            return []
        case Flip(slot):
            _ask(job, action, None)
            return [f"{frontend.slots.link} -> {frontend.slots.target(slot)}"]
        case _:
            assert_never(action)


def _told(answer: answers.Answer) -> list[str]:
    """Return what the rules did."""
    words = {
        "reloaded": "reloaded {}",
        "restarted": "restarted {}",
        "ended": "ended {}",
        "waiting": "waits for {}",
        "kept": "{} does not use the old slot",
    }
    return [text.format(name) for key, text in words.items() for name in answer.all(key)]


def _drained(answer: answers.Answer, drain: Drain) -> str:
    """Return that nothing uses the old slot; StragglersError names who does."""
    left = [User.parse(line) for line in answer.all("straggler")]
    if left:
        names = ", ".join(f"process {one.pid} {one.command} ({one.user})" for one in left)
        raise StragglersError(
            f"slot {drain.left} is still used by {names}",
            hint="end that, then deploy again; or name it in a rule (services) of the inventory",
        )
    return f"nothing uses slot {drain.left} after {answer.first('drained')} s"


def _ask(job: Job, action: HostAction, timeout_s: float | None) -> answers.Answer:
    return job.frontend.do(action, job.token, timeout_s=timeout_s)


def _arm(job: Job, action: Arm) -> None:
    frontend = job.frontend
    payload = scripts.guard_payload(frontend.library, frontend.slots, action, job.token)
    frontend.do(action, job.token, (payload,))


def _read_back(frontend: Frontend, plan: Plan) -> FrontendState:
    """Believe no step: ask the frontend what serves now."""
    with step(frontend.emit, "reread", frontend.host.name) as detail:
        _, state = _asked(frontend)
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
