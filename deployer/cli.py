"""The command line: deploy and the commands beside it. Parse, call, exit."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from deployer import console, documents, ending, packs, publish, releases, setup, users
from deployer.confirm import confirm
from deployer.deploy import (
    Fleet,
    Proposal,
    Wish,
    fleet,
    keeping,
    probe_all,
    propose,
    roll_out,
    unlock,
)
from deployer.documents import Document
from deployer.durable import replaceable, written
from deployer.fleet_file import load
from deployer.live import sink
from deployer.plan import Goal
from deployer.prove import prove_all
from deployer.rollout import Outcome
from deployer.ssh import connect
from slots.errors import ConfigError, Exit, Refused, worst
from slots.events import Emit
from slots.slot import SlotName

RELEASES = Path("images/out")

EXIT_CODES = """\b
Exit codes:
  0 done, or nothing to do        5 rolled back: the old image serves
  1 internal: a bug               6 only: a host did not answer, or is not let in or trusted
  2 refused, nothing was touched  7 locked by someone else
  3 some hosts failed, in budget  8 verification failed
  4 stopped by the budget         10 plan --check: something would change
  129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM
"""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _slot(text: str) -> SlotName | None:
    if text.casefold() == "auto":
        return None
    if text.upper() not in SlotName.__members__:
        raise ConfigError(f"--slot {text}: not one of A, B, auto")
    return SlotName[text.upper()]


SlotOption = Annotated[
    str, typer.Option("--slot", metavar="A|B|auto", help="The slot; auto: the inactive one.")
]
ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="RELEASE|FILE",
        help="A release's folder, NAME, NAME-VERSION, or an image file. Default: the newest.",
    ),
]
SetOption = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="The set of slots. Default: the inventory's first."),
]
InventoryOption = Annotated[Path, typer.Option("--inventory", help="The inventory.")]
HostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--hosts",
        metavar="PATTERN",
        help="A name, @tag or glob; ! in front excludes. Default: all.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AllowBadOption = Annotated[
    bool,
    typer.Option(
        "--allow-bad",
        help="Also serve an image that failed its checks on that slot before (recorded as bad).",
    ),
]
ForceUnmountOption = Annotated[
    bool,
    typer.Option(
        "--force-unmount",
        help="End what still uses the slot that is to be written (TERM, then KILL).",
    ),
]
ProveOption = Annotated[
    bool, typer.Option("--prove", help="Read every slot back first, whatever was proven before.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notices.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The result, or the error, as JSON on stdout.")
]

FLEET = Path("fleet.toml")


@app.callback(invoke_without_command=True, epilog=EXIT_CODES)
def deploy(  # noqa: PLR0917 - typer makes options of them
    context: typer.Context,
    slot: SlotOption = "auto",
    image: ImageOption = None,
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    allow_bad: AllowBadOption = False,
    force_unmount: ForceUnmountOption = False,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Write a release into the inactive slot of every frontend, prove it, and serve it.

    \b
    deploy --dry-run                          what would be done, nothing is changed
    deploy --slot B                           the newest release to slot B of all frontends
    deploy --image cgi-7 --hosts @canary      one release, some frontends
    deploy --yes --json --hosts '!www3'       for scripts: does not ask, result as JSON
    deploy --allow-bad --hosts www1           once more what failed its checks there
    """  # noqa: D301 - \b keeps the lines of the examples
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    wish = Wish(Goal.DEPLOY, _slot(slot), image, allow_bad, force_unmount)
    run_as = Manner(dry_run, yes, quiet, json_)
    _rollout(wish, inventory, hosts, set_, run_as)


