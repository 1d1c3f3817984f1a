"""What a command answers to `--json`: the document flipslot.NAME/1 is made by the function NAME.

Pure. docs/deploy.md names every field; none is ever removed or given another meaning under the
same number (tests/test_documents.py).
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployer.deploy import Proposal, Result
from deployer.fleet import Fleet, Probed
from deployer.image import identify, same_bytes
from deployer.inventory import Host
from deployer.packs import Pack
from deployer.plan import Plan, rollback_hindrance
from deployer.provision import Enabled, Folder, Item, Program
from deployer.publish import Published
from deployer.rollout import Outcome
from deployer.setup import Offer, SetupResult
from deployer.status import proof_age_s, slotctl_is_stale
from deployer.users import HostUsers, SlotUser
from slots.manifest import Release
from slots.pack import PackFacts
from slots.slot import FrontendState, SlotStatus, active

Document = dict[str, Any]


# --- a rollout ---


def plan(proposal: Proposal) -> Document:
    """Return what a rollout would do."""
    found = proposal.found
    outcomes = {one.host: one for one in (*proposal.refusals, *proposal.unreachable)}
    return {
        "schema": "flipslot.plan/1",
        "goal": str(proposal.wish.goal),
        "set": proposal.set_name,
        "release": _release(found.release) if found else None,
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "plan": _plan(proposal.plans.get(host.name)),
                **_outcome(outcomes.get(host.name)),
            }
            for host in proposal.hosts
        ],
    }


def deploy(result: Result) -> Document:
    """Return how a rollout ended."""
    document = plan(result.proposal)
    ended = {one.host: one for one in result.outcomes}
    for host in document["hosts"]:
        outcome = ended.get(host["name"])
        if outcome is not None:
            host.update(_outcome(outcome))
        host["travelled_bytes"] = outcome.travelled_bytes if outcome else None
        host["wanted_failed"] = list(outcome.wanted_failed) if outcome else []
    return {
        **document,
        "schema": "flipslot.deploy/1",
        "exit_code": result.status,
        "travelled_bytes": result.travelled_bytes,
        "whole_bytes": result.whole_bytes,
        "interrupted": result.interrupted is not None,
    }


def _plan(of_host: Plan | None) -> Document | None:
    if of_host is None:
        return None
    choice = of_host.choice
    return {
        "active": str(of_host.active) if of_host.active else None,
        "target": str(of_host.target),
        "image": asdict(of_host.image),
        "sends_bytes": of_host.sends_bytes,
        "way": None if choice is None else "whole" if choice.pack is None else "pack",
        "why": None if choice is None else choice.why,
        "pack": None if choice is None or choice.pack is None else _pack(choice.pack),
        "actions": [type(one).__name__.lower() for one in of_host.actions],
        "undo": [type(one).__name__.lower() for one in of_host.undo],
        "facts": list(of_host.facts),
    }


# --- what the hosts are ---


def status(fleet: Fleet, probed: Probed, known: Sequence[Release]) -> Document:
    """Return what each frontend is now."""
    failed = {one.host: one for one in probed.failures}
    hosts = []
    for host in fleet.hosts:
        document: Document = {"name": host.name, "address": host.address}
        if host.name in probed.states:
            document |= _state(host, fleet.set_name, probed.states[host.name], known)
        hosts.append(document | _outcome(failed.get(host.name)))
    return {"schema": "flipslot.status/1", "set": fleet.set_name, "hosts": hosts}


def _state(host: Host, set_name: str, state: FrontendState, known: Sequence[Release]) -> Document:
    slots = host.sets[set_name]
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
        "boot": asdict(state.boot) if state.boot else None,
        "slotctl": {
            "installed": bool(state.slotctl_sha256),
            "stale": slotctl_is_stale(host, slots, state),
        },
        "slots": {str(one.slot.name): _slot(one, state, known) for one in state.statuses},
        "rollback": {"ready": hindrance is None, "why_not": hindrance},
    }


def _slot(found: SlotStatus, state: FrontendState, known: Sequence[Release]) -> Document:
    image = identify(found, known)
    return {
        "device": found.slot.device,
        "device_kind": str(found.device_kind),
        "size_bytes": found.size_bytes,
        "mount_point": found.slot.mount_point,
        "mounted": found.mounted,
        "mount_note": found.mount_note,
        "state": str(found.state),
        "image": asdict(image) if image else None,
        "same_bytes": list(same_bytes(image, known)) if image else [],
        "recorded": found.holds is not None,
        "proven_at_epoch_s": found.proof.at_epoch_s if found.proof and found.proven else None,
        "proof_age_s": proof_age_s(found, state),
        "damaged": found.damaged,
        "missing_mounts": list(found.missing_mounts),
        "verdict": str(found.verdict) if found.verdict else None,
    }


def ps(fleet: Fleet, found: HostUsers, failures: Sequence[Outcome]) -> Document:
    """Return who uses the slots."""
    failed = {one.host: one for one in failures}
    hosts = []
    for host in fleet.hosts:
        document: Document = {"name": host.name}
        if host.name in failed:
            outcome = failed[host.name]
            document |= {"error": outcome.message, "exit_code": int(outcome.exit_code)}
        if host.name in found:
            document["users"] = [_user(one) for one in found[host.name]]
        hosts.append(document)
    return {"schema": "flipslot.ps/1", "set": fleet.set_name, "hosts": hosts}


def _user(one: SlotUser) -> Document:
    process = one.process
    return {
        "slot": one.slot,
        "active": one.active,
        "pid": process.pid,
        "user": process.user,
        "since": datetime.fromtimestamp(process.since_epoch_s, UTC).isoformat(),
        "holds": list(process.holds),
        "command": process.command,
        "rule": one.rule or None,
        "treatment": one.treatment,
    }


# --- what was done on them ---


def confirm(fleet: Fleet, outcomes: Sequence[Outcome]) -> Document:
    """Return on which hosts what serves now stays."""
    return {"schema": "flipslot.confirm/1", **_outcomes(fleet, outcomes)}


def unlock(fleet: Fleet, outcomes: Sequence[Outcome]) -> Document:
    """Return on which hosts a lock was removed."""
    return {"schema": "flipslot.unlock/1", **_outcomes(fleet, outcomes)}


def provision(fleet: Fleet, offer: Offer, done: SetupResult | None) -> Document:
    """Return what was set up, or (`done` is None) would be, and the rollout behind it."""
    ended = {one.host: one for one in (done.outcomes if done else offer.failures)}
    hosts = []
    for host in fleet.hosts:
        setup = offer.setups.get(host.name)
        items = [_item(one) for one in setup.items] if setup else []
        notes = list(setup.notes) if setup else []
        document = {"name": host.name, "items": items, "notes": notes}
        hosts.append(document | _outcome(ended.get(host.name)))
    rollout = None
    if done is not None and done.rollout is not None:
        rollout = deploy(done.rollout)
    elif offer.rollout is not None:
        rollout = plan(offer.rollout)
    return {
        "schema": "flipslot.provision/1",
        "set": fleet.set_name,
        "exit_code": done.status if done else int(offer.exit_code),
        "hosts": hosts,
        "rollout": rollout,
    }


def _item(item: Item) -> Document:
    document: Document = {"done": item.done, "why": item.why}
    match item.wanted:
        case Folder(path, purpose):
            return {"kind": "folder", "path": path, "purpose": purpose, **document}
        case Program(file, purpose):
            return {
                "kind": "file", "path": file.path, "purpose": purpose,
                "mode": f"{file.mode:04o}", "sha256": file.sha256, **document,
            }  # fmt: skip
        case Enabled(system):
            return {"kind": "hook", "system": system, **document}


def _outcomes(fleet: Fleet, outcomes: Sequence[Outcome]) -> Document:
    hosts = [{"name": one.host, **_outcome(one)} for one in outcomes]
    return {"set": fleet.set_name, "hosts": hosts}


def _outcome(outcome: Outcome | None) -> Document:
    if outcome is None:
        return {"exit_code": None, "message": "", "hint": "", "seconds": None}
    return {
        "exit_code": int(outcome.exit_code),
        "message": outcome.message,
        "hint": outcome.hint,
        "seconds": round(outcome.seconds, 3),
    }


# --- what was made on the admin box ---


def pack(made: Pack) -> Document:
    """Return a pack that was made."""
    return {"schema": "flipslot.pack/1", "file": str(made.path), **_pack(made.facts)}


def _pack(facts: PackFacts) -> Document:
    return {
        "sha256": facts.sha256,
        "size_bytes": facts.size_bytes,
        "old_sha256": facts.old.sha256,
        "new_sha256": facts.new.sha256,
        "image_bytes": facts.new.size_bytes,
        "moves": facts.moves,
        "copied_bytes": facts.copied_bytes,
        "literal_bytes": facts.literal_bytes,
    }


def publish(release: Release, to: Path, laid: Sequence[Published]) -> Document:
    """Return what lies in the folder of a mirror now."""
    return {
        "schema": "flipslot.publish/1",
        "release": _release(release),
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


def _release(release: Release) -> Document:
    return {"id": release.id, "label": release.label}
