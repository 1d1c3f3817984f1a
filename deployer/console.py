"""What an admin sees: a live table on a terminal, JSON lines without one; the results; the errors.

The only module of the deployer that writes to the terminal.
"""

import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from stat import S_ISCHR
from typing import Any, Literal, NoReturn, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deployer import provision
from deployer.deploy import Fleet, Proposal, Result
from deployer.image import identify
from deployer.inventory import Host
from deployer.packs import Pack
from deployer.plan import Plan, rollback_hindrance, told
from deployer.publish import Published
from deployer.rollout import Outcome, interruption_code
from deployer.setup import Offer, SetUp
from deployer.sizes import megabytes, percent
from slots.actions import Action, Restart
from slots.errors import Exit, ProductError
from slots.events import Emit, Event, Failed, Finished, Notice, Progress, Started
from slots.manifest import Release
from slots.pack import PackFacts
from slots.settings import SettingsError
from slots.slot import FrontendState, SlotSet, SlotStatus, active

TELL_EVERY_S = 1.0
ERROR_SCHEMA = "flipslot.error/1"
BROKEN_PIPE = 141  # as a shell tells of who was ended by SIGPIPE
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


# --- sinks ---


@contextmanager
def sink(*, quiet: bool = False, looks: bool = False) -> Iterator[Emit]:
    """Return where events go: a live table if stderr is a terminal, else JSON lines.

    A command that only `looks` writes no line for each step of its looking, only notices.
    """
    if quiet:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield JsonLines(notices_only=looks)
        return
    table = LiveTable()
    console = Console(stderr=True, color_system=_colours())
    with Live(
        get_renderable=table.render, console=console, refresh_per_second=8, transient=True
    ) as live:
        table.live = live
        yield table


class JsonLines:
    """One JSON object per event on stderr; progress at most once a second for each host."""

    def __init__(self, *, notices_only: bool = False) -> None:
        self._notices_only = notices_only
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write one event; a reader who has gone does not end the work."""
        if self._notices_only and not isinstance(event, Notice):
            return
        if isinstance(event, Failed) and threading.current_thread() is threading.main_thread():
            return  # a step of the whole: its error ends the command, which tells it
        with self._lock, suppress(OSError):
            if isinstance(event, Progress):
                now = time.monotonic()
                if now - self._told.get(event.subject, 0.0) < TELL_EVERY_S:
                    return
                self._told[event.subject] = now
            kind = type(event).__name__.lower()
            line = json.dumps({"event": kind, **asdict(event)}, separators=(",", ":"))
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - a sink


@dataclass(slots=True)
class Row:
    """What the live table shows of one host."""

    step: str = ""
    since: float = field(default_factory=time.monotonic)
    total_bytes: int | None = None
    done_bytes: int = 0
    detail: str = ""
    failed: bool = False


class LiveTable:
    """A row per host: step, bytes, rate, time left."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._rows: dict[str, Row] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            match event:
                case Started(step, subject, total):
                    self._rows[subject] = Row(step, total_bytes=total)
                case Progress(_, done, subject):
                    self._rows.setdefault(subject, Row()).done_bytes = done
                case Finished(_, subject, detail):
                    self._rows.setdefault(subject, Row()).detail = detail or "done"
                case Failed(_, message, subject):
                    row = self._rows.setdefault(subject, Row())
                    row.detail, row.failed = message, True
                case Notice(message, subject):
                    self._notice(message, subject)

    def _notice(self, message: str, subject: str) -> None:
        if self.live is None:
            return
        with suppress(OSError):  # the terminal has gone
            self.live.console.print(Text(f"{subject}: {message}" if subject else message))

    def render(self) -> Group:
        """Return the table as it is now."""
        table = Table(box=None, pad_edge=False, show_header=True)
        for name in ("host", "step", "", "rate", "left", ""):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        with self._lock:
            for subject, row in self._rows.items():
                table.add_row(*_cells(subject, row))
        return Group(table)


def _cells(subject: str, row: Row) -> tuple[Text, ...]:
    spent = max(0.001, time.monotonic() - row.since)
    amount, rate, left = "", "", ""
    if row.total_bytes:
        speed = row.done_bytes / spent
        amount = f"{megabytes(row.done_bytes)} of {megabytes(row.total_bytes)}"
        rate = f"{megabytes(int(speed))}/s" if row.done_bytes else ""
        left = f"{(row.total_bytes - row.done_bytes) / speed:.0f} s" if row.done_bytes else ""
    style = "red" if row.failed else ""
    words = (subject, row.step, amount, rate, left, row.detail)
    return tuple(Text(word, style=style) for word in words)


