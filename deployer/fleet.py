"""The hosts that a command is about, and how all of them are asked side by side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from deployer.connection import Connection
from deployer.frontend import Frontend
from deployer.inventory import Host, Inventory, select, set_name
from deployer.kept import Kept
from deployer.probe import probe, reach
from deployer.rollout import Outcome, ask_hosts
from slots.events import Emit, step
from slots.slot import FrontendState

Connect = Callable[[Host, Emit], Connection]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The hosts that a command is about, and the way to them."""

    inventory: Inventory
    hosts: tuple[Host, ...]
    set_name: str
    connect: Connect
    emit: Emit
    kept: Kept = field(default_factory=Kept)  # of a look, for the work behind it


@dataclass(frozen=True, slots=True)
class Probed:
    """What the hosts are now, by name; and the outcomes of those that did not say it."""

    states: Mapping[str, FrontendState]
    failures: tuple[Outcome, ...] = ()


def fleet_of(
    inventory: Inventory,
    patterns: Sequence[str],
    wanted_set: str | None,
    connect: Connect,
    emit: Emit,
) -> Fleet:
    """Choose the hosts and the set of slots."""
    name = set_name(inventory, wanted_set)
    return Fleet(inventory, select(inventory, patterns), name, connect, emit)


def keeping(fleet: Fleet) -> Fleet:
    """Return the fleet, to be looked at and then worked on: its first hosts are kept at hand."""
    first = fleet.hosts[: fleet.inventory.rollout.parallel]
    return replace(fleet, kept=Kept(host.name for host in first))


def probe_all(fleet: Fleet) -> Probed:
    """Ask all hosts what they are now."""
    states: dict[str, FrontendState] = {}

    def ask(host: Host) -> str:
        with step(fleet.emit, "probe", host.name), ExitStack() as ways:
            way = ways.enter_context(fleet.connect(host, fleet.emit))
            _, states[host.name] = probe(reach(way, host, fleet.set_name, fleet.emit))
            if fleet.kept.keep(host.name, way):
                ways.pop_all()
        return ""

    failures = tuple(one for one in ask_hosts(fleet.hosts, ask) if not one.done)
    return Probed(states, failures)


def ask_each(
    fleet: Fleet, name: str, ask: Callable[[Frontend, FrontendState], str]
) -> tuple[Outcome, ...]:
    """Probe all hosts and ask each, as a step of this name; return what each has to say."""

    def ask_one(host: Host) -> str:
        with step(fleet.emit, name, host.name), fleet.connect(host, fleet.emit) as way:
            return ask(*probe(reach(way, host, fleet.set_name, fleet.emit)))

    return ask_hosts(fleet.hosts, ask_one)
