"""The image that a slot shall serve, and how it is recognised in a slot. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from slots.actions import Prove
from slots.manifest import Artefact, Release
from slots.slot import ImageRecord, SlotName, SlotState, SlotStatus


@dataclass(frozen=True, slots=True)
class Image:
    """The image that shall serve: what is needed to recognise, prove and mount it."""

    release: str
    format: str
    size_bytes: int
    sha256: str
    head_sha256: str

    @classmethod
    def of(cls, artefact: Artefact, release: str) -> "Image":
        """Return the image that an artefact becomes in a slot."""
        return cls(
            release,
            artefact.format,
            artefact.size_bytes,
            artefact.sha256,
            artefact.head_sha256,
        )

    def proof_in(self, slot: SlotName) -> Prove:
        """Return the action that proves this image in a slot."""
        return Prove(
            slot, self.release, self.format, self.size_bytes, self.sha256, self.head_sha256
        )


def identify(status: SlotStatus, known: Sequence[Release]) -> Image | None:
    """Return the image in a slot: by its record or, if that is lost, by the head of a release."""
    held = status.holds
    if held is not None:
        return recorded(held)
    for release in known:
        for artefact in release.artefacts:
            if status.head_sha256 and artefact.head_sha256 == status.head_sha256:
                return Image.of(artefact, release.label)
    return None


def elsewise(image: Image, status: SlotStatus) -> str:
    """Return, to stand behind a sentence, by which other name the slot's record knows the image."""
    held = status.holds
    if held is None or held.sha256 != image.sha256 or held.release == image.release:
        return ""
    return f" (recorded there as {held.release}, which has the same bytes)"


def same_bytes(image: Image, known: Sequence[Release]) -> tuple[str, ...]:
    """Return which other releases are this very image: their names, the newest first."""
    return tuple(
        release.label
        for release in known
        if release.label != image.release
        and any(artefact.sha256 == image.sha256 for artefact in release.artefacts)
    )


def recorded(held: ImageRecord) -> Image:
    """Return the image that a record tells of."""
    return Image(held.release, held.format, held.size_bytes, held.sha256, held.head_sha256)


def holds(status: SlotStatus, image: Image) -> bool:
    """Tell whether the image is there: by the record or, if that is lost, by the slot's head.

    Whether it is there to the bit is for a proof to say; where one said no, it is not there.
    """
    if status.holds is not None:
        return status.holds.sha256 == image.sha256 and not status.damaged
    return status.state is SlotState.READY and status.head_sha256 == image.head_sha256
