"""What an admin reads at the end of a command, and on the way to it what is to be decided.

Beside live.py the only module of the deployer that writes to the terminal.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from deployer import provision
from deployer.deploy import Proposal, Result
from deployer.documents import Document
from deployer.fleet import Fleet, Probed
from deployer.packs import Pack
from deployer.plan import Plan
from deployer.publish import Published
from deployer.rollout import Outcome
from deployer.setup import Offer, SetupResult
from deployer.status import StatusRow, status_notes, status_rows, status_table
from deployer.wording import counted, megabytes, size
from slots.actions import Action, Restart
from slots.errors import Exit
from slots.manifest import Release


def show_proposal(proposal: Proposal, *, to_stderr: bool = False) -> None:
    """Show what would be done, host by host."""
    console = _page(stderr=to_stderr)
    alike: dict[str, tuple[Plan, list[str]]] = {}
    for host in proposal.hosts:
        if host.name in proposal.plans:
            plan = proposal.plans[host.name]
            alike.setdefault(repr(plan), (plan, []))[1].append(host.name)
    for plan, hosts in alike.values():
        _show_plan(console, hosts, plan)
    _show_outcomes(console, (*proposal.refusals, *proposal.unreachable))
    _show_spared(console, proposal)


def _show_spared(console: Console, proposal: Proposal) -> None:
    """Say what a refusal elsewhere means for the hosts that would have been worked on."""
    if proposal.refusals:
        others = " ".join(host.name for host in proposal.to_do)
        would = f"; without that {others} would have been worked on" if others else ""
        _line(console, f"nothing is touched on any host{would}")


def _show_plan(console: Console, hosts: Sequence[str], plan: Plan) -> None:
    before = f"slot {plan.active}" if plan.active else "nothing"
    arrow = f"{before} -> slot {plan.target}" if plan.actions else f"slot {plan.target} stays"
    _line(console, f"{' '.join(hosts)}: {arrow}", style="bold")
    for fact in plan.facts:
        _line(console, f"    {fact}")
    if plan.actions:
        _line(console, f"    steps: {', '.join(describe(one) for one in plan.actions)}")
        back = f"back to slot {plan.target.other}" if plan.undo else "no way back"
        _line(console, f"    if it fails behind the flip: {back}")


def describe(action: Action) -> str:
    """Return an action as a word or two."""
    name = type(action).__name__.lower()
    if isinstance(action, Restart):
        services = " ".join(one.name for one in action.services)
        return f"{name} {services}".strip()
    return name


def show_result(result: Result) -> None:
    """Show how a rollout ended, grouped by cause."""
    console = _page()
    _show_outcomes(
        console, (*result.outcomes, *result.proposal.refusals, *result.proposal.unreachable)
    )
    _show_spared(console, result.proposal)
    if result.whole_bytes and result.travelled_bytes:
        _line(console, _travelled(result))
    _line(console, f"{_how_it_ended(result)} (exit {result.status})", style="bold")


def _travelled(result: Result) -> str:
    count = sum(bool(one.travelled_bytes) for one in result.outcomes)
    return (
        f"{megabytes(result.travelled_bytes)} travelled to {counted(count, 'host')}; "
        f"whole images would have been {megabytes(result.whole_bytes)}"
    )


def _how_it_ended(result: Result) -> str:
    if result.interrupted is not None:
        return "interrupted"
    if result.exit_code is Exit.LOCKED and result.proposal.refusals:
        return "locked by someone else, nothing was touched"
    return _WORDS[result.exit_code]


def show_users(table: Sequence[str], failures: Sequence[Outcome]) -> None:
    """Show who uses the slots, a line per process."""
    console = _page()
    head, *lines = table
    if lines:
        _line(console, head, style="bold")
    for line in lines:
        _line(console, line)
    if not lines and not failures:
        _line(console, "no process uses a slot")
    _show_outcomes(console, failures)


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Show how something ended on each host."""
    _show_outcomes(_page(), outcomes)


_WORDS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.INTERNAL: "internal error",
    Exit.REFUSED: "refused, nothing was touched",
    Exit.SOME_FAILED: "some hosts failed, within the budget",
    Exit.BUDGET: "stopped: too many hosts failed",
    Exit.ROLLED_BACK: "rolled back: the old image serves",
    Exit.UNREACHABLE: "some hosts are unreachable",
    Exit.LOCKED: "locked by someone else",
    Exit.VERIFICATION: "verification failed",
    Exit.BUILD: "build failed",
    Exit.WOULD_CHANGE: "something would change",
}


