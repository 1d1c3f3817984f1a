"""Remove the lock of a set by hand, where whoever holds it will not come back."""

from deployer.fleet import Fleet, ask_each
from deployer.frontend import Frontend
from deployer.rollout import Outcome
from slots import calls
from slots.slot import FrontendState


def unlock(fleet: Fleet) -> tuple[Outcome, ...]:
    """Remove the locks of the set, and end who holds them."""
    return ask_each(fleet, "unlock", _unlock)


def _unlock(frontend: Frontend, _: FrontendState) -> str:
    who = frontend.ask(calls.unlock_call()).first("unlocked")
    return f"unlocked: {who}" if who else "was not locked"
