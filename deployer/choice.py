"""Pack or whole image: what is cheaper for a frontend, and what it can do at all. Pure.

Both ways write the same bytes into the slot; what differs is what travels, and that a pack costs
the host a process for each move and the reading of what is copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    staged_bytes: int = 0  # of the pack, that are there already
    again_bytes: int = 0  # of the head, that come from mirrors besides, if the image travels whole

    @property
    def sends_bytes(self) -> int:
        """How many bytes will travel, if nothing fails: of the head, and of a pack or the image."""
        if self.pack is None:
            return self.head_bytes + self.body_bytes + self.again_bytes
        return self.head_bytes + self.pack.size_bytes - self.staged_bytes


def choose(
    state: FrontendState,
    target: SlotName,
    artefact: Artefact,
    offers: Offers,
    line_bytes_per_s: float = LINE_BYTES_PER_S,
    *,
    head_bytes: int = HEAD_BYTES,
    mirrors: Sequence[str] = (),
) -> Choice:
    """Choose the way of an image into a slot that is to be written; its head travels either way.

    `mirrors` are where the host pulls from, if it does.
    """
    body_bytes = _body_bytes(state, state.status(target), artefact, mirrors)
    again_bytes = _again_bytes(body_bytes, artefact) if mirrors else 0
    whole = Choice(None, "", body_bytes, head_bytes, again_bytes=again_bytes)
    held = state.status(target.other)
    if held.holds is None or held.damaged:
        return replace(whole, why=_without_old(held))
    match offers.get((held.holds.sha256, artefact.sha256)):
        case PackFacts() as pack:
            why_not = _unable(state, pack)
            if why_not:
                return replace(whole, why=why_not)
            staged_bytes = _staged_bytes(state, pack)
            pays, why = _pays(pack, staged_bytes, body_bytes, line_bytes_per_s)
            if not pays:
                return replace(whole, why=why)
            return replace(whole, pack=pack, why=why, staged_bytes=staged_bytes)
        case NoPack(why):
            return replace(whole, why=why)
        case None:
            return replace(whole, why="no pack was made")


def _body_bytes(
    state: FrontendState, status: SlotStatus, artefact: Artefact, mirrors: Sequence[str]
) -> int:
    """Return what is left to send behind an image's head: a transfer that was cut goes on."""
    left = status.written
    is_of_it = left is not None and left.sha256 == artefact.sha256
    there = left.size_bytes if left is not None and is_of_it and _goes_on(state, mirrors) else 0
    return artefact.size_bytes - max(HEAD_BYTES, there)


def _goes_on(state: FrontendState, mirrors: Sequence[str]) -> bool:
    """Tell whether an image is gone on with in the middle, which fetch cannot into a pipe."""
    return (
        not mirrors
        or mirrors[0].startswith("file:")
        or bool({"curl", "wget"}.intersection(state.downloaders))
    )


def _again_bytes(body_bytes: int, artefact: Artefact) -> int:
    """Return what a host pulls of a head that comes through its connection as well.

    Once to see whether a mirror has the image at all, and once more with the image, if that is
    begun at its beginning: its digest is over all of it.
    """
    begun = artefact.size_bytes - HEAD_BYTES > body_bytes
    return HEAD_BYTES if begun else 2 * HEAD_BYTES


def _staged_bytes(state: FrontendState, pack: PackFacts) -> int:
    there = dict(state.staged).get(pack.sha256, 0)
    return there if there <= pack.size_bytes else 0


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
    if free is not None:  # other packs go first, and what is there of this one stays
        free += sum(there for _, there in state.staged)
    if free is not None and free < pack.size_bytes:
        return f"no room for a pack of {megabytes(pack.size_bytes)}, {megabytes(free)} are free"
    return ""


def _pays(
    pack: PackFacts, staged_bytes: int, body_bytes: int, line_bytes_per_s: float
) -> tuple[bool, str]:
    """Tell whether a pack is quicker, and why so."""
    whole_s = body_bytes / line_bytes_per_s
    pack_s = predicted_s(pack, line_bytes_per_s, staged_bytes)
    at = f"at {line_bytes_per_s * 8 / 1e6:g} Mbit/s"
    took = f"{counted(pack.moves, 'move')}, {pack_s:.1f} s instead of {whole_s:.1f} s {at}"
    if pack_s < whole_s:
        return True, took
    return False, f"a pack of {megabytes(pack.size_bytes)} would be slower, {took}"


def predicted_s(pack: PackFacts, line_bytes_per_s: float, staged_bytes: int = 0) -> float:
    """Return how long a pack takes, but for what the whole image takes as well."""
    sent = (pack.size_bytes - staged_bytes) / line_bytes_per_s
    return sent + pack.moves * MOVE_S + pack.copied_bytes / COPY_BYTES_PER_S
