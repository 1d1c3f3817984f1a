"""The command line: deploy, and beside it rollback, status, plan, unlock. Parse, call, exit."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from deployer import console, releases
from deployer.deploy import Fleet, Proposal, Wish, fleet, probe_all, propose, roll_out, unlock
from deployer.inventory import load
from deployer.plan import Goal
from deployer.ssh import connect
from slots.errors import ConfigError, Exit, Refused, worst
from slots.events import Emit
from slots.slot import SlotName

RELEASES = Path("images/out")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Deploy a read-only image to the inactive slot of every frontend and serve it.",
)


class SlotChoice(StrEnum):
    """Which slot to deploy to."""

    A = "A"
    B = "B"
    AUTO = "auto"


SlotOption = Annotated[
    SlotChoice, typer.Option("--slot", case_sensitive=False, help="The slot to deploy to.")
]
ImageOption = Annotated[
    str | None,
    typer.Option("--image", help="A release, its name, or an image file. Default: the newest."),
]
SetOption = Annotated[
    str | None, typer.Option("--set", help="The set of slots. Default: the inventory's first.")
]
InventoryOption = Annotated[Path, typer.Option("--inventory", help="The inventory.")]
HostsOption = Annotated[
    list[str] | None,
    typer.Option("--hosts", metavar="PATTERN", help="A name, @tag or glob; ! in front excludes."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AllowBadOption = Annotated[
    bool, typer.Option("--allow-bad", help="Also an image that is recorded as bad on its slot.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]

FLEET = Path("fleet.toml")


@app.callback(invoke_without_command=True)
def deploy(  # noqa: PLR0917 - typer makes options of them
    context: typer.Context,
    slot: SlotOption = SlotChoice.AUTO,
    image: ImageOption = None,
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    allow_bad: AllowBadOption = False,
    json_: JsonOption = False,
) -> None:
    """Write a release into the inactive slot of every frontend, prove it, and serve it."""
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    wish = Wish(Goal.DEPLOY, _slot(slot), image, allow_bad)
    _rollout(wish, inventory, hosts, set_, dry_run=dry_run, yes=yes, as_json=json_)


@app.command()
def rollback(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    allow_bad: AllowBadOption = False,
    json_: JsonOption = False,
) -> None:
    """Serve what the other slot of every frontend holds, after proving it."""
    wish = Wish(Goal.ROLLBACK, allow_bad=allow_bad)
    _rollout(wish, inventory, hosts, set_, dry_run=dry_run, yes=yes, as_json=json_)


@app.command()
def status(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    json_: JsonOption = False,
) -> None:
    """Ask every frontend what it serves now, and whether a rollback is ready."""
    with console.sink() as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        states, failures = probe_all(ours)
    known = releases.known(RELEASES)
    if json_:
        console.print_json(console.status_json(ours.hosts, ours.set_name, states, failures, known))
    else:
        console.show_status(ours.hosts, ours.set_name, states, failures, known)
    raise typer.Exit(int(worst(one.exit_code for one in failures)))


@app.command()
def plan(  # noqa: PLR0917 - typer makes options of them
    slot: SlotOption = SlotChoice.AUTO,
    image: ImageOption = None,
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan as JSON to this file.")
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 10 if something would change.")
    ] = False,
    allow_bad: AllowBadOption = False,
    json_: JsonOption = False,
) -> None:
    """Show what `deploy` would do now, and change nothing."""
    wish = Wish(Goal.DEPLOY, _slot(slot), image, allow_bad)
    with console.sink() as emit:
        proposal = propose(_fleet(inventory, hosts, set_, emit), wish, RELEASES)
    if output is not None:
        _write(output, json.dumps(console.proposal_json(proposal), indent=2) + "\n")
    _show(proposal, as_json=json_)
    code = _proposal_code(proposal)
    if check and code is Exit.DONE and proposal.to_do:
        code = Exit.WOULD_CHANGE
    raise typer.Exit(int(code))


@app.command(name="unlock")
def unlock_command(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove the lock of a set on the frontends, and end the work that holds it."""
    with console.sink() as emit:
        ours = _fleet(inventory, hosts, set_, emit)
    names = ", ".join(host.name for host in ours.hosts)
    _ask(f"End whatever is at work on {ours.set_name} of {names}?", yes=yes)
    with console.sink() as emit:
        outcomes = unlock(replace(ours, emit=emit))
    if json_:
        console.print_json(console.outcomes_json("flipslot.unlock/1", ours.set_name, outcomes))
    else:
        console.show_outcomes(outcomes)
    raise typer.Exit(int(worst(one.exit_code for one in outcomes)))


def main() -> None:
    """Run the command line and exit."""
    code = run(sys.argv[1:])
    if code == console.INTERRUPTED:  # threads that a second Ctrl-C did not wait for end here
        console.leave(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return console.run("deploy", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except TyperException as error:
        raise ConfigError(error.format_message(), hint="see `deploy --help`") from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error


def _rollout(
    wish: Wish,
    inventory: Path,
    hosts: list[str] | None,
    set_: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    with console.sink() as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        proposal = propose(ours, wish, RELEASES)
    if dry_run:
        _show(proposal, as_json=as_json)
        raise typer.Exit(int(_proposal_code(proposal)))
    if proposal.to_do and not proposal.refusals:
        console.show_proposal(proposal, to_stderr=as_json)
        count = len(proposal.to_do)
        _ask(f"Go on with {count} host{'s' if count != 1 else ''}?", yes=yes)
    with console.sink() as emit:
        result = roll_out(replace(ours, emit=emit), proposal)
    if as_json:
        console.print_json(console.result_json(result))
    else:
        console.show_result(result)
    raise typer.Exit(console.INTERRUPTED if result.interrupted else int(result.exit_code))


def _fleet(inventory: Path, hosts: list[str] | None, set_: str | None, emit: Emit) -> Fleet:
    return fleet(load(inventory), hosts or (), set_, connect, emit)


def _slot(choice: SlotChoice) -> SlotName | None:
    return None if choice is SlotChoice.AUTO else SlotName(choice.value)


def _show(proposal: Proposal, *, as_json: bool) -> None:
    if as_json:
        console.print_json(console.proposal_json(proposal))
    else:
        console.show_proposal(proposal)


def _proposal_code(proposal: Proposal) -> Exit:
    return worst(one.exit_code for one in (*proposal.refusals, *proposal.unreachable))


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("this asks for confirmation, and there is no terminal", hint="add --yes")
    if not typer.confirm(question, err=True):
        raise Refused("not confirmed, nothing was touched")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _refuse_misplaced(context: typer.Context) -> None:
    """Refuse an option of `deploy` in front of another command: it would be lost silently."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}",
                hint=f"write `deploy {context.invoked_subcommand} {parameter.opts[0]} …`",
            )
