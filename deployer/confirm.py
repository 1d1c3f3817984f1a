"""Confirm by hand, after a deploy that was cut, that what serves now may stay."""

from deployer.execute import locked
from deployer.fleet import Fleet, ask_each
from deployer.frontend import Frontend
from deployer.rollout import Outcome
from deployer.wording import told
from slots.actions import Confirm
from slots.errors import HostError, RolledBackError
from slots.slot import FrontendState, Guard, GuardState


def confirm(fleet: Fleet) -> tuple[Outcome, ...]:
    """End the guards of the set on these frontends: nobody goes back any more."""
    return ask_each(fleet, "confirm", _confirm)


def _confirm(frontend: Frontend, state: FrontendState) -> str:
    guard = state.guard
    if guard is None:
        return "nothing is armed"
    _refuse_what_is_decided(guard)
    with locked(frontend) as lock:
        frontend.do(Confirm(guard.target), lock.token)
    return f"confirmed: slot {guard.target} stays"


def _refuse_what_is_decided(guard: Guard) -> None:
    if guard.state is GuardState.FIRED:
        raise RolledBackError(told(guard), hint="deploy again: that ends this record")
    if guard.state is GuardState.FIRING:
        raise HostError(told(guard), hint="deploy again once it has ended")