# --- results on stdout ---


def show_proposal(proposal: Proposal, *, to_stderr: bool = False) -> None:
    """Show what would be done, host by host."""
    console = _console(stderr=to_stderr)
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
    console = _console()
    _show_outcomes(
        console, (*result.outcomes, *result.proposal.refusals, *result.proposal.unreachable)
    )
    _show_spared(console, result.proposal)
    if result.whole_bytes:
        _line(console, _travelled(result))
    _line(console, f"{_how_it_ended(result)} (exit {result.status})", style="bold")


def _travelled(result: Result) -> str:
    count = sum(bool(one.travelled_bytes) for one in result.outcomes)
    hosts = "1 host" if count == 1 else f"{count} hosts"
    return (
        f"{megabytes(result.travelled_bytes)} travelled to {hosts}; "
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
    console = _console()
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
    _show_outcomes(_console(), outcomes)


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
    for (code, message, hint), hosts in causes.items():
        style = "green" if code is Exit.DONE else "red"
        _line(console, f"{' '.join(hosts)}: {message or 'done'}", style=style)
        if hint:
            _line(console, f"    {hint}")
    strangers = sum(one.another_key for one in outcomes)
    if strangers:
        shows = "1 host shows" if strangers == 1 else f"{strangers} hosts show"
        _line(console, f"{shows} another host key: not touched", style="red")


def show_setups(offer: Offer, *, to_stderr: bool = False) -> None:
    """Show what would be set up, a line for each item, and the rollout behind it."""
    console = _console(stderr=to_stderr)
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


def show_set_up(done: SetUp) -> None:
    """Show how setting up ended, and the rollout behind it."""
    _show_outcomes(_console(), done.outcomes)
    if done.rollout is not None:
        show_result(done.rollout)


def setups_json(fleet: Fleet, offer: Offer, done: SetUp | None) -> dict[str, Any]:
    """Return what was or would be set up as flipslot.provision/1."""
    ended = {one.host: one for one in (done.outcomes if done else offer.failures)}
    documents = []
    for host in fleet.hosts:
        setup = offer.setups.get(host.name)
        items = [provision.item_json(one) for one in setup.items] if setup else []
        notes = list(setup.notes) if setup else []
        document = {"name": host.name, "items": items, "notes": notes}
        documents.append(document | _outcome_json(ended.get(host.name)))
    rollout = None
    if done is not None and done.rollout is not None:
        rollout = result_json(done.rollout)
    elif offer.rollout is not None:
        rollout = proposal_json(offer.rollout)
    return {
        "schema": "flipslot.provision/1",
        "set": fleet.set_name,
        "exit_code": done.status if done else int(offer.exit_code),
        "hosts": documents,
        "rollout": rollout,
    }


def show_pack(pack: Pack) -> None:
    """Show a pack that was made."""
    facts = pack.facts
    console = _console()
    _line(console, f"{pack.path}  {megabytes(facts.size_bytes)}  {facts.sha256}")
    _line(
        console,
        f"    {megabytes(facts.literal_bytes)} of {megabytes(facts.new.size_bytes)} are new, "
        f"{megabytes(facts.copied_bytes)} are copied, {facts.moves:,} moves",
    )


def show_published(to: Path, laid: Sequence[Published]) -> None:
    """Show what lies in the folder of a mirror now."""
    console = _console()
    for one in laid:
        size, there = megabytes(one.object.size_bytes), "  was there" if one.was_there else ""
        _line(console, f"{to / one.object.sha256}  {size}  {one.object.what}{there}")


def show_status(
    hosts: Sequence[Host],
    set_name: str,
    states: Mapping[str, FrontendState],
    failures: Sequence[Outcome],
    known: Sequence[Release],
) -> None:
    """Show what each frontend is now, a line per slot."""
    rows: list[StatusRow] = []
    notes: dict[str, list[str]] = {}
    for host in hosts:
        if host.name in states:
            slots, state = host.sets[set_name], states[host.name]
            rows += _status_rows(host, slots, state, known)
            for note in _status_notes(slots, state, known):
                notes.setdefault(note, []).append(host.name)
    console = _console()
    head, *lines = status_table(rows, console.width if console.file.isatty() else None)
    if rows:
        _line(console, head, style="bold")
    for line in lines:
        _line(console, line)
    for note, names in notes.items():
        _line(console, f"{' '.join(names)}: {note}")
    _show_outcomes(console, failures)


StatusRow = Mapping[str, str]
STATUS_COLUMNS = (
    "host", "slot", "serves", "state", "rollback",
    "image", "verdict", "mount", "full", "digest", "format",
)  # fmt: skip
LEFT_OUT_FIRST = ("format", "digest", "full", "mount", "verdict", "image")
GAP = "  "


def status_table(rows: Sequence[StatusRow], width: int | None) -> list[str]:
    """Return the head and a line per row; what a narrow terminal has no room for is left out."""
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows)) if rows else len(name)
        for name in STATUS_COLUMNS
    }
    left_out: list[str] = []
    for name in LEFT_OUT_FIRST:
        if width is None or sum(widths.values()) + len(GAP) * (len(widths) - 1) <= width:
            break
        del widths[name]
        left_out.append(name)
    heads = {name: name for name in widths}
    lines = [
        GAP.join(row[name].ljust(room) for name, room in widths.items()).rstrip()
        for row in (heads, *rows)
    ]
    if left_out:
        lines.append(f"(no room here for {', '.join(reversed(left_out))}; --json has all)")
    return lines


