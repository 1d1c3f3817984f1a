"""What an action is on its host: the verb's call, how long it may take, what its answer tells."""

from collections.abc import Callable
from typing import assert_never

from deployer import transfer
from deployer.frontend import read_timeout_s
from deployer.transfer import Errand, Job, Way
from slots import answers, calls, scripts
from slots.actions import (
    Action,
    Arm,
    Baseline,
    Check,
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
    Stage,
    Unmount,
)
from slots.errors import StragglersError
from slots.manifest import HEAD_BYTES, Artefact
from slots.rules import User

TRIAL_GRACE_S = 10.0  # to end what does not end by itself

OnHost = Stage | HostAction
Told = Callable[[answers.Answer], list[str]]


def on_host(action: Action) -> OnHost | None:
    """Return the action if it is a verb of the host; checks are ours."""
    return None if isinstance(action, Check | Baseline) else action


def total_bytes(action: Action) -> int | None:
    """Return how many bytes an action moves, if that is worth a progress bar."""
    match action:
        case Fill(artefact=artefact):
            return artefact.size_bytes - HEAD_BYTES
        case Stage(size_bytes=size_bytes):
            return size_bytes
        case _:
            return None


def errand(  # noqa: C901, PLR0911, PLR0912 - a case for each kind
    job: Job, action: OnHost, way: Way, have_bytes: int
) -> Errand:
    """Return what is to be run; `have_bytes` of an image are in its slot already."""
    frontend, host = job.frontend, job.frontend.host
    command_s = host.ssh.command_timeout_s
    match action:
        case Stage():
            return way.pack(job, action)
        case Erase(awaited=Artefact() as artefact):
            return way.erase(job, action, artefact)
        case Fill():
            return way.image(job, action, have_bytes)
        case Seal():
            return transfer.head(job, action)
        case Preflight(trials=trials):
            longest_s = sum(TRIAL_GRACE_S + one.deadline_s for one in trials)
            return _plain(job, action, lambda said: list(said.all("passed")), command_s + longest_s)
        case Patch(slot, artefact=artefact):
            timeout_s = read_timeout_s(host, 2 * artefact.size_bytes)
            return _plain(job, action, _saying(f"from slot {slot.other} and the pack"), timeout_s)
        case Prove(size_bytes=size_bytes, sha256=sha256):
            timeout_s = read_timeout_s(host, size_bytes)
            return _plain(job, action, _saying(f"read back, SHA-256 {sha256[:16]}…"), timeout_s)
        case Restart(services=services):
            longest_s = sum(calls.RESTART_TIMEOUT_S + one.deadline_s for one in services)
            return _plain(job, action, _restarted, calls.RESTART_TIMEOUT_S + longest_s)
        case Drain(services=services, deadline_s=deadline_s):
            longest_s = max((deadline_s, *(one.deadline_s for one in services)))
            return _plain(job, action, lambda said: _drained(said, action), command_s + longest_s)
        case Arm(slot, _, seconds, _):
            guard = scripts.guard_payload(frontend.library, frontend.slots, action, job.token)
            told = f"goes back to slot {slot.other} unless confirmed within {seconds} s"
            call = calls.call(frontend.library, action, job.token)
            return Errand(call, command_s, (guard,), len(guard), _saying(told))
        case Confirm():
            return _plain(job, action, _saying("over a new connection"), command_s)
        case Flip(slot):
            told = f"{frontend.slots.link} -> {frontend.slots.target(slot)}"
            return _plain(job, action, _saying(told), command_s)
        case Unmount() | Erase() | Mount() | Cover() | Judge() | Disarm():
            return _plain(job, action, lambda _: [], command_s)
        case _:
            assert_never(action)


def _plain(job: Job, action: HostAction, told: Told, timeout_s: float) -> Errand:
    call = calls.call(job.frontend.library, action, job.token)
    return Errand(call, timeout_s, told=told)


def _saying(text: str) -> Told:
    return lambda _: [text]


def _restarted(answer: answers.Answer) -> list[str]:
    """Return what the rules did."""
    words = {
        "reloaded": "reloaded {}",
        "restarted": "restarted {}",
        "ended": "ended {}",
        "waiting": "waits for {}",
        "kept": "{} does not use the old slot",
    }
    return [text.format(name) for key, text in words.items() for name in answer.all(key)]


def _drained(answer: answers.Answer, drain: Drain) -> list[str]:
    """Return that nothing uses the old slot; StragglersError names who does."""
    left = [User.parse(line) for line in answer.all("straggler")]
    if left:
        names = ", ".join(f"process {one.pid} {one.command} ({one.user})" for one in left)
        raise StragglersError(
            f"slot {drain.left} is still used by {names}",
            hint="end that, then deploy again; or name it in a rule (services) of the inventory",
        )
    return [f"nothing uses slot {drain.left} after {answer.first('drained')} s"]
