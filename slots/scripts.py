"""Scripts for a frontend: the shell that travels, and the programs that stay there.

A script is the set of slots as shell variables, the library of the platform, and one call
(calls.py). It travels on stdin behind a constant command line (`command_line`) that csh, sh and
bash logins all pass on; after it comes the payload, if the verb has one. Every value is quoted, in
what stays by the templates.

A script answers (answers.py) between two marker lines that carry a nonce, so that what noisy login
files print is not taken for an answer, and an answer that was cut off is not taken for success:

    flipslot NONCE begin
    key=value
    flipslot NONCE end STATUS
"""

import gzip
import shlex
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from slots.actions import Arm
from slots.calls import (
    RESTART_TIMEOUT_S,
    call,
    check_function,
    checked,
    guard_call,
    rule_function,
    trial_function,
)
from slots.functions import Part, joined, parts, reached
from slots.platform import PLATFORMS, Platform
from slots.slot import InnerMount, SlotSet

if TYPE_CHECKING:
    from jinja2 import Environment

CORE = ("common/core.sh", "common/slot.sh", "common/probe.sh")
VERBS = (
    "common/verbs.sh",
    "common/users.sh",
    "common/preflight.sh",
    "common/staging.sh",
    "common/patch.sh",
    "common/mirrors.sh",
    "common/guard.sh",
)
LOCAL = (
    "common/boot.sh",
    "common/switch.sh",
    "common/local.sh",
)  # what slotctl has beside the library


def command_line(n_bytes: int) -> str:
    """Return the command line that reads a script of so many bytes from stdin and runs it."""
    return f"exec /bin/sh -c 'eval \"$(dd bs=1 count={n_bytes:d} 2>/dev/null)\"'"


def script(platform: Platform | None, slots: SlotSet, call_: str, nonce: str) -> bytes:
    """Return the whole script; without a platform it can probe alone, and asks uname first."""
    # The last line starts it: one that was cut off defines a few functions and does nothing.
    start = f"flipslot_call() {{\n{call_}\n}}\ntrap 'finish \"$?\"' EXIT; flipslot_main\n"
    verbs = reached(_universal() if platform is None else _library(platform), start)
    text = f"NONCE={checked(nonce)}\n{prelude(slots)}\n\n{verbs}\n{start}"
    return text.encode("utf-8", "surrogateescape")


def slotctl(platform: Platform, sets: Sequence[SlotSet]) -> str:
    """Return the program that a frontend keeps: the library, its sets of slots, a dispatcher."""
    rules = {one.name: rule_function(platform, one.services) for one in sets}
    text = _environment().get_template("slotctl.sh.j2")
    return text.render(
        sets=sets,
        preludes={one.name: prelude(one) for one in sets},
        rules=rules,
        checks={one.name: check_function(one.checks) for one in sets},
        trials={one.name: trial_function(one.preflight) for one in sets},
        library=library(platform) + _source(LOCAL),
        restart_timeout_s=RESTART_TIMEOUT_S,
    )


def prelude(slots: SlotSet) -> str:
    """Return the set of slots as shell variables, and its inner mounts as a function."""
    values = {
        "SET": slots.name,
        "LINK": slots.link,
        "RECORDS": slots.records,
        "STAGING": slots.staging or f"{slots.records}/staging",
    }
    for one in slots.slots:
        values[f"DEVICE_{one.name}"] = one.device
        values[f"MOUNT_{one.name}"] = one.mount_point
        values[f"TARGET_{one.name}"] = slots.target(one.name)
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    mounts = [f'"$1" {shlex.join(_mount_words(one))}' for one in slots.mounts]
    return "\n".join((*lines, "each_inner() {", ":", *mounts, "}", ""))


def _mount_words(mount: InnerMount) -> tuple[str, ...]:
    access = "ro" if mount.read_only else "rw"
    files_ = (word for one in mount.files for word in (one.name, one.source))
    return (mount.kind, mount.at, mount.source, mount.size, mount.mode, access, *files_)


def library(platform: Platform) -> str:
    """Return the sh library of a platform: its PATH and all verbs."""
    return joined(_library(platform))


def _library(platform: Platform) -> list[Part]:
    files_ = _files((*CORE, *platform.facts, *platform.verbs, *VERBS))
    return [Part("", _settings(platform)), *files_]


def _universal() -> list[Part]:
    """Return a library that can only probe, for a host of which nothing is known yet."""
    branches = [
        part
        for platform in PLATFORMS.values()
        if platform.uname
        for part in (
            Part("", f"{platform.uname})\n{_settings(platform)}"),
            *_files(platform.facts),
            Part("", ";;\n"),
        )
    ]
    unknown = (
        "*)\nneed_rights() { "
        'refuse "uname -s says $(uname -s): there is no library for that"; };;\nesac\n'
    )
    return [*_files(CORE), Part("", "case $(uname -s) in\n"), *branches, Part("", unknown)]


def render(template: str, **values: object) -> str:
    """Return a file of its own for a host; every value in it is quoted for the shell."""
    return _environment().get_template(template).render(**values)


def behind(names: tuple[str, ...], call_: str) -> str:
    """Return a call behind library files that travel with it alone."""
    return _source(names) + call_


def _settings(platform: Platform) -> str:
    """Return the platform's row as far as its scripts use it."""
    restarts_by = next(iter(platform.restart), "")
    values = {"RESTARTS_BY": restarts_by, "SLOTCTL": platform.slotctl}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
    return f'PATH="{platform.path}"\n{"".join(lines)}'


def guard_payload(platform: Platform, slots: SlotSet, armed: Arm, token: str) -> bytes:
    """Return the guard that `Arm` sends: a script of its own, gzipped.

    It works under a token of its own, so that whoever armed it loses the lock when it fires.
    """
    own = f"{checked(token)[:63]}0"
    leave = "\n".join(call(platform, one, own) for one in armed.leave)
    text = f"guard_services() {{\n:\n{leave}\n}}\n{guard_call(token, own)}"
    return gzip.compress(script(platform, slots, text, token), mtime=0)


@cache
def _environment() -> "Environment":
    """Return the environment that quotes every value for the shell by itself."""
    # Only what stays on a host is made of templates: most commands do without, and sooner.
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FunctionLoader(_template),
        undefined=StrictUndefined,
        finalize=_quoted,
        autoescape=False,  # noqa: S701 - shell, not HTML: finalize quotes each value for it
        keep_trailing_newline=True,
        trim_blocks=False,
    )
    environment.filters["verbatim"] = Markup
    return environment


def _quoted(value: object) -> str:
    return str(value) if isinstance(value, Markup) else shlex.quote(str(value))


@cache
def _template(name: str) -> str:
    return (files("slots") / "templates" / name).read_text(encoding="utf-8")


def _source(names: tuple[str, ...]) -> str:
    return joined(_files(names))


def _files(names: tuple[str, ...]) -> list[Part]:
    return [part for name in names for part in parts(_template(name))]