def _status_rows(
    host: Host, slots: SlotSet, state: FrontendState, known: Sequence[Release]
) -> Iterator[StatusRow]:
    served = active(slots, state)
    ready = rollback_hindrance(slots, state, known) is None
    for status in state.statuses:
        name = status.slot.name
        image = identify(status, known)
        lost = " (record lost)" if image is not None and status.holds is None else ""
        mount = "mounted" if status.mounted else "not mounted"
        yield {
            "host": host.name,
            "slot": str(name),
            "serves": "active" if name is served else "-",
            "state": str(status.state),
            "rollback": "-" if name is served else "ready" if ready else "no",
            "image": f"{image.release}{lost}" if image else "-",
            "verdict": str(status.verdict or "-"),
            "mount": "wrong" if status.mount_note else mount,
            "full": f"{percent(image.size_bytes, status.size_bytes)} %" if image else "-",
            "digest": f"{image.sha256[:12]}{_proof(status, state)}" if image else "-",
            "format": image.format if image else "-",
        }


def _status_notes(slots: SlotSet, state: FrontendState, known: Sequence[Release]) -> Iterator[str]:
    """Yield what is too long for the table."""
    if state.guard is not None:
        yield told(state.guard)
    hindrance = rollback_hindrance(slots, state, known)
    if hindrance is not None:
        yield f"no rollback: {hindrance}"
    for status in state.statuses:
        if status.mount_note:
            yield f"slot {status.slot.name}: {status.mount_note}"
        if status.missing_mounts:
            yield f"slot {status.slot.name} lacks its mount {', '.join(status.missing_mounts)}"


def _proof(status: SlotStatus, state: FrontendState) -> str:
    if status.damaged:
        return " damaged"
    age_s = proof_age_s(status, state)
    return " unproven" if age_s is None else f" proven {ago(age_s)}"


def proof_age_s(status: SlotStatus, state: FrontendState) -> int | None:
    """Return how long ago the slot was read back, by the host's own clock; None: unproven."""
    if not status.proven or status.proof is None:
        return None
    return max(0, state.clock_epoch_s - status.proof.at_epoch_s)


def ago(age_s: int) -> str:
    """Return a time that has passed as an admin says it."""
    for unit_s, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if age_s >= 2 * unit_s:
            return f"{age_s // unit_s} {name} ago"
    return f"{age_s} s ago"


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, color_system=_colours(), highlight=False, markup=False)


def _colours() -> Literal["auto"] | None:
    """Return what rich is to do: with NO_COLOR neither colours nor bold."""
    return None if os.environ.get("NO_COLOR") else "auto"


