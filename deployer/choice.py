"""Pack or whole image: what is cheaper for a frontend, and what it can do at all. Pure.

Both ways write the same bytes into the slot; what differs is what travels, and that a pack costs
the host a process for each move and the reading of what is copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.wording import counted, megabytes
from slots.manifest import HEAD_BYTES, Artefact
from slots.pack import PackFacts
from slots.patch import SECTOR_BYTES
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
    body_bytes: int  # of the image behind its head, that would travel without a pack
    head_bytes: int  # as they travel either way

    @property
    def sends_bytes(self) -> int:
        """How many bytes will travel, if nothing fails: of the head, and of a pack or the image."""
        body_bytes = self.body_bytes if self.pack is None else self.pack.size_bytes
        return self.head_bytes + body_bytes


def choose(
    state: FrontendState,
    target: SlotName,
    artefact: Artefact,
    offers: Offers,
    line_bytes_per_s: float = LINE_BYTES_PER_S,
    *,
    head_bytes: int = HEAD_BYTES,
) -> Choice:
    """Choose the way of an image into a slot that is to be written; its head travels either way."""
    body_bytes = _body_bytes(state.status(target), artefact)
    held = state.status(target.other)
    if held.holds is None or held.damaged:
        return Choice(None, _without_old(held), body_bytes, head_bytes)
    match offers.get((held.holds.sha256, artefact.sha256)):
        case PackFacts() as pack:
            why_not = _unable(state, pack)
            if why_not:
                return Choice(None, why_not, body_bytes, head_bytes)
            pays, why = _pays(pack, body_bytes, line_bytes_per_s)
            return Choice(pack if pays else None, why, body_bytes, head_bytes)
        case NoPack(why):
            return Choice(None, why, body_bytes, head_bytes)
        case None:
            return Choice(None, "no pack was made", body_bytes, head_bytes)


def _body_bytes(status: SlotStatus, artefact: Artefact) -> int:
    """Return what is left to send behind an image's head: a transfer that was cut goes on."""
    left = status.written
    is_of_it = left is not None and left.sha256 == artefact.sha256
    there = left.size_bytes if left is not None and is_of_it else 0
    return artefact.size_bytes - max(HEAD_BYTES, there)


def _without_old(held: SlotStatus) -> str:
    name = held.slot.name
    if held.holds is not None:
        return f"slot {name} is damaged, nothing can be taken from it"
    return f"slot {name} holds nothing known to begin with"


def _unable(state: FrontendState, pack: PackFacts) -> str:
    """Return why this host cannot replay the pack, empty if it can."""
    if pack.unit == 1 and not state.copies_bytes:
        return "its dd copies no runs of bytes"
    sector_bytes = max(status.sector_bytes for status in state.statuses)
    if pack.unit == SECTOR_BYTES and sector_bytes > SECTOR_BYTES:
        return f"its disks have sectors of {sector_bytes} bytes"
    free = state.staging_free_bytes
    if free is not None and free < pack.size_bytes:
        return f"no room for a pack of {megabytes(pack.size_bytes)}, {megabytes(free)} are free"
    return ""


def _pays(pack: PackFacts, body_bytes: int, line_bytes_per_s: float) -> tuple[bool, str]:
    """Tell whether a pack is quicker, and why so."""
    whole_s = body_bytes / line_bytes_per_s
    pack_s = predicted_s(pack, line_bytes_per_s)
    at = f"at {line_bytes_per_s * 8 / 1e6:g} Mbit/s"
    took = f"{counted(pack.moves, 'move')}, {pack_s:.1f} s instead of {whole_s:.1f} s {at}"
    if pack_s < whole_s:
        return True, took
    return False, f"a pack of {megabytes(pack.size_bytes)} would be slower, {took}"


def predicted_s(pack: PackFacts, line_bytes_per_s: float) -> float:
    """Return how long a pack takes, but for what the whole image takes as well."""
    sent = pack.size_bytes / line_bytes_per_s
    return sent + pack.moves * MOVE_S + pack.copied_bytes / COPY_BYTES_PER_S
