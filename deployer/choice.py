"""Pack or whole image: what is cheaper for a frontend, and what it can do at all. Pure.

Both ways write the same bytes into the slot; what differs is what travels, and that a pack costs
the host a process for each move and the reading of what is copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.sizes import megabytes
from slots.manifest import HEAD_BYTES, Artefact
from slots.pack import PackFacts
from slots.slot import FrontendState, SlotName, SlotStatus

LINE_BYTES_PER_S = 12_500_000.0
"""100 Mbit/s, where the inventory does not say what a host's line carries."""

MOVE_S = 0.002
"""A dd for each move, two to four for a long one: measured under dash, mksh and busybox."""

COPY_BYTES_PER_S = 300e6
"""Reading the old slot through a pipe."""


@dataclass(frozen=True, slots=True)
class NoPack:
    """Why there is no pack between two images, as a phrase."""

    why: str


Offers = Mapping[tuple[str, str], PackFacts | NoPack]
"""The packs that are made, by the digests of the old and the new image."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How an image comes into a slot, and why so; without a pack it travels whole."""

    pack: PackFacts | None
    why: str


def choose(
    state: FrontendState,
    target: SlotName,
    artefact: Artefact,
    offers: Offers,
    line_bytes_per_s: float = LINE_BYTES_PER_S,
) -> Choice:
    """Choose the way of an image into a slot that is to be written."""
    held = state.status(target.other)
    if held.holds is None or held.damaged:
        return Choice(None, _without_old(held))
    match offers.get((held.holds.sha256, artefact.sha256)):
        case PackFacts() as pack:
            why_not = _unable(pack)
            return Choice(None, why_not) if why_not else _cheaper(pack, line_bytes_per_s)
        case NoPack(why):
            return Choice(None, why)
        case None:
            return Choice(None, "no pack was made")


def _without_old(held: SlotStatus) -> str:
    name = held.slot.name
    if held.holds is not None:
        return f"slot {name} is damaged, nothing can be taken from it"
    return f"slot {name} holds nothing known to begin with"


def _unable(pack: PackFacts) -> str:
    """Return why this host cannot replay the pack, empty if it can."""
    del pack
    return ""


def _cheaper(pack: PackFacts, line_bytes_per_s: float) -> Choice:
    whole_s = pack.new.size_bytes / line_bytes_per_s
    pack_s = predicted_s(pack, line_bytes_per_s)
    at = f"at {line_bytes_per_s * 8 / 1e6:g} Mbit/s"
    if pack_s < whole_s:
        why = f"{pack.moves:,} moves, {pack_s:.0f} s instead of {whole_s:.0f} s {at}"
        return Choice(pack, why)
    why = (
        f"a pack of {megabytes(pack.size_bytes)} would be slower, "
        f"{pack.moves:,} moves, {pack_s:.0f} s instead of {whole_s:.0f} s {at}"
    )
    return Choice(None, why)


def predicted_s(pack: PackFacts, line_bytes_per_s: float) -> float:
    """Return how long a pack takes, but for what the whole image takes as well."""
    sent = (pack.size_bytes + HEAD_BYTES) / line_bytes_per_s
    return sent + pack.moves * MOVE_S + pack.copied_bytes / COPY_BYTES_PER_S
