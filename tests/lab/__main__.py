"""`make lab` and `make lab-down`: real frontends to try things on."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from tests.lab.chroot import recipe_text, small_chroot
from tests.lab.disks import MIB
from tests.lab.frontends import PROJECT, LabSettings, is_up, leftovers, start, stop, why_not
from tests.lab.network import ADMIN, namespace
from tests.lab.processes import LabError

FOLDER = PROJECT / "lab"
PREFIX = "flipslot"
README = """\
{count} frontends are up: {names}; the admin box's network is the namespace {admin}.
Their inventory is {folder}/fleet.toml; root logs in with {folder}/id_ed25519.

  {folder}/deploy status                          # .venv/bin/deploy, from the admin box
  make image RECIPE={folder}/site.toml         # a small chroot to deploy, {folder}/site
  {folder}/deploy --slot B --yes
  {folder}/admin curl http://10.77.0.11/cgi-bin/version
  {folder}/admin ssh -F {folder}/ssh_config www1   # look around on a frontend
  {folder}/deploy rollback --yes
  {down}   # ends all of it
"""
DEPLOY = """\
#!/bin/sh
# `deploy` on the lab's admin box, with the lab's inventory.
exec ip netns exec {admin} {project}/.venv/bin/deploy "$@" --inventory {folder}/fleet.toml
"""
RUN = """\
#!/bin/sh
# Any command on the lab's admin box.
exec ip netns exec {admin} "$@"
"""


def main() -> int:
    """Start or end the lab; say what to do next."""
    arguments = _arguments()
    settings = LabSettings(
        folder=arguments.folder,
        prefix=arguments.prefix,
        frontends=arguments.frontends,
        slot_bytes=arguments.slot_mib * MIB,
        shells=tuple(arguments.shell or ["/bin/bash"]),
        noisy=arguments.noisy,
    )
    try:
        return _up(settings) if arguments.command == "up" else _down(settings)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--prefix", default=PREFIX, help="tells several labs apart")
    parser.add_argument("--frontends", type=int, default=4)
    parser.add_argument("--slot-mib", type=int, default=1024)
    parser.add_argument("--shell", action="append", help="root's login shell; repeat to vary")
    parser.add_argument("--noisy", action="store_true", help="start files that talk")
    return parser.parse_args()


def _up(settings: LabSettings) -> int:
    began = time.monotonic()
    if is_up(settings):
        print((settings.folder / "README").read_text(), end="")
        return 0
    start(settings)
    names = {
        "admin": namespace(settings.prefix, ADMIN),
        "folder": settings.folder,
        "project": PROJECT,
    }
    text = README.format(
        count=settings.frontends,
        names=", ".join(settings.numbers),
        down=_down_command(settings),
        **names | {"folder": os.path.relpath(settings.folder)},
    )
    (settings.folder / "README").write_text(text)
    site = small_chroot(settings.folder / "site", "1.0")
    recipe = recipe_text("site", site, "1.0", ("squashfs", "uzip"), level=3)
    (settings.folder / "site.toml").write_text(recipe)
    for name, script in {"deploy": DEPLOY, "admin": RUN}.items():
        (settings.folder / name).write_text(script.format(**names))
        (settings.folder / name).chmod(0o755)
    print(f"{text}\nup in {time.monotonic() - began:.1f} s")
    return 0


def _down_command(settings: LabSettings) -> str:
    """Return what ends this very lab: `make lab-down` knows only the usual one."""
    if settings.prefix == PREFIX and settings.folder == FOLDER:
        return "make lab-down"
    words = ("--prefix", settings.prefix, "--folder", os.path.relpath(settings.folder))
    return f".venv/bin/python -m tests.lab down {shlex.join(words)}"


def _down(settings: LabSettings) -> int:
    if reason := why_not():
        raise LabError(reason)
    stop(settings)
    if left := leftovers(settings.prefix):
        raise LabError(f"still there: {'; '.join(left)}")
    print("the lab is down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
