"""Set up new frontends: look, show, install under the lock, then an ordinary rollout there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from deployer.deploy import (
    Proposal,
    Result,
    Wish,
    find_release,
    propose_for,
    roll_out,
)
from deployer.execute import locked
from deployer.fleet import Fleet, Probed, ask_each
from deployer.frontend import Frontend
from deployer.inventory import Host
from deployer.probe import probe, quietly, reach
from deployer.provision import (
    Enabled,
    Folder,
    Item,
    Program,
    Setup,
    Wanted,
    plan_setup,
    too_small,
    wanted,
)
from deployer.rollout import Outcome, ask_hosts, looked_at
from slots import hooks
from slots.errors import Exit, HostError, worst
from slots.events import step
from slots.slot import FrontendState


@dataclass(frozen=True, slots=True)
class Offer:
    """What would be set up, host by host, and the rollout that follows."""

    setups: Mapping[str, Setup]
    failures: tuple[Outcome, ...]  # hosts of which nothing can be made, or that do not answer
    rollout: Proposal | None

    @property
    def refusals(self) -> tuple[Outcome, ...]:
        """Why nothing is touched on any host."""
        ours = tuple(one for one in self.failures if one.exit_code is not Exit.UNREACHABLE)
        return (*ours, *(self.rollout.refusals if self.rollout else ()))

    @property
    def exit_code(self) -> Exit:
        """What the offer itself means."""
        return worst(
            Exit.LOCKED if one.exit_code is Exit.LOCKED
            else Exit.UNREACHABLE if one.exit_code is Exit.UNREACHABLE
            else Exit.REFUSED
            for one in (*self.failures, *self.refusals)
        )  # fmt: skip

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        pending = any(setup.to_do for setup in self.setups.values())
        return pending or bool(self.rollout and self.rollout.to_do)


@dataclass(frozen=True, slots=True)
class SetupResult:
    """How it ended: what was installed, and the rollout behind it."""

    outcomes: tuple[Outcome, ...]
    rollout: Result | None

    @property
    def status(self) -> int:
        """The exit code of the command."""
        if self.rollout is not None and self.rollout.interrupted is not None:
            return self.rollout.interrupted
        codes = [one.exit_code for one in self.outcomes]
        return int(worst([*codes, *([self.rollout.exit_code] if self.rollout else [])]))


def offer(fleet: Fleet, wish: Wish | None, out: Path) -> Offer:
    """Ask every host what it lacks, and plan the rollout behind it (None: there is none)."""
    setups: dict[str, Setup] = {}
    states: dict[str, FrontendState] = {}

    def look(frontend: Frontend, state: FrontendState) -> str:
        setups[frontend.host.name] = _planned(frontend, state)
        states[frontend.host.name] = state
        return ""

    failures = tuple(one for one in ask_each(fleet, "look", look) if not one.done)
    if wish is None or not setups:
        return Offer(setups, failures, None)
    hosts = tuple(host for host in fleet.hosts if host.name in setups)
    fit = replace(fleet, hosts=hosts)
    proposal = propose_for(fit, wish, find_release(fit, wish, out), Probed(states), out)
    small = _without_room(proposal, states)
    return Offer(setups, (*failures, *small), proposal)


def set_up(fleet: Fleet, offered: Offer) -> SetupResult:
    """Install what was offered, and roll out to the hosts where that worked."""
    if offered.refusals:
        return SetupResult((*offered.failures,), None)
    hosts = tuple(host for host in fleet.hosts if host.name in offered.setups)
    outcomes = ask_hosts(hosts, lambda host: _install(fleet, host, offered.setups[host.name]))
    ended = (*offered.failures, *outcomes)
    fit = frozenset(one.host for one in outcomes if one.done)
    if offered.rollout is None or not fit:
        return SetupResult(ended, None)
    return SetupResult(ended, roll_out(fleet, _only(offered.rollout, fit)))


def _only(proposal: Proposal, names: frozenset[str]) -> Proposal:
    return replace(
        proposal,
        hosts=tuple(host for host in proposal.hosts if host.name in names),
        plans={name: plan for name, plan in proposal.plans.items() if name in names},
    )


def _without_room(proposal: Proposal, states: Mapping[str, FrontendState]) -> list[Outcome]:
    refused = {one.host for one in proposal.refusals}
    small = [
        (name, too_small(states[name], plan.image.size_bytes))
        for name, plan in proposal.plans.items()
        if name not in refused
    ]
    return [Outcome.of(name, why) for name, why in small if why is not None]


def _planned(frontend: Frontend, state: FrontendState) -> Setup:
    """Ask what is installed, and plan; a refusal is raised."""
    ours = _wanted(frontend)
    folders, files = ours.paths
    call = hooks.installed_call(frontend.library, folders, files)
    found = hooks.found(quietly(frontend).ask(call), len(folders), len(files))
    match plan_setup(frontend.slots, state, ours, found):
        case Setup() as setup:
            return setup
        case refusal:
            raise refusal


def _wanted(frontend: Frontend) -> Wanted:
    platform, sets = frontend.library, tuple(frontend.host.sets.values())
    slotctl = hooks.slotctl_file(platform, frontend.slots.records, sets)
    return wanted(frontend.slots, sets, hooks.HOOKS[platform.name], slotctl)


def _install(fleet: Fleet, host: Host, setup: Setup) -> str:
    """Make what one host lacks; it is asked again before and afterwards."""
    if not setup.to_do:
        return "set up already"
    with (
        looked_at("provision again: it goes on there"),
        fleet.connect(host, fleet.emit) as way,
    ):
        frontend, _ = probe(quietly(reach(way, host, fleet.set_name, fleet.emit)))
        install(replace(frontend, emit=fleet.emit), setup)
        _, state = probe(quietly(frontend))
        left = _planned(frontend, state).to_do
    if left:
        raise HostError("it reads back different from what was made")
    return f"set up ({len(setup.to_do)} made)"


def install(frontend: Frontend, setup: Setup) -> None:
    """Make what is to be made, under the lock of the set."""
    with locked(frontend) as lock:
        for item in setup.to_do:
            _make(frontend, lock.token, item)


def _make(frontend: Frontend, token: str, item: Item) -> None:
    platform, name = frontend.library, frontend.host.name
    match item.wanted:
        case Folder(path):
            with step(frontend.emit, "folder", name):
                frontend.ask(hooks.folder_call(platform, token, path))
        case Program(file):
            with step(frontend.emit, "install", name):
                frontend.ask(hooks.install_call(platform, token, file), (file.data,))
        case Enabled():
            with step(frontend.emit, "enable", name):
                frontend.ask(hooks.enable_call(platform, token))
        case _:
            assert_never(item.wanted)
