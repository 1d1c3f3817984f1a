"""Scripts for a frontend, and the answers that they print.

A script is the set of slots as shell variables, the library of the platform, and one call. It
travels on stdin behind a constant command line (`COMMAND`) that csh, sh and bash logins all pass
on; after it comes the payload, if the verb has one. Every value is quoted by the templates.

A script answers between two marker lines that carry a nonce, so that what noisy login files print
is not taken for an answer, and an answer that was cut off is not taken for success:

    flipslot NONCE begin
    key=value
    flipslot NONCE end STATUS
"""

import gzip
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil
from typing import assert_never

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from slots import trials
from slots.actions import (
    Arm,
    Confirm,
    Cover,
    Disarm,
    Drain,
    Erase,
    Fill,
    Flip,
    Judge,
    Mount,
    Patch,
    Preflight,
    Prove,
    Restart,
    Seal,
    Unmount,
)
from slots.errors import (
    HostError,
    LockedError,
    LockLostError,
    ProductError,
    Refused,
    RolledBackError,
    VerificationError,
)
from slots.manifest import HEAD_BYTES, Artefact
from slots.platform import PLATFORMS, Platform, rule_command
from slots.rules import acts_by_command
from slots.slot import Service, SlotName, SlotSet
from slots.trials import Trial

HostAction = (
    Unmount
    | Erase
    | Fill
    | Patch
    | Seal
    | Prove
    | Mount
    | Preflight
    | Cover
    | Arm
    | Flip
    | Restart
    | Drain
    | Confirm
    | Judge
    | Disarm
)
"""The actions that are one verb each on the host.

Checks are the deployer's (`check_call`), and so is another way of bytes than a whole `Fill`.
"""

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
LOCAL = ("common/boot.sh", "common/local.sh")  # what slotctl has beside the library
RESTART_TIMEOUT_S = 120
ANSWER_MAX_BYTES = 1 << 20


_TOKEN = re.compile(r"[0-9a-f]{8,64}")
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_.]*)=(.*)", re.DOTALL)


# --- scripts ---------------------------------------------------------------------------------


def COMMAND(n_bytes: int) -> str:  # noqa: N802 - a constant but for one number
    """Return the command line that reads a script of so many bytes from stdin and runs it."""
    return f"exec /bin/sh -c 'eval \"$(dd bs=1 count={n_bytes:d} 2>/dev/null)\"'"


def script(platform: Platform | None, slots: SlotSet, call: str, nonce: str) -> bytes:
    """Return the whole script; without a platform it can probe alone, and asks uname first."""
    text = (
        _environment()
        .get_template("script.sh.j2")
        .render(
            nonce=_checked(nonce),
            slots=slots,
            library=universal_library() if platform is None else library(platform),
            call=call,
        )
    )
    return text.encode("utf-8", "surrogateescape")


def slotctl(platform: Platform, sets: Sequence[SlotSet]) -> str:
    """Return the program that a frontend keeps: the library, its sets of slots, a dispatcher."""
    rules = {one.name: _rules(platform, one.services) for one in sets}
    text = _environment().get_template("slotctl.sh.j2")
    return text.render(
        sets=sets,
        rules=rules,
        trials={one.name: _trials(one.preflight) for one in sets},
        library=library(platform) + _source(LOCAL),
        restart_timeout_s=RESTART_TIMEOUT_S,
    )


def library(platform: Platform) -> str:
    """Return the sh library of a platform: its PATH and all verbs."""
    return _settings(platform) + _source((*CORE, *platform.facts, *platform.verbs, *VERBS))


def universal_library() -> str:
    """Return a library that can only probe, for a host of which nothing is known yet."""
    branches = "".join(
        f"{platform.uname})\n{_settings(platform)}{_source(platform.facts)};;\n"
        for platform in PLATFORMS.values()
        if platform.uname
    )
    unknown = (
        "*)\nneed_rights() { "
        'refuse "uname -s says $(uname -s): there is no library for that"; };;\n'
    )
    return f"{_source(CORE)}case $(uname -s) in\n{branches}{unknown}esac\n"


def render(template: str, **values: object) -> str:
    """Return a file of its own for a host; every value in it is quoted for the shell."""
    return _environment().get_template(template).render(**values)


def behind(names: tuple[str, ...], call: str) -> str:
    """Return a call behind library files that travel with it alone."""
    return _source(names) + call


def _settings(platform: Platform) -> str:
    """Return the platform's row as far as its scripts use it."""
    restarts_by = next(iter(platform.restart), "")
    return f'PATH="{platform.path}"\nRESTARTS_BY={shlex.quote(restarts_by)}\n'


@cache
def _environment() -> Environment:
    """Return the environment that quotes every value for the shell by itself."""
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


@cache
def _source(names: tuple[str, ...]) -> str:
    """Return these library files as they travel: dd reads a script byte by byte."""
    lines = (line.strip() for name in names for line in _template(name).splitlines())
    kept = (line for line in lines if not line.startswith("#") or "shellcheck" in line)
    return "".join(f"{line}\n" for line in kept if line)


