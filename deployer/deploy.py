"""The pipeline of one rollout, and of a look at the fleet. The only file that knows the order.

load ─► find the release ─► probe ─► packs ─► plan ─► show, confirm ─► execute per host
                        └─► verify it meanwhile ─┘
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deployer import packs, releases
from deployer.choice import LINE_BYTES_PER_S, NoPack, Offers
from deployer.execute import Replan, execute
from deployer.fleet import Fleet, Probed, probe_all
from deployer.image import elsewise
from deployer.inventory import Host
from deployer.packs import Pack
from deployer.plan import Goal, Plan, plan_deploy, plan_rollback, wanted_pack
from deployer.probe import quietly, reach
from deployer.releases import FoundRelease
from deployer.rollout import (
    Budget,
    Outcome,
    Stop,
    exit_code,
    looked_at,
    outcome_of,
    run_hosts,
)
from deployer.transfer import Bucket, Work
from slots.errors import Exit, worst
from slots.events import Emit, Failed, Notice, step
from slots.platform import PLATFORMS
from slots.slot import FrontendState, SlotName


@dataclass(frozen=True, slots=True)
class Wish:
    """What the admin asks of a rollout."""

    goal: Goal
    slot: SlotName | None = None  # None: the inactive one of each host
    image: str | None = None  # None: the newest release
    allow_bad: bool = False
    force_unmount: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a rollout would do: a plan per host, and why a host has none."""

    wish: Wish
    set_name: str
    found: FoundRelease | None
    hosts: tuple[Host, ...]
    states: Mapping[str, FrontendState]
    plans: Mapping[str, Plan]
    refusals: tuple[Outcome, ...]  # refused or locked: any of them ends the rollout
    unreachable: tuple[Outcome, ...]  # left out, the others go on
    replan: Callable[[Host], Replan]  # how each host is planned again under its lock
    packs: Mapping[str, Path]  # where each pack lies, by its digest

    @property
    def to_do(self) -> tuple[Host, ...]:
        """The hosts on which something is to be done."""
        return tuple(
            host for host in self.hosts if host.name in self.plans and self.plans[host.name].actions
        )


@dataclass(frozen=True, slots=True)
class Result:
    """How a rollout ended."""

    proposal: Proposal
    outcomes: tuple[Outcome, ...]
    exit_code: Exit  # of the hosts
    interrupted: int | None = None  # the exit code of an interruption: it goes before that

    @property
    def travelled_bytes(self) -> int:
        """What travelled of packs and images to all hosts."""
        return sum(one.travelled_bytes or 0 for one in self.outcomes)

    @property
    def whole_bytes(self) -> int:
        """What whole images would have been, to the hosts that were written to."""
        plans = self.proposal.plans
        begun = [plans[one.host] for one in self.outcomes if one.travelled_bytes is not None]
        return sum(plan.image.size_bytes for plan in begun if plan.choice is not None)

    @property
    def status(self) -> int:
        """The exit code of the command."""
        return int(self.exit_code) if self.interrupted is None else self.interrupted


def roll_out(fleet: Fleet, proposal: Proposal) -> Result:
    """Execute what was proposed (and confirmed); a refusal on any host means nowhere."""
    try:
        return _roll_out(fleet, proposal)
    finally:
        fleet.kept.close()


def _roll_out(fleet: Fleet, proposal: Proposal) -> Result:
    if proposal.refusals or not proposal.plans:
        return Result(proposal, (), worst(_codes(proposal)))
    if not proposal.to_do:
        return Result(proposal, _already(proposal), worst(_codes(proposal)))
    stop = Stop()
    budget = Budget.of(fleet.inventory.rollout.max_failed, len(fleet.hosts))
    rate = fleet.inventory.total_bandwidth
    total = Bucket(rate) if rate else None
    outcomes = run_hosts(
        proposal.to_do,
        lambda host: work_on(
            fleet,
            proposal,
            host,
            Work(proposal.found, stop, proposal.packs, total),
        ),
        parallel=fleet.inventory.rollout.parallel,
        budget=budget,
        stop=stop,
    )
    code = exit_code(proposal.unreachable, outcomes, budget)
    return Result(proposal, (*_already(proposal), *outcomes), code, stop.exit_code)


