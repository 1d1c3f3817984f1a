"""Confirm by hand, after a deploy that was cut, that what serves now may stay."""

from deployer.deploy import Fleet
from deployer.execute import locked
from deployer.inventory import Host
from deployer.probe import probe, reach
from deployer.rollout import Outcome, ask_hosts
from deployer.wording import told
from slots.actions import Confirm
from slots.errors import Exit, HostError, ProductError, RolledBackError
from slots.events import step
from slots.slot import Guard, GuardState


def confirm(fleet: Fleet) -> tuple[Outcome, ...]:
    """End the guards of the set on these frontends: nobody goes back any more."""
    return ask_hosts(fleet.hosts, lambda host: _confirm(fleet, host))


def _confirm(fleet: Fleet, host: Host) -> Outcome:
    try:
        with step(fleet.emit, "confirm", host.name), fleet.connect(host, fleet.emit) as way:
            frontend, state = probe(reach(way, host, fleet.set_name, fleet.emit))
            guard = state.guard
            if guard is None:
                return Outcome(host.name, Exit.DONE, "nothing is armed")
            _refuse_what_is_decided(guard)
            with locked(frontend) as lock:
                frontend.do(Confirm(guard.target), lock.token)
    except ProductError as error:
        return Outcome.of(host.name, error)
    return Outcome(host.name, Exit.DONE, f"confirmed: slot {guard.target} stays")


def _refuse_what_is_decided(guard: Guard) -> None:
    if guard.state is GuardState.FIRED:
        raise RolledBackError(told(guard), hint="deploy again: that ends this record")
    if guard.state is GuardState.FIRING:
        raise HostError(told(guard), hint="deploy again once it has ended")