def _checked(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{token!r} is not 8 to 64 hexadecimal digits")
    return token


@dataclass(frozen=True, slots=True)
class MirrorReach:
    """Where an object lies, each place to be tried for so long, at this rate (0: any)."""

    urls: tuple[str, ...]
    timeout_s: int
    rate_bytes_per_s: int = 0


# --- calls -----------------------------------------------------------------------------------


def call(platform: Platform, action: HostAction, token: str) -> str:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the call of the verb that does this action, under the lock of this token."""
    own = _checked(token)
    match action:
        case Unmount(slot, force):
            return _words("verb_unmount", own, slot, "force" if force else "clean")
        case Erase(slot):
            return _words("verb_erase", own, slot)
        case Fill(slot, artefact):
            return fill_call(own, slot, artefact)
        case Patch(slot, artefact, pack_sha256, old_sha256):
            _has_head(artefact.size_bytes)
            made = (artefact.size_bytes, artefact.sha256)
            return _words("verb_patch", own, slot, *made, old_sha256, pack_sha256)
        case Seal(slot, artefact, release):
            _has_head(artefact.size_bytes)
            return _words(
                *("verb_seal", own, slot, release, artefact.format, artefact.size_bytes),
                *(artefact.sha256, artefact.head_sha256),
            )
        case Prove(slot, release, format_, size_bytes, sha256, head_sha256):
            image = (release, format_, size_bytes, sha256, head_sha256)
            return _words("verb_prove", own, slot, *image)
        case Mount(slot, format_):
            return _words("verb_mount", own, slot, format_)
        case Arm(slot, release, seconds, _):
            return _words("verb_arm", own, slot.other, seconds, release)
        case Preflight(slot, tried):
            return _by_trials(tried, "verb_preflight", own, slot)
        case Flip(slot):
            return _words("verb_flip", own, slot)
        case Confirm():
            return _words("verb_confirm", own)
        case Disarm():
            return _words("verb_disarm", own)
        case Cover(slot, services):
            return _by_rules(platform, services, "verb_cover", own, slot)
        case Restart(left, services, uncovered):
            words = ("verb_restart", own, left, RESTART_TIMEOUT_S, uncovered)
            return _by_rules(platform, services, *words)
        case Drain(left, services, deadline_s):
            return _by_rules(platform, services, "verb_drain", own, left, ceil(deadline_s))
        case Judge(slot, verdict):
            return _words("verb_judge", own, slot, verdict)
        case _:
            assert_never(action)


def guard_payload(platform: Platform, slots: SlotSet, armed: Arm, token: str) -> bytes:
    """Return the guard that `Arm` sends: a script of its own, gzipped.

    It works under a token of its own, so that whoever armed it loses the lock when it fires.
    """
    own = f"{_checked(token)[:63]}0"
    leave = "\n".join(call(platform, one, own) for one in armed.leave)
    text = f"guard_services() {{\n{leave}\n}}\n{_words('verb_guard', token, own)}"
    return gzip.compress(script(platform, slots, text, token), mtime=0)


def probe_call(services: tuple[Service, ...] = ()) -> str:
    """Return the call that asks for everything a `FrontendState` holds."""
    lines = [
        '"$1" ' + _words(one.name, *one.command[:1]) for one in services if acts_by_command(one)
    ]
    return "\n".join(("each_restart() {", ":", *lines, "}", "verb_probe"))


def staged_call(pack_sha256: str) -> str:
    """Return the call that asks how much of a pack is staged, and how much room is left there."""
    return _words("verb_staged", pack_sha256)


def stage_call(token: str, pack_sha256: str, size_bytes: int, offset: int) -> str:
    """Return the call that takes a pack from this offset on as payload, and checks the whole."""
    return _words("verb_stage", _checked(token), pack_sha256, size_bytes, offset)


def fetch_call(token: str, pack_sha256: str, size_bytes: int, reach: MirrorReach) -> str:
    """Return the call that brings a pack from the first mirror that has it, and checks it."""
    return _words("verb_fetch", _checked(token), pack_sha256, size_bytes, *_reach(reach))


def filled_call(slot: SlotName, sha256: str) -> str:
    """Return the call that asks up to which byte a cut transfer of this image got."""
    return _words("verb_filled", slot, sha256)


def fill_call(token: str, slot: SlotName, artefact: Artefact, offset: int = HEAD_BYTES) -> str:
    """Return the call that takes the image from this offset on as payload, into the slot."""
    _has_head(artefact.size_bytes)
    image = (artefact.size_bytes, artefact.sha256)
    return _words("verb_fill", _checked(token), slot, *image, offset)


def pull_call(token: str, slot: SlotName, artefact: Artefact, reach: MirrorReach) -> str:
    """Return the call that fills the slot from the first mirror that has the image."""
    _has_head(artefact.size_bytes)
    image = (artefact.size_bytes, artefact.sha256)
    return _words("verb_pull", _checked(token), slot, *image, *_reach(reach))


def _reach(reach: MirrorReach) -> tuple[object, ...]:
    return (f"{reach.timeout_s:d}", reach.rate_bytes_per_s, *reach.urls)


def lock_call(holder: str, token: str) -> str:
    """Return the call that takes the lock and holds it until its stdin ends."""
    return _words("verb_lock", _checked(token), " ".join(holder.split()) or "unknown")


def unlock_call() -> str:
    """Return the call that removes the lock and ends whoever still works under it."""
    return "verb_unlock"


def users_call(slot: SlotName) -> str:
    """Return the call that lists the processes that use a slot."""
    return _words("verb_users", slot)


def check_call(argv: Sequence[str], timeout_s: float) -> str:
    """Return the call that runs one command on the host, no longer than this."""
    return _words("verb_check", f"{timeout_s:g}", *argv)


def _by_rules(platform: Platform, services: tuple[Service, ...], *words: object) -> str:
    """Return a call with the rules before it."""
    return f"{_rules(platform, services)}\n{_words(*words)}"


def _rules(platform: Platform, services: tuple[Service, ...]) -> str:
    """Return the rules as a function, in order: fields, processes, command."""
    lines = [
        '"$1" '
        + _words(
            *(one.name, one.treatment, "always" if one.always else "if-used"),
            *(ceil(one.deadline_s), one.user, len(one.processes)),
            *(*one.processes, *rule_command(platform, one)),
        )
        for one in services
    ]
    return "\n".join(("each_service() {", ":", *lines, "}"))


def _by_trials(tried: tuple[Trial, ...], *words: object) -> str:
    """Return a call with what is to be tried before it."""
    return f"{_trials(tried)}\n{_words(*words)}"


def _trials(tried: tuple[Trial, ...]) -> str:
    """Return what is to be tried as a function, in order."""
    lines = ['"$1" ' + _words(*trials.words(one)) for one in tried]
    return "\n".join(("each_trial() {", ":", *lines, "}"))


def _words(*words: object) -> str:
    return shlex.join(str(word) for word in words)


def _has_head(size_bytes: int) -> None:
    if size_bytes < HEAD_BYTES:
        raise Refused(
            f"the artefact has {size_bytes} bytes, less than an image's head of {HEAD_BYTES}",
            hint="build it again: artefacts are padded to whole heads",
        )


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script printed. Without its end marker it is not complete, and no success."""

    status: int  # of the verb; -1 if the answer is not complete
    values: tuple[tuple[str, str], ...]
    complete: bool

    def first(self, key: str, default: str = "") -> str:
        """Return the first value of this key."""
        return next((value for name, value in self.values if name == key), default)

    def all(self, key: str) -> tuple[str, ...]:
        """Return the values of this key, in order."""
        return tuple(value for name, value in self.values if name == key)


def answer(stdout: bytes, nonce: str) -> Answer:
    """Return the answer in what a host printed; HostError if its inside is not one."""
    if len(stdout) > ANSWER_MAX_BYTES:
        raise HostError(f"the host answered more than {ANSWER_MAX_BYTES} bytes")
    begin = f"flipslot {_checked(nonce)} begin"
    lines = stdout.decode("utf-8", "replace").split("\n")
    if begin not in lines:
        return Answer(-1, (), complete=False)
    end = re.compile(rf"flipslot {nonce} end ([0-9]+)")
    values: list[tuple[str, str]] = []
    inside = lines[lines.index(begin) + 1 :]
    for number, line in enumerate(inside, start=1):
        if ended := end.fullmatch(line):
            return Answer(int(ended[1]), tuple(values), complete=True)
        if number < len(inside):  # the last piece has no newline: it may be half a line
            values.append(_value(line))
    return Answer(-1, tuple(values), complete=False)


def begun(stdout: bytes, nonce: str) -> tuple[tuple[str, str], ...]:
    """Return the values so far of an answer that goes on: how a taken lock is seen."""
    return answer(stdout, nonce).values


def error_of(answer: Answer, host: str) -> ProductError | None:
    """Return the error that an answer stands for, or None if the verb did its work."""
    if not answer.complete:
        return HostError(f"{host}: the connection ended before the verb did")
    text = (answer.all("error") or ("no reason given",))[-1]
    message = f"{host}: {text}"
    hint = answer.first("hint")
    if answer.status == 0:
        return None
    return _ERRORS.get(answer.status, HostError)(message, hint=hint)


_ERRORS: dict[int, type[ProductError]] = {
    20: Refused,
    22: LockedError,
    23: VerificationError,
    24: LockLostError,
    25: RolledBackError,
}


def _value(line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise HostError(f"the host answered {_printable(line)[:80]!r}, which is not key=value")
    return found[1], _printable(found[2])


def _printable(text: str) -> str:
    """Return the text without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
