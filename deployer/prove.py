"""A proof on demand: every slot that holds an image is read back, whatever is remembered of it."""

from collections.abc import Iterator, Sequence

from deployer.execute import locked
from deployer.fleet import Fleet
from deployer.frontend import Frontend, read_timeout_s
from deployer.image import Image, identify
from deployer.inventory import Host
from deployer.probe import probe, quietly, reach
from deployer.rollout import Outcome, ask_hosts
from slots.errors import VerificationError
from slots.events import step
from slots.manifest import Release
from slots.slot import FrontendState, SlotName


def prove_all(fleet: Fleet, known: Sequence[Release]) -> tuple[Outcome, ...]:
    """Read the slots of all hosts; the outcomes of those that are not what they should be."""

    def prove(host: Host) -> str:
        with fleet.connect(host, fleet.emit) as way:
            frontend = quietly(reach(way, host, fleet.set_name, fleet.emit))
            _prove_host(*probe(frontend), known)
        return ""

    return tuple(one for one in ask_hosts(fleet.hosts, prove) if not one.done)


def _prove_host(frontend: Frontend, state: FrontendState, known: Sequence[Release]) -> None:
    """Read both slots, the second one also if the first is damaged."""
    damage: list[VerificationError] = []
    with locked(frontend) as lock:
        for name, image in _images(state, known):
            try:
                _prove_slot(frontend, name, image, lock.token)
            except VerificationError as error:
                damage.append(error)
    if damage:
        messages = "; ".join(error.message for error in damage)
        raise VerificationError(messages, hint=damage[0].hint)


def _images(state: FrontendState, known: Sequence[Release]) -> Iterator[tuple[SlotName, Image]]:
    for status in state.statuses:
        image = identify(status, known)
        if image is not None:
            yield status.slot.name, image


def _prove_slot(frontend: Frontend, name: SlotName, image: Image, token: str) -> None:
    timeout_s = read_timeout_s(frontend.host, image.size_bytes)
    with step(frontend.emit, f"prove {name}", frontend.host.name):
        frontend.do(image.proof_in(name), token, timeout_s=timeout_s)