def propose(fleet: Fleet, wish: Wish, out: Path) -> Proposal:
    """Find the release, ask every host, and plan; nothing is changed anywhere."""
    _tell_what_is_not_limited(fleet)
    found = _find(fleet, wish, out)
    with _verified_meanwhile(fleet, found, out) if found else nullcontext():
        return propose_for(fleet, wish, found, probe_all(fleet), out)


@contextmanager
def _verified_meanwhile(fleet: Fleet, found: FoundRelease, out: Path) -> Iterator[None]:
    """Hold the release against its description while hosts are asked and packs made.

    What is wrong with it goes before what else went wrong: that may follow from it.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="verify")
    reading = reader.submit(_verify, found, out, _without_failures(fleet.emit))
    try:
        try:
            yield
        except Exception:
            reading.result()
            raise
        reading.result()
    except BaseException:
        fleet.kept.close()
        raise
    finally:
        reader.shutdown(wait=False)


def _tell_what_is_not_limited(fleet: Fleet) -> None:
    pulling = [host.name for host in fleet.hosts if host.transfer.source == "http"]
    if pulling and fleet.inventory.total_bandwidth is not None:
        names = ", ".join(pulling[:3]) + (", …" if len(pulling) > 3 else "")
        text = "total_bandwidth holds for what travels through ssh, not for what hosts pull"
        fleet.emit(Notice(f"{text} from mirrors ({names}): host_bandwidth does"))


def _without_failures(emit: Emit) -> Emit:
    """Leave out what ends the whole command: that tells it."""
    return lambda event: None if isinstance(event, Failed) else emit(event)


def find_release(fleet: Fleet, wish: Wish, out: Path) -> FoundRelease | None:
    """Return the release that is wished for, read whole; None for a rollback."""
    found = _find(fleet, wish, out)
    if found is not None:
        _verify(found, out, fleet.emit)
    return found


def _find(fleet: Fleet, wish: Wish, out: Path) -> FoundRelease | None:
    if wish.goal is Goal.ROLLBACK:
        return None
    return releases.find(wish.image, out, fleet.inventory.images.get(fleet.set_name))


def propose_for(
    fleet: Fleet, wish: Wish, found: FoundRelease | None, probed: Probed, out: Path
) -> Proposal:
    """Plan for hosts that were asked already."""
    states, failures = probed.states, probed.failures
    made = _packs(fleet, wish, found, states, out)
    replan = _planner(wish, found, out, _offers(made), _heads(found))
    plans: dict[str, Plan] = {}
    refusals = [one for one in failures if one.exit_code is not Exit.UNREACHABLE]
    for host in fleet.hosts:
        if host.name not in states:
            continue
        match replan(host)(host.sets[fleet.set_name], states[host.name]):
            case Plan() as plan:
                plans[host.name] = plan
            case refusal:
                refusals.append(Outcome.of(host.name, refusal))
    return Proposal(
        wish,
        fleet.set_name,
        found,
        fleet.hosts,
        states,
        plans,
        tuple(refusals),
        tuple(one for one in failures if one.exit_code is Exit.UNREACHABLE),
        replan,
        {one.facts.sha256: one.path for one in made.values() if isinstance(one, Pack)},
    )


Made = Mapping[tuple[str, str], Pack | NoPack]


def _packs(
    fleet: Fleet,
    wish: Wish,
    found: FoundRelease | None,
    states: Mapping[str, FrontendState],
    out: Path,
) -> Made:
    """Make the packs that would serve: one for each old image, whatever many hosts hold it."""
    made: dict[tuple[str, str], Pack | NoPack] = {}
    if found is None:
        return made
    planned = _planner(wish, found, out, {}, {})
    for host in fleet.hosts:
        if host.name not in states:
            continue
        state = states[host.name]
        plan = planned(host)(host.sets[fleet.set_name], state)
        wanted = wanted_pack(state, plan) if isinstance(plan, Plan) else None
        if wanted is None:
            continue
        held, artefact = wanted
        pair = (held.sha256, artefact.sha256)
        if pair not in made:
            made[pair] = packs.provide(out, held.sha256, found, artefact, fleet.emit)
    return made


def _offers(made: Made) -> Offers:
    """Return of the packs what a plan needs to know."""
    return {pair: one.facts if isinstance(one, Pack) else one for pair, one in made.items()}


def _heads(found: FoundRelease | None) -> Mapping[str, int]:
    """Return how many bytes the head of each artefact travels in, by the artefact's digest."""
    if found is None:
        return {}
    return {one.sha256: len(releases.packed_head(found, one)) for one in found.artefacts}


