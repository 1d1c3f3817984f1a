"""Calls: one line of shell that runs a verb of the library with its values, each of them quoted.

What is named `…_call` is asked or done beside the actions of a plan. Rules and trials go before a
call, as a function of their own.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import assert_never

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
    HostAction,
    Judge,
    Mount,
    Patch,
    Preflight,
    Prove,
    Restart,
    Seal,
    Unmount,
)
from slots.checks import CommandCheck, Level
from slots.errors import Refused
from slots.manifest import HEAD_BYTES, Artefact
from slots.platform import Platform, rule_command
from slots.rules import acts_by_command
from slots.slot import Service, SlotName
from slots.trials import Trial

RESTART_TIMEOUT_S = 120  # for each service

_TOKEN = re.compile(r"[0-9a-f]{8,64}")


def checked(token: str) -> str:
    """Return a token or nonce, which goes into scripts as it is."""
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{token!r} is not 8 to 64 hexadecimal digits")
    return token


@dataclass(frozen=True, slots=True)
class MirrorReach:
    """Where an object lies, each place to be tried for so long, at this rate (0: any)."""

    urls: tuple[str, ...]
    timeout_s: int
    rate_bytes_per_s: int = 0


def guard_call(token: str, own: str) -> str:
    """Return the call of the guard armed under this token; it works under one of its own."""
    return _words("verb_guard", checked(token), checked(own))


def call(platform: Platform, action: HostAction, token: str) -> str:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the call of the verb that does this action, under the lock of this token."""
    own = checked(token)
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


def probe_call(services: tuple[Service, ...] = ()) -> str:
    """Return the call that asks for everything a `FrontendState` holds."""
    lines = [
        '"$1" ' + _words(one.name, *one.command[:1]) for one in services if acts_by_command(one)
    ]
    return "\n".join(("each_restart() {", ":", *lines, "}", "verb_probe"))


def stage_call(token: str, pack_sha256: str, size_bytes: int, offset: int) -> str:
    """Return the call that takes a pack from this offset on as payload, and checks the whole."""
    return _words("verb_stage", checked(token), pack_sha256, size_bytes, offset)


def fetch_call(token: str, pack_sha256: str, size_bytes: int, reach: MirrorReach) -> str:
    """Return the call that brings a pack from the first mirror that has it, and checks it."""
    return _words("verb_fetch", checked(token), pack_sha256, size_bytes, *_reach(reach))


def fill_call(token: str, slot: SlotName, artefact: Artefact, offset: int = HEAD_BYTES) -> str:
    """Return the call that takes the image from this offset on as payload, into the slot."""
    _has_head(artefact.size_bytes)
    image = (artefact.size_bytes, artefact.sha256)
    return _words("verb_fill", checked(token), slot, *image, offset)


def pull_call(
    token: str, slot: SlotName, artefact: Artefact, reach: MirrorReach, offset: int = HEAD_BYTES
) -> str:
    """Return the call that fills the slot from this offset on, from the first mirror that can."""
    _has_head(artefact.size_bytes)
    image = (artefact.size_bytes, artefact.sha256)
    return _words("verb_pull", checked(token), slot, *image, offset, *_reach(reach))


def erase_call(token: str, slot: SlotName, artefact: Artefact, reach: MirrorReach) -> str:
    """Return the call that erases a slot if a mirror has the image that is to be pulled into it."""
    own = checked(token)
    return _words("verb_erase", own, slot, artefact.head_sha256, *_reach(reach))


def _reach(reach: MirrorReach) -> tuple[object, ...]:
    return (f"{reach.timeout_s:d}", reach.rate_bytes_per_s, *reach.urls)


def lock_call(holder: str, token: str) -> str:
    """Return the call that takes the lock and holds it until its stdin ends."""
    return _words("verb_lock", *_holding(holder, token))


def lock_and_probe_call(holder: str, token: str, services: tuple[Service, ...]) -> str:
    """Return the call that takes the lock, probes behind it, and holds it until its stdin ends."""
    return trip((_words("take_lock", *_holding(holder, token)), probe_call(services), "hold_lock"))


def _holding(holder: str, token: str) -> tuple[str, str]:
    return checked(token), " ".join(holder.split()) or "unknown"


def trip(calls: Sequence[str]) -> str:
    """Return several calls as one: each is run if those before it did their work."""
    return "\ndid\n".join(calls)


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
    return f"{rule_function(platform, services)}\n{_words(*words)}"


def rule_function(platform: Platform, services: tuple[Service, ...]) -> str:
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
    return f"{trial_function(tried)}\n{_words(*words)}"


def trial_function(tried: tuple[Trial, ...]) -> str:
    """Return what is to be tried as a function, in order."""
    lines = ['"$1" ' + _words(*trials.words(one)) for one in tried]
    return "\n".join(("each_trial() {", ":", *lines, "}"))


def check_function(checks: tuple[CommandCheck, ...]) -> str:
    """Return the checks that run on the host as a function, what decides first."""
    first = sorted(checks, key=lambda one: one.level is Level.WANTED)
    lines = [
        '"$1" ' + _words(one.level, max(1, ceil(one.deadline_s)), *one.command) for one in first
    ]
    return "\n".join(("each_check() {", ":", *lines, "}"))


def _words(*words: object) -> str:
    return shlex.join(str(word) for word in words)


def _has_head(size_bytes: int) -> None:
    if size_bytes < HEAD_BYTES:
        raise Refused(
            f"the artefact has {size_bytes} bytes, less than an image's head of {HEAD_BYTES}",
            hint="build it again: artefacts are padded to whole heads",
        )
