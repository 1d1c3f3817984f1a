"""The command line: deploy and the commands beside it. Parse, call, exit."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from deployer import (
    console,
    documents,
    ending,
    leading,
    options,
    packs,
    publish,
    releases,
    setup,
    users,
)
from deployer.confirm import confirm
from deployer.deploy import Wish, propose
from deployer.durable import replaceable, write_text
from deployer.fleet import probe_all
from deployer.live import sink
from deployer.options import EXIT_CODES, FLEET, RELEASES, slot_named
from deployer.plan import Goal
from deployer.prove import prove_all
from deployer.unlock import unlock
from deployer.wording import counted
from slots.errors import ConfigError, Exit, worst
from slots.words import refuse_empty

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True, epilog=EXIT_CODES)
def deploy(
    context: typer.Context,
    slot: options.Slot = "auto",
    image: options.Image = None,
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    allow_bad: options.AllowBad = False,
    force_unmount: options.ForceUnmount = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
    version: options.Version = False,
) -> None:
    """Write a release into the inactive slot of every frontend, prove it, and serve it.

    \b
    deploy --dry-run                          what would be done, nothing is changed
    deploy --slot B                           the newest release to slot B of all frontends
    deploy --image cgi-7 --hosts @canary      one release, some frontends
    deploy --yes --json --hosts '!www3'       for scripts: does not ask, result as JSON
    deploy --allow-bad --hosts www1           once more what failed its checks there
    """
    del version  # its callback answered
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    wish = Wish(Goal.DEPLOY, slot_named(slot), image, allow_bad, force_unmount)
    run_as = leading.Manner(dry_run, yes, quiet, json_)
    leading.rollout(wish, inventory, hosts, set_, run_as)


@app.command(epilog=EXIT_CODES, short_help="Serve what the other slot holds, proven first.")
def rollback(
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    allow_bad: options.AllowBad = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Serve what the other slot of every frontend holds, after proving it.

    \b
    deploy rollback --dry-run
    deploy rollback --yes --hosts www1
    """
    wish = Wish(Goal.ROLLBACK, allow_bad=allow_bad)
    run_as = leading.Manner(dry_run, yes, quiet, json_)
    leading.rollout(wish, inventory, hosts, set_, run_as)