def _show_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    causes: dict[tuple[Exit, str, str], list[str]] = {}
    for one in outcomes:
        message = one.message.replace(one.host, "{host}") if one.done else one.message
        causes.setdefault((one.exit_code, message, one.hint), []).append(one.host)
    hints = [hint for _, _, hint in causes]
    for number, ((code, message, hint), hosts) in enumerate(causes.items(), start=1):
        style = "green" if code is Exit.DONE else "red"
        _line(console, f"{' '.join(hosts)}: {message or 'done'}", style=style)
        if hint and hints[number : number + 1] != [hint]:  # of several alike, below the last
            _line(console, f"    {hint}")
    strangers = sum(one.another_key for one in outcomes)
    if strangers:
        shows = "shows" if strangers == 1 else "show"
        text = f"{counted(strangers, 'host')} {shows} another host key: not touched"
        _line(console, text, style="red")


def show_setups(offer: Offer, *, to_stderr: bool = False) -> None:
    """Show what would be set up, a line for each item, and the rollout behind it."""
    console = _page(stderr=to_stderr)
    for name, setup in offer.setups.items():
        what = f"{len(setup.to_do)} to be made" if setup.to_do else "set up already"
        _line(console, f"{name}: {what}", style="bold")
        for text in (*map(provision.describe, setup.items), *setup.notes):
            _line(console, f"    {text}")
    _show_outcomes(console, offer.failures)
    if offer.rollout is not None:
        show_proposal(offer.rollout, to_stderr=to_stderr)
    if offer.failures and offer.refusals:
        _line(console, "nothing is touched on any host")


def show_set_up(done: SetupResult) -> None:
    """Show how setting up ended, and the rollout behind it."""
    _show_outcomes(_page(), done.outcomes)
    if done.rollout is not None:
        show_result(done.rollout)


def show_pack(pack: Pack) -> None:
    """Show a pack that was made."""
    facts = pack.facts
    console = _page()
    _line(console, f"{pack.path}  {size(facts.size_bytes)}  {facts.sha256}")
    _line(
        console,
        f"    {size(facts.literal_bytes)} of {size(facts.new.size_bytes)} are new, "
        f"{size(facts.copied_bytes)} are copied, {counted(facts.moves, 'move')}",
    )


def show_published(to: Path, laid: Sequence[Published]) -> None:
    """Show what lies in the folder of a mirror now."""
    console = _page()
    for one in laid:
        amount, there = size(one.object.size_bytes), "  was there" if one.was_there else ""
        _line(console, f"{to / one.object.sha256}  {amount}  {one.object.what}{there}")


def show_status(fleet: Fleet, probed: Probed, known: Sequence[Release]) -> None:
    """Show what each frontend is now, a line per slot."""
    rows: list[StatusRow] = []
    notes: dict[str, list[str]] = {}
    for host in fleet.hosts:
        if host.name in probed.states:
            slots, state = host.sets[fleet.set_name], probed.states[host.name]
            rows += status_rows(host, slots, state, known)
            for note in status_notes(host, slots, state, known):
                notes.setdefault(note, []).append(host.name)
    console = _page()
    head, *lines = status_table(rows, console.width if console.file.isatty() else None)
    if rows:
        _line(console, head, style="bold")
    for line in lines:
        _line(console, line)
    for note, names in notes.items():
        _line(console, f"{' '.join(names)}: {note}")
    _show_outcomes(console, probed.failures)


def complain(name: str, message: str, hint: str) -> None:
    """Say on stderr why a command failed."""
    console = _page(stderr=True)
    _line(console, f"{name}: {message}", style="red")
    if hint:
        _line(console, f"    {hint}")


def _page(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, color_system=colours(), highlight=False, markup=False)


def colours() -> Literal["auto"] | None:
    """Return what rich is to do: with NO_COLOR neither colours nor bold."""
    return None if os.environ.get("NO_COLOR") else "auto"


def _line(console: Console, text: str, style: str = "") -> None:
    """Write one line; what is not a terminal takes it as it is."""
    if console.file.isatty():
        console.print(Text(text, style=style), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


def print_json(document: Document) -> None:
    """Write one JSON document to stdout."""
    print(json.dumps(document, indent=2))  # noqa: T201 - the result