def _planner(
    wish: Wish,
    found: FoundRelease | None,
    out: Path,
    offers: Offers,
    heads: Mapping[str, int],
) -> Callable[[Host], Replan]:
    """Return how this wish is planned on a frontend: for the proposal, and again under its lock."""
    if found is None:
        known = releases.known(out)
        rollback = partial(plan_rollback, known=known, allow_bad=wish.allow_bad)
        return lambda _: rollback
    return lambda host: partial(
        plan_deploy,
        release=found.release,
        wanted=wish.slot,
        allow_bad=wish.allow_bad,
        restrict=found.only,
        offers=offers,
        heads=heads,
        line_bytes_per_s=host.transfer.host_bandwidth or LINE_BYTES_PER_S,
        mirrors=host.transfer.mirrors if host.transfer.source == "http" else (),
        force_unmount=wish.force_unmount,
    )


def _verify(found: FoundRelease, out: Path, emit: Emit) -> None:
    with step(emit, "verify", found.release.label) as detail:
        formats = {found.only} if found.only else {one.format for one in found.release.artefacts}
        releases.verify(found, frozenset(formats), out)
        detail.append(f"{', '.join(sorted(formats))} as {found.folder} says")


def work_on(fleet: Fleet, proposal: Proposal, host: Host, work: Work) -> Outcome:
    """Execute one host's plan, and say what really travelled for it."""
    outcome = outcome_of(host, lambda: _execute(fleet, proposal, host, work))
    failed = tuple(work.wanted_failed)
    return replace(outcome, travelled_bytes=work.tally.bytes, wanted_failed=failed)


def _execute(fleet: Fleet, proposal: Proposal, host: Host, work: Work) -> str:
    """Execute one host's plan; what it serves then."""
    plan = proposal.plans[host.name]
    with (
        looked_at("deploy again: it goes on from there"),
        fleet.kept.take(host.name) or fleet.connect(host, fleet.emit) as way,
    ):
        frontend = reach(way, host, fleet.set_name, fleet.emit)
        frontend = replace(frontend, platform=PLATFORMS[proposal.states[host.name].platform])
        again = partial(fleet.connect, host, quietly(frontend).emit)
        execute(frontend, plan, proposal.replan(host), work, again)
    return f"slot {plan.target} serves {plan.image.release}"


def _already(proposal: Proposal) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(name, Exit.DONE, _serves_already(plan, proposal.states[name]))
        for name, plan in proposal.plans.items()
        if not plan.actions
    )


def _serves_already(plan: Plan, state: FrontendState) -> str:
    other_name = elsewise(plan.image, state.status(plan.target))
    return f"slot {plan.target} serves {plan.image.release} already{other_name}"


def _codes(proposal: Proposal) -> list[Exit]:
    """Return the codes of what keeps a rollout from beginning: a refusal is a refusal."""
    refused = [
        Exit.LOCKED if one.exit_code is Exit.LOCKED else Exit.REFUSED for one in proposal.refusals
    ]
    return [*refused, *(one.exit_code for one in proposal.unreachable)]