@app.command(epilog=EXIT_CODES, short_help="What every frontend serves now; is a rollback ready?")
def status(
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    prove: options.Prove = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Ask every frontend what it serves now, and whether a rollback is ready.

    \b
    deploy status
    deploy status --prove
    deploy status --hosts '@canary' --json
    """
    with sink(quiet=quiet, looks=True) as emit:
        ours = leading.fleet(inventory, hosts, set_, emit)
        known = releases.known(RELEASES)
        unproven = prove_all(ours, known) if prove else ()
        probed = probe_all(ours)
        damaged = tuple(one for one in unproven if one.host in probed.states)
        probed = replace(probed, failures=(*probed.failures, *damaged))
    if json_:
        console.print_json(documents.status(ours, probed, known))
    else:
        console.show_status(ours, probed, known)
    raise typer.Exit(int(worst(one.exit_code for one in probed.failures)))


@app.command(epilog=EXIT_CODES, short_help="Who uses the slots, and which rule deals with it.")
def ps(
    slot: Annotated[
        str, typer.Option("--slot", metavar="A|B", help="Only this slot.", show_default="both")
    ] = "auto",
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Show every process that uses a slot, and which rule of the inventory deals with it.

    \b
    deploy ps --slot A
    deploy ps --hosts '@canary' --json
    """
    with sink(quiet=quiet, looks=True) as emit:
        ours = leading.fleet(inventory, hosts, set_, emit)
        found, failures = users.ask_users(ours, slot_named(slot))
    if json_:
        console.print_json(documents.ps(ours, found, failures))
    else:
        names = [host.name for host in ours.hosts]
        console.show_users(users.users_table(names, found, time.time()), failures)
    raise typer.Exit(int(worst(one.exit_code for one in failures)))


@app.command(epilog=EXIT_CODES, short_help="What `deploy` would do now; changes nothing.")
def plan(
    slot: options.Slot = "auto",
    image: options.Image = None,
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan as JSON to this file.")
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 10 if something would change.")
    ] = False,
    allow_bad: options.AllowBad = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Show what `deploy` would do now, and change nothing.

    \b
    deploy plan --slot B
    deploy plan --check --quiet               exit 10 if something would change
    deploy plan -o plan.json
    """
    wish = Wish(Goal.DEPLOY, slot_named(slot), image, allow_bad)
    with sink(quiet=quiet, looks=True) as emit:
        proposal = propose(leading.fleet(inventory, hosts, set_, emit), wish, RELEASES)
    if output is not None:
        write_text(output, json.dumps(documents.plan(proposal), indent=2) + "\n")
    leading.show(proposal, as_json=json_)
    code = leading.proposal_code(proposal)
    if check and code is Exit.DONE and proposal.to_do:
        code = Exit.WOULD_CHANGE
    raise typer.Exit(int(code))


@app.command(
    name="confirm", epilog=EXIT_CODES, short_help="Let what serves now stay: no guard goes back."
)
def confirm_command(
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Let what serves now stay, after a deploy that was cut: no guard goes back any more.

    \b
    deploy confirm --hosts www1
    """
    with sink(quiet=quiet) as emit:
        ours = leading.fleet(inventory, hosts, set_, emit)
        outcomes = confirm(ours)
    leading.end(documents.confirm(ours, outcomes), outcomes, as_json=json_)


@app.command(epilog=EXIT_CODES, short_help="Set new frontends up, then the newest release.")
def provision(
    image: options.Image = None,
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    no_image: Annotated[
        bool, typer.Option("--no-image", help="Without the rollout behind it.")
    ] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Set new frontends up: folders, slotctl, what calls it at boot; then the newest release.

    The slots' partitions must be there. What is as it should be is left alone.

    \b
    deploy provision --hosts www9 --dry-run   what would be made
    deploy provision --hosts www9 --yes
    deploy provision --no-image               all frontends anew, without a rollout
    """
    if image is not None and no_image:
        raise ConfigError("--image and --no-image contradict each other")
    wish = None if no_image else Wish(Goal.DEPLOY, image=image)
    with sink(quiet=quiet, looks=dry_run) as emit:
        ours = leading.fleet(inventory, hosts, set_, emit)
        offer = setup.offer(ours, wish, RELEASES)
    if not json_ or not (dry_run or offer.refusals):
        console.show_setups(offer, to_stderr=json_)
    if dry_run or offer.refusals:
        if json_:
            console.print_json(documents.provision(ours, offer, None))
        raise typer.Exit(int(offer.exit_code))
    if offer.changes:
        leading.ask(f"Go on with {counted(len(offer.setups), 'host')}?", yes=yes)
    with sink(quiet=quiet) as emit:
        done = setup.set_up(replace(ours, emit=emit), offer)
    if json_:
        console.print_json(documents.provision(ours, offer, done))
    else:
        console.show_set_up(done)
    raise typer.Exit(done.status)


@app.command(name="unlock", epilog=EXIT_CODES, short_help="Remove the lock of a deploy that died.")
def unlock_command(
    set_: options.Set = None,
    inventory: options.InventoryFile = FLEET,
    hosts: options.Hosts = None,
    *,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Remove the lock of a set on the frontends, and end the work that holds it.

    \b
    deploy unlock --hosts www1
    """
    ours = leading.fleet(inventory, hosts, set_, lambda _: None)
    names = ", ".join(host.name for host in ours.hosts)
    leading.ask(f"End whatever is at work on {ours.set_name} of {names}?", yes=yes)
    with sink(quiet=quiet) as emit:
        outcomes = unlock(replace(ours, emit=emit))
    leading.end(documents.unlock(ours, outcomes), outcomes, as_json=json_)


@app.command(epilog=EXIT_CODES, short_help="Make the pack that turns one release into another.")
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
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Make the pack that turns one release into another: what of it travels.

    A deploy makes the packs that it needs by itself.

    \b
    deploy pack cgi-1 cgi-2
    deploy pack cgi-1 cgi-2 --format uzip -o update.pack
    """
    place = None if output is None else replaceable(output)
    with sink(quiet=quiet, looks=True) as emit:
        before, after = releases.find(old, RELEASES), releases.find(new, RELEASES)
        found = packs.between(before, after, format_, RELEASES, emit, place=place)
    if json_:
        console.print_json(documents.pack(found))
    else:
        console.show_pack(found)


@app.command(
    name="publish", epilog=EXIT_CODES, short_help="Lay a release and its packs out for mirrors."
)
def publish_command(
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="The folder of a mirror.")],
    image: options.Image = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="OLD", help="Packs from this release. Default: from all older ones."
        ),
    ] = None,
    *,
    quiet: options.Quiet = False,
    json_: options.AsJson = False,
) -> None:
    """Lay a release, and the packs that lead to it, into a folder that a mirror serves.

    Every object is named by its SHA-256 and never changes.

    \b
    deploy publish --to /srv/mirror
    deploy publish --image cgi-7 --from cgi-6 --to /media/usb
    """
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


def main() -> None:
    """Run the command line and exit; threads that a second Ctrl-C did not wait for end here."""
    ending.prepare_streams()
    ending.end_softly()
    ending.leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return ending.run("deploy", lambda: _run(arguments), as_json="--json" in arguments)


def _run(arguments: Sequence[str]) -> int:
    """Run it as typer itself would, but for a closed pipe: that is ours to tell."""
    try:
        refuse_empty("deploy", arguments)
        with get_command(app).make_context("deploy", [*arguments]) as context:
            context.command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as error:
        asked = getattr(error, "ctx", None)
        which = asked.command_path if asked else "deploy"
        raise ConfigError(error.format_message(), hint=f"see `{which} --help`") from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return int(Exit.DONE)


def _refuse_misplaced(context: typer.Context) -> None:
    """Refuse an option of `deploy` in front of another command: it would be lost silently."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}",
                hint=f"write `deploy {context.invoked_subcommand} {parameter.opts[0]} …`",
            )
