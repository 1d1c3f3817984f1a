"""How commands of `deploy` are led: whom they are about, what is shown and asked, how they end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import typer

from deployer import console, documents
from deployer.deploy import Proposal, Wish, propose, roll_out
from deployer.documents import Document
from deployer.fleet import Fleet, fleet_of, keeping
from deployer.fleet_file import load
from deployer.live import sink
from deployer.options import RELEASES
from deployer.rollout import Outcome
from deployer.ssh import connect
from deployer.wording import counted
from slots.errors import Exit, Refused, worst
from slots.events import Emit


@dataclass(frozen=True, slots=True)
class Manner:
    """How a rollout is run: what the admin wants to be asked and told."""

    dry_run: bool
    yes: bool
    quiet: bool
    as_json: bool


def rollout(
    wish: Wish, inventory: Path, hosts: list[str] | None, set_: str | None, run_as: Manner
) -> None:
    """Propose, show, ask, and roll out; `--dry-run` ends before the question."""
    as_json = run_as.as_json
    with sink(quiet=run_as.quiet, looks=run_as.dry_run) as emit:
        ours = fleet(inventory, hosts, set_, emit)
        ours = ours if run_as.dry_run else keeping(ours)
        proposal = propose(ours, wish, RELEASES)
    if run_as.dry_run:
        show(proposal, as_json=as_json)
        raise typer.Exit(int(proposal_code(proposal)))
    if proposal.to_do and not proposal.refusals:
        console.show_proposal(proposal, to_stderr=as_json)
        ask(f"Go on with {counted(len(proposal.to_do), 'host')}?", yes=run_as.yes)
    with sink(quiet=run_as.quiet) as emit:
        result = roll_out(replace(ours, emit=emit), proposal)
    if as_json:
        console.print_json(documents.deploy(result))
    else:
        console.show_result(result)
    raise typer.Exit(result.status)


def fleet(inventory: Path, hosts: list[str] | None, set_: str | None, emit: Emit) -> Fleet:
    """Return the hosts and the set that a command is about."""
    return fleet_of(load(inventory), hosts or (), set_, connect, emit)


def show(proposal: Proposal, *, as_json: bool) -> None:
    """Show what would be done."""
    if as_json:
        console.print_json(documents.plan(proposal))
    else:
        console.show_proposal(proposal)


def end(document: Document, outcomes: Sequence[Outcome], *, as_json: bool) -> NoReturn:
    """Tell how something ended on each host, and leave with the worst of it."""
    if as_json:
        console.print_json(document)
    else:
        console.show_outcomes(outcomes)
    raise typer.Exit(int(worst(one.exit_code for one in outcomes)))


def proposal_code(proposal: Proposal) -> Exit:
    """Return the exit code of what was only looked at."""
    return worst(one.exit_code for one in (*proposal.refusals, *proposal.unreachable))


def ask(question: str, *, yes: bool) -> None:
    """Ask, if nobody said yes before; raises Refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("this asks for confirmation, and there is no terminal", hint="add --yes")
    if not typer.confirm(question, err=True):
        raise Refused("not confirmed, nothing was touched")
