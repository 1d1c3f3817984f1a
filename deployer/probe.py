"""Ask a frontend what it is now. The answer is the truth; nothing that we remember is."""

from dataclasses import replace

from deployer.connection import Connection
from deployer.frontend import Frontend, platform_of
from deployer.inventory import Host
from slots import calls
from slots.events import Emit, Notice
from slots.platform import PLATFORMS
from slots.probe import parse
from slots.slot import FrontendState


def reach(connection: Connection, host: Host, set_name: str, emit: Emit) -> Frontend:
    """Return the frontend behind an open connection, not yet probed."""
    return Frontend(host, host.sets[set_name], connection, platform_of(host), emit)


def probe(frontend: Frontend) -> tuple[Frontend, FrontendState]:
    """Ask for platform, link, slots, records and lock."""
    answer = frontend.ask(calls.probe_call(frontend.slots.services))
    state = parse(answer, frontend.slots)
    return replace(frontend, platform=PLATFORMS[state.platform]), state


def quietly(frontend: Frontend) -> Frontend:
    """Return the same frontend whose notices are dropped: they were shown before."""
    return replace(frontend, emit=_drop_notices(frontend.emit))


def _drop_notices(emit: Emit) -> Emit:
    return lambda event: None if isinstance(event, Notice) else emit(event)