@app.command(epilog=EXIT_CODES)
def rollback(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    allow_bad: AllowBadOption = False,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Serve what the other slot of every frontend holds, after proving it.

    \b
    deploy rollback --dry-run
    deploy rollback --yes --hosts www1
    """  # noqa: D301 - \b keeps the lines of the examples
    wish = Wish(Goal.ROLLBACK, allow_bad=allow_bad)
    run_as = Manner(dry_run, yes, quiet, json_)
    _rollout(wish, inventory, hosts, set_, run_as)


@app.command(epilog=EXIT_CODES)
def status(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    prove: ProveOption = False,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Ask every frontend what it serves now, and whether a rollback is ready.

    \b
    deploy status
    deploy status --prove
    deploy status --hosts '@canary' --json
    """  # noqa: D301 - \b keeps the lines of the examples
    with sink(quiet=quiet, looks=True) as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        known = releases.known(RELEASES)
        unproven = prove_all(ours, known) if prove else ()
        answers = probe_all(ours)
        damaged = tuple(one for one in unproven if one.host in answers.states)
        answers = replace(answers, failures=(*answers.failures, *damaged))
    if json_:
        console.print_json(documents.status(ours, answers, known))
    else:
        console.show_status(ours, answers, known)
    raise typer.Exit(int(worst(one.exit_code for one in answers.failures)))


@app.command(epilog=EXIT_CODES)
def ps(
    slot: Annotated[
        str, typer.Option("--slot", metavar="A|B", help="Only this slot. Default: both.")
    ] = "auto",
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Show every process that uses a slot, and which rule of the inventory deals with it.

    \b
    deploy ps --slot A
    deploy ps --hosts '@canary' --json
    """  # noqa: D301 - \b keeps the lines of the examples
    with sink(quiet=quiet, looks=True) as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        found, failures = users.ask_users(ours, _slot(slot))
    if json_:
        console.print_json(documents.ps(ours, found, failures))
    else:
        names = [host.name for host in ours.hosts]
        console.show_users(users.users_table(names, found, time.time()), failures)
    raise typer.Exit(int(worst(one.exit_code for one in failures)))


@app.command(epilog=EXIT_CODES)
def plan(  # noqa: PLR0917 - typer makes options of them
    slot: SlotOption = "auto",
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
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Show what `deploy` would do now, and change nothing.

    \b
    deploy plan --slot B
    deploy plan --check --quiet               exit 10 if something would change
    deploy plan -o plan.json
    """  # noqa: D301 - \b keeps the lines of the examples
    wish = Wish(Goal.DEPLOY, _slot(slot), image, allow_bad)
    with sink(quiet=quiet, looks=True) as emit:
        proposal = propose(_fleet(inventory, hosts, set_, emit), wish, RELEASES)
    if output is not None:
        _write(output, json.dumps(documents.plan(proposal), indent=2) + "\n")
    _show(proposal, as_json=json_)
    code = _proposal_code(proposal)
    if check and code is Exit.DONE and proposal.to_do:
        code = Exit.WOULD_CHANGE
    raise typer.Exit(int(code))


@app.command(name="confirm", epilog=EXIT_CODES)
def confirm_command(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Let what serves now stay, after a deploy that was cut: no guard goes back any more.

    \b
    deploy confirm --hosts www1
    """  # noqa: D301 - \b keeps the lines of the examples
    with sink(quiet=quiet) as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        outcomes = confirm(ours)
    _end(documents.confirm(ours, outcomes), outcomes, as_json=json_)


@app.command(epilog=EXIT_CODES)
def provision(
    image: ImageOption = None,
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    no_image: Annotated[
        bool, typer.Option("--no-image", help="Without the rollout behind it.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Set new frontends up: folders, slotctl, what calls it at boot; then the newest release.

    The slots' partitions must be there. What is as it should be is left alone.

    \b
    deploy provision --hosts www9 --dry-run   what would be made
    deploy provision --hosts www9 --yes
    deploy provision --no-image               all frontends anew, without a rollout
    """  # noqa: D301 - \b keeps the lines of the examples
    if image is not None and no_image:
        raise ConfigError("--image and --no-image contradict each other")
    wish = None if no_image else Wish(Goal.DEPLOY, image=image)
    with sink(quiet=quiet, looks=dry_run) as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        offer = setup.offer(ours, wish, RELEASES)
    if not json_ or not (dry_run or offer.refusals):
        console.show_setups(offer, to_stderr=json_)
    if dry_run or offer.refusals:
        if json_:
            console.print_json(documents.provision(ours, offer, None))
        raise typer.Exit(int(offer.exit_code))
    if offer.changes:
        count = len(offer.setups)
        _ask(f"Go on with {count} host{'s' if count != 1 else ''}?", yes=yes)
    with sink(quiet=quiet) as emit:
        done = setup.set_up(replace(ours, emit=emit), offer)
    if json_:
        console.print_json(documents.provision(ours, offer, done))
    else:
        console.show_set_up(done)
    raise typer.Exit(done.status)


@app.command(name="unlock", epilog=EXIT_CODES)
def unlock_command(
    set_: SetOption = None,
    inventory: InventoryOption = FLEET,
    hosts: HostsOption = None,
    *,
    yes: YesOption = False,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove the lock of a set on the frontends, and end the work that holds it.

    \b
    deploy unlock --hosts www1
    """  # noqa: D301 - \b keeps the lines of the examples
    ours = _fleet(inventory, hosts, set_, lambda _: None)
    names = ", ".join(host.name for host in ours.hosts)
    _ask(f"End whatever is at work on {ours.set_name} of {names}?", yes=yes)
    with sink(quiet=quiet) as emit:
        outcomes = unlock(replace(ours, emit=emit))
    _end(documents.unlock(ours, outcomes), outcomes, as_json=json_)


@app.command(epilog=EXIT_CODES)
def pack(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A release, as --image names it.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one that shall come of it.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file. Default: kept where `deploy` finds it."),
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Which, if both have several.")
    ] = None,
    *,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Make the pack that turns one release into another: what of it travels.

    A deploy makes the packs that it needs by itself.

    \b
    deploy pack cgi-1 cgi-2
    deploy pack cgi-1 cgi-2 --format uzip -o update.pack
    """  # noqa: D301 - \b keeps the lines of the examples
    place = None if output is None else replaceable(output)
    with sink(quiet=quiet, looks=True) as emit:
        before, after = releases.find(old, RELEASES), releases.find(new, RELEASES)
        held, artefact = packs.in_common(before, after, format_)
        releases.verify(after, frozenset({artefact.format}))
        made = packs.difference(before, held, after, artefact)
        image = after.path(artefact)
        found = packs.make(made, image, place or packs.kept_at(RELEASES, made), emit)
    if json_:
        console.print_json(documents.pack(found))
    else:
        console.show_pack(found)


@app.command(name="publish", epilog=EXIT_CODES)
def publish_command(
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="The folder of a mirror.")],
    image: ImageOption = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="OLD", help="Packs from this release. Default: from all older ones."
        ),
    ] = None,
    *,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Lay a release, and the packs that lead to it, into a folder that a mirror serves.

    Every object is named by its SHA-256 and never changes.

    \b
    deploy publish --to /srv/mirror
    deploy publish --image cgi-7 --from cgi-6 --to /media/usb
    """  # noqa: D301 - \b keeps the lines of the examples
    if not to.strip():
        raise ConfigError("--to is empty", hint="name the folder of a mirror; . is this one")
    folder = Path(to)
    with sink(quiet=quiet, looks=True) as emit:
        found = releases.find(image, RELEASES)
        releases.verify(found, frozenset(one.format for one in found.artefacts))
        olds = [releases.find(old, RELEASES) for old in from_ or ()]
        before = olds or publish.older(RELEASES, found)
        laid = publish.publish(found, before, RELEASES, folder, emit)
    if json_:
        console.print_json(documents.publish(found.release, folder, laid))
    else:
        console.show_published(folder, laid)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a rollout is run: what the admin wants to be asked and told."""

    dry_run: bool
    yes: bool
    quiet: bool
    as_json: bool


def main() -> None:
    """Run the command line and exit; threads that a second Ctrl-C did not wait for end here."""
    ending.open_closed_streams()
    ending.end_softly()
    ending.leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return ending.run("deploy", lambda: _run(arguments), as_json="--json" in arguments)


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
    run_as: Manner,
) -> None:
    as_json = run_as.as_json
    with sink(quiet=run_as.quiet, looks=run_as.dry_run) as emit:
        ours = _fleet(inventory, hosts, set_, emit)
        ours = ours if run_as.dry_run else keeping(ours)
        proposal = propose(ours, wish, RELEASES)
    if run_as.dry_run:
        _show(proposal, as_json=as_json)
        raise typer.Exit(int(_proposal_code(proposal)))
    if proposal.to_do and not proposal.refusals:
        console.show_proposal(proposal, to_stderr=as_json)
        count = len(proposal.to_do)
        _ask(f"Go on with {count} host{'s' if count != 1 else ''}?", yes=run_as.yes)
    with sink(quiet=run_as.quiet) as emit:
        result = roll_out(replace(ours, emit=emit), proposal)
    if as_json:
        console.print_json(documents.deploy(result))
    else:
        console.show_result(result)
    raise typer.Exit(result.status)


def _fleet(inventory: Path, hosts: list[str] | None, set_: str | None, emit: Emit) -> Fleet:
    return fleet(load(inventory), hosts or (), set_, connect, emit)


def _show(proposal: Proposal, *, as_json: bool) -> None:
    if as_json:
        console.print_json(documents.plan(proposal))
    else:
        console.show_proposal(proposal)


def _end(document: Document, outcomes: Sequence[Outcome], *, as_json: bool) -> NoReturn:
    """Tell how something ended on each host, and leave with the worst of it."""
    if as_json:
        console.print_json(document)
    else:
        console.show_outcomes(outcomes)
    raise typer.Exit(int(worst(one.exit_code for one in outcomes)))


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
    try:
        with written(replaceable(path)) as file:
            file.write(text.encode())
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