def _line(console: Console, text: str, style: str = "") -> None:
    """Write one line; what is not a terminal takes it as it is."""
    if console.file.isatty():
        console.print(Text(text, style=style), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


# --- results as JSON ---


def print_json(document: Mapping[str, Any]) -> None:
    """Write one JSON document to stdout."""
    print(json.dumps(document, indent=2))  # noqa: T201 - the result


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as flipslot.plan/1."""
    release = proposal.found.release if proposal.found else None
    outcomes = {one.host: one for one in (*proposal.refusals, *proposal.unreachable)}
    return {
        "schema": "flipslot.plan/1",
        "goal": str(proposal.wish.goal),
        "set": proposal.set_name,
        "release": {"id": release.id, "label": release.label} if release else None,
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "plan": _plan_json(proposal.plans.get(host.name)),
                **_outcome_json(outcomes.get(host.name)),
            }
            for host in proposal.hosts
        ],
    }


def result_json(result: Result) -> dict[str, Any]:
    """Return how a rollout ended as flipslot.deploy/1."""
    document = proposal_json(result.proposal)
    ended = {one.host: one for one in result.outcomes}
    for host in document["hosts"]:
        outcome = ended.get(host["name"])
        if outcome is not None:
            host.update(_outcome_json(outcome))
        host["travelled_bytes"] = outcome.travelled_bytes if outcome else None
    return {
        **document,
        "schema": "flipslot.deploy/1",
        "exit_code": result.status,
        "travelled_bytes": result.travelled_bytes,
        "whole_bytes": result.whole_bytes,
        "interrupted": result.interrupted is not None,
    }


def outcomes_json(schema: str, set_name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return how something ended on each host."""
    hosts = [{"name": one.host, **_outcome_json(one)} for one in outcomes]
    return {"schema": schema, "set": set_name, "hosts": hosts}


def status_json(
    hosts: Sequence[Host],
    set_name: str,
    states: Mapping[str, FrontendState],
    failures: Sequence[Outcome],
    known: Sequence[Release],
) -> dict[str, Any]:
    """Return what each frontend is now as flipslot.status/1."""
    failed = {one.host: one for one in failures}
    documents = []
    for host in hosts:
        document: dict[str, Any] = {"name": host.name, "address": host.address}
        if host.name in states:
            document |= _state_json(host.sets[set_name], states[host.name], known)
        documents.append(document | _outcome_json(failed.get(host.name)))
    return {"schema": "flipslot.status/1", "set": set_name, "hosts": documents}


def _state_json(slots: SlotSet, state: FrontendState, known: Sequence[Release]) -> dict[str, Any]:
    served = active(slots, state)
    hindrance = rollback_hindrance(slots, state, known)
    return {
        "platform": state.platform,
        "active": str(served) if served else None,
        "link": {"path": slots.link, "kind": str(state.link_kind), "target": state.link_target},
        "formats": list(state.formats),
        "missing_commands": list(state.missing),
        "lock": asdict(state.lock) if state.lock else None,
        "guard": asdict(state.guard) if state.guard else None,
        "slots": {str(one.slot.name): _slot_json(one, state, known) for one in state.statuses},
        "rollback": {"ready": hindrance is None, "why_not": hindrance},
    }


def _slot_json(
    status: SlotStatus, state: FrontendState, known: Sequence[Release]
) -> dict[str, Any]:
    image = identify(status, known)
    return {
        "device": status.slot.device,
        "device_kind": str(status.device_kind),
        "size_bytes": status.size_bytes,
        "mount_point": status.slot.mount_point,
        "mounted": status.mounted,
        "mount_note": status.mount_note,
        "state": str(status.state),
        "image": asdict(image) if image else None,
        "recorded": status.holds is not None,
        "proven_at_epoch_s": status.proof.at_epoch_s if status.proof and status.proven else None,
        "proof_age_s": proof_age_s(status, state),
        "damaged": status.damaged,
        "missing_mounts": list(status.missing_mounts),
        "verdict": str(status.verdict) if status.verdict else None,
    }


def _plan_json(plan: Plan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "active": str(plan.active) if plan.active else None,
        "target": str(plan.target),
        "image": asdict(plan.image),
        "sends_bytes": plan.sends_bytes,
        "way": _way(plan),
        "why": plan.choice.why if plan.choice else None,
        "pack": _pack_json(plan),
        "actions": [type(one).__name__.lower() for one in plan.actions],
        "undo": [type(one).__name__.lower() for one in plan.undo],
        "facts": list(plan.facts),
    }


def _way(plan: Plan) -> str | None:
    if plan.choice is None:
        return None
    return "whole" if plan.choice.pack is None else "pack"


def _pack_json(plan: Plan) -> dict[str, Any] | None:
    pack = plan.choice.pack if plan.choice else None
    if pack is None:
        return None
    return _facts_json(pack)


def _facts_json(pack: PackFacts) -> dict[str, Any]:
    return {
        "sha256": pack.sha256,
        "size_bytes": pack.size_bytes,
        "old_sha256": pack.old.sha256,
        "new_sha256": pack.new.sha256,
        "image_bytes": pack.new.size_bytes,
        "moves": pack.moves,
        "copied_bytes": pack.copied_bytes,
        "literal_bytes": pack.literal_bytes,
    }


def pack_json(pack: Pack) -> dict[str, Any]:
    """Return a pack that was made as flipslot.pack/1."""
    return {"schema": "flipslot.pack/1", "file": str(pack.path), **_facts_json(pack.facts)}


def published_json(release: Release, to: Path, laid: Sequence[Published]) -> dict[str, Any]:
    """Return what was published as flipslot.publish/1."""
    return {
        "schema": "flipslot.publish/1",
        "release": {"id": release.id, "label": release.label},
        "to": str(to),
        "objects": [
            {
                "sha256": one.object.sha256,
                "size_bytes": one.object.size_bytes,
                "what": one.object.what,
                "was_there": one.was_there,
            }
            for one in laid
        ],
    }


def _outcome_json(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"exit_code": None, "message": "", "hint": "", "seconds": None}
    return {
        "exit_code": int(outcome.exit_code),
        "message": outcome.message,
        "hint": outcome.hint,
        "seconds": round(outcome.seconds, 3),
    }


# --- errors ---


def run(name: str, command: Callable[[], int], *, as_json: bool = False) -> int:
    """Run a command line and return its exit code; an expected error is one line and a hint."""
    try:
        code = command()
        sys.stdout.flush()  # what cannot be written is told here, not at the interpreter's end
    except ProductError as error:
        _complain(name, error.message, error.hint)
        return _end(error_json(error), int(error.exit_code), as_json=as_json)
    except KeyboardInterrupt as cause:
        code = interruption_code(cause)
        _complain(name, "interrupted", "")
        return _end(_error_json("Interrupted", "interrupted", code), code, as_json=as_json)
    except OSError as error:
        return _unwritable(name, error)
    except Exception:  # noqa: BLE001 - a bug: its traceback is what we want to see
        return _bug(name)
    return code


def _unwritable(name: str, error: OSError) -> int:
    """Return the exit code where our own output fails; any other OSError is a bug."""
    if error.errno == errno.EPIPE:
        _forget(sys.stdout)
        return BROKEN_PIPE
    if error.errno not in UNWRITABLE:
        return _bug(name)
    _forget(sys.stdout)
    _complain(name, f"the output cannot be written: {error.strerror}", "")
    return int(Exit.INTERNAL)


def _bug(name: str) -> int:
    with suppress(OSError):
        traceback.print_exc()
    _complain(name, "internal error; the traceback above is a bug", "")
    return int(Exit.INTERNAL)


def _end(document: Mapping[str, Any], code: int, *, as_json: bool) -> int:
    """Tell a failed command's end to who reads JSON; return its exit code."""
    try:
        if as_json:
            print_json(document)
        sys.stdout.flush()
    except OSError:
        _forget(sys.stdout)
    return code


def error_json(error: ProductError) -> dict[str, Any]:
    """Return an error as flipslot.error/1; of a settings file each fault by itself."""
    document = _error_json(
        type(error).__name__, error.message, int(error.exit_code), hint=error.hint
    )
    if isinstance(error, SettingsError):
        document["faults"] = list(error.faults)
    return document


def _error_json(kind: str, message: str, code: int, hint: str = "") -> dict[str, Any]:
    return {
        "schema": ERROR_SCHEMA,
        "error": kind,
        "message": message,
        "hint": hint,
        "exit_code": code,
    }


def leave(code: int) -> NoReturn:
    """End the process at once, whatever other threads do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def forget_lost_terminals() -> None:
    """Turn to /dev/null what was a terminal and has hung up: no summary may fail on it."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed already
            if S_ISCHR(os.fstat(stream.fileno()).st_mode) and not stream.isatty():
                _forget(stream)


def open_closed_streams() -> None:
    """Give ourselves something to write to where the caller gave us nothing (`>&-`)."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _forget(stream: TextIO) -> None:
    """Let nothing that is still buffered fail again at the interpreter's end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream.fileno())


def _complain(name: str, message: str, hint: str) -> None:
    console = _console(stderr=True)
    try:
        _line(console, f"{name}: {message}", style="red")
        if hint:
            _line(console, f"    {hint}")
        sys.stderr.flush()
    except OSError:
        _forget(sys.stderr)
