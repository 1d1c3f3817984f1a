"""The answer of a probe → FrontendState. The probe itself is templates/common/probe.sh."""

from enum import StrEnum
from typing import TypeVar

from slots.answers import Answer
from slots.errors import HostError
from slots.platform import PLATFORMS
from slots.slot import (
    BootNote,
    DeviceKind,
    FrontendState,
    Guard,
    GuardState,
    ImageRecord,
    LinkKind,
    Lock,
    Proof,
    Served,
    SlotName,
    SlotSet,
    SlotState,
    SlotStatus,
    Verdict,
    Written,
)

_Choice = TypeVar("_Choice", bound=StrEnum)


def parse(answer: Answer, slots: SlotSet) -> FrontendState:
    """Return what the probe found; HostError if the answer lacks something or is odd.

    The host reports a proof only if it holds now (this boot, this device, a known image), and a
    verdict only if it is of the image in the slot.
    """
    fields = _Fields(answer)
    platform = fields.text("platform")
    if platform not in PLATFORMS:
        raise HostError(f"the probe answers for an unknown platform: {platform!r}")
    offered = answer.all("format")
    return FrontendState(
        platform=platform,
        boot_id=fields.text("boot_id"),
        link_kind=fields.choice("link_kind", LinkKind),
        link_target=answer.first("link_target"),
        statuses=(_status(fields, slots, SlotName.A), _status(fields, slots, SlotName.B)),
        formats=tuple(one for one in PLATFORMS[platform].formats if one in offered),
        missing=answer.all("missing"),
        lock=_lock(fields),
        guard=_guard(fields),
        boot=_boot(fields),
        slotctl_sha256=answer.first("slotctl"),
        missing_restarts=answer.all("missing_restart"),
        clock_epoch_s=fields.number("clock"),
        copies_bytes=fields.text("dd_bytes") == "yes",
        downloaders=answer.all("downloader"),
        staging_free_bytes=_staging_free(fields),
        staged=tuple(map(_staged, answer.all("staged"))),
    )


def _staging_free(fields: "_Fields") -> int | None:
    return fields.number("staging_free_kib") * 1024 if fields.text("staging_free_kib") else None


def _staged(text: str) -> tuple[str, int]:
    sha256, _, size = text.partition(" ")
    if not (size.isascii() and size.isdigit()):
        raise HostError(f"the probe answers staged={text!r}")
    return sha256, int(size)


class _Fields:
    """Values of an answer by key, each as the type that it must be."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._values = dict(answer.values)

    def has(self, key: str) -> bool:
        return key in self._values

    def all(self, key: str) -> tuple[str, ...]:
        return self._answer.all(key)

    def text(self, key: str) -> str:
        if key not in self._values:
            raise HostError(f"the probe's answer lacks {key}")
        return self._values[key]

    def number(self, key: str) -> int:
        text = self.text(key)
        if not (text.isascii() and text.isdigit()):
            raise HostError(f"the probe answers {key}={text!r}, which is no number")
        return int(text)

    def number_or_0(self, key: str) -> int:
        return self.number(key) if self.text(key) else 0

    def choice(self, key: str, among: type[_Choice]) -> _Choice:
        text = self.text(key)
        try:
            return among(text)
        except ValueError as error:
            raise HostError(f"the probe answers {key}={text!r}") from error


def _status(fields: _Fields, slots: SlotSet, name: SlotName) -> SlotStatus:
    verdict = f"{name}.verdict"
    return SlotStatus(
        slot=slots.slot(name),
        device_kind=fields.choice(f"{name}.device_kind", DeviceKind),
        size_bytes=fields.number(f"{name}.size"),
        state=fields.choice(f"{name}.state", SlotState),
        head_sha256=fields.text(f"{name}.head_sha256"),
        mounted=fields.text(f"{name}.mounted") == "yes",
        mount_note=fields.text(f"{name}.mount_note"),
        image=_image(fields, name),
        proof=_proof(fields, name),
        verdict=fields.choice(verdict, Verdict) if fields.has(verdict) else None,
        missing_mounts=fields.all(f"{name}.missing_mount"),
        sector_bytes=fields.number(f"{name}.sector"),
        written=_written(fields, name),
    )


def _image(fields: _Fields, name: SlotName) -> ImageRecord | None:
    if not fields.has(f"{name}.image.size") or not fields.text(f"{name}.image.size"):
        return None
    return ImageRecord(
        release=fields.text(f"{name}.image.release"),
        format=fields.text(f"{name}.image.format"),
        size_bytes=fields.number(f"{name}.image.size"),
        sha256=fields.text(f"{name}.image.sha256"),
        head_sha256=fields.text(f"{name}.image.head_sha256"),
    )


def _written(fields: _Fields, name: SlotName) -> Written | None:
    if not fields.has(f"{name}.written.sha256"):
        return None
    return Written(
        sha256=fields.text(f"{name}.written.sha256"),
        size_bytes=fields.number(f"{name}.written.bytes"),
    )


def _proof(fields: _Fields, name: SlotName) -> Proof | None:
    if not fields.has(f"{name}.proof.sha256"):
        return None
    return Proof(
        sha256=fields.text(f"{name}.proof.sha256"),
        boot_id=fields.text(f"{name}.proof.boot_id"),
        device=fields.text(f"{name}.proof.device"),
        at_epoch_s=fields.number(f"{name}.proof.at"),
    )


def _guard(fields: _Fields) -> Guard | None:
    if not fields.has("guard.state"):
        return None
    return Guard(
        state=fields.choice("guard.state", GuardState),
        back=fields.choice("guard.back", SlotName),
        target=fields.choice("guard.target", SlotName),
        release=fields.text("guard.release"),
        seconds=fields.number("guard.seconds"),
        at_epoch_s=fields.number("guard.at"),
        alive=fields.text("guard.alive") == "yes",
        why=fields.text("guard.why"),
        error=fields.text("guard.error"),
        left_s=fields.number("guard.left") if fields.text("guard.left") else None,
    )


def _boot(fields: _Fields) -> BootNote | None:
    if not fields.has("boot.state"):
        return None
    return BootNote(
        state=fields.choice("boot.state", Served),
        text=fields.text("boot.text"),
        at_epoch_s=fields.number("boot.at"),
    )


def _lock(fields: _Fields) -> Lock | None:
    if not fields.has("lock.holder"):
        return None
    return Lock(
        holder=fields.text("lock.holder") or "unknown",
        pid=fields.number_or_0("lock.pid"),
        boot_id=fields.text("lock.boot_id"),
        since_epoch_s=fields.number_or_0("lock.since"),
        alive=fields.text("lock.alive") == "yes",
    )
