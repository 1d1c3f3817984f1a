"""The options that several commands of `deploy` share, and the exit codes that all of them have."""

from pathlib import Path
from typing import Annotated

import typer

from slots.errors import ConfigError
from slots.slot import SlotName

FLEET = Path("fleet.toml")
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


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - only who asks waits for it

        typer.echo(f"flipslot {version('flipslot')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_tell_version, is_eager=True, help="Tell the version, and end."
    ),
]
Slot = Annotated[
    str, typer.Option("--slot", metavar="A|B|auto", help="The slot; auto: the inactive one.")
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="RELEASE|FILE",
        help="A release's folder, NAME-VERSION, NAME, id, or an image file. Default: the newest.",
    ),
]
Set = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="The set of slots. Default: the inventory's first."),
]
InventoryFile = Annotated[Path, typer.Option("--inventory", help="The inventory.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--hosts",
        metavar="PATTERN",
        help="A name, @tag or glob; ! in front excludes. Default: all.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AllowBad = Annotated[
    bool,
    typer.Option(
        "--allow-bad",
        help="Also serve an image that failed its checks on that slot before (recorded as bad).",
    ),
]
ForceUnmount = Annotated[
    bool,
    typer.Option(
        "--force-unmount",
        help="End what still uses the slot that is to be written (TERM, then KILL).",
    ),
]
Prove = Annotated[
    bool, typer.Option("--prove", help="Read every slot back first, whatever was proven before.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notices.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="The result, or the error, as JSON on stdout.")
]


def slot_named(text: str) -> SlotName | None:
    """Return the slot that an option names; None: it leaves the choice."""
    if text.casefold() == "auto":
        return None
    if text.upper() not in SlotName.__members__:
        raise ConfigError(f"--slot {text}: not one of A, B, auto")
    return SlotName[text.upper()]
