"""release.json: what one build made, so that a frontend's slot can be held against it."""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

HEAD_BYTES = 65_536
"""An image's head: zeroed before a slot is written, written last (the rule of every slot)."""

ALIGNMENT_BYTES = 4096
"""Artefacts are padded to this: raw disks answer whole sectors only, of 512 or of 4,096 bytes."""

SCHEMA = "flipslot.release/1"

Format = Literal["uzip", "iso9660", "erofs", "squashfs"]
Codec = Literal["zstd", "zlib", "lzma", "lz4", "none"]
Sha256 = str


class Artefact(BaseModel):
    """One image file of a release. Digests are lower-case hex SHA-256, sizes are bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format
    file: str = Field(pattern=r"^[^/\x00\n]+$")  # beside release.json
    size_bytes: int = Field(ge=0, multiple_of=ALIGNMENT_BYTES)
    sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    head_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")  # of the first HEAD_BYTES (or all)
    index: str = Field(pattern=r"^[^/\x00\n]+$")  # beside release.json
    index_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    codec: Codec
    level: int
    cluster_bytes: int  # uzip: cluster; squashfs: block; 0 where the format has none
    parameters: dict[str, int | str] = {}  # of the layout


class Release(BaseModel):
    """What one build made: one tree, an artefact per format. Holds no time of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["flipslot.release/1"] = Field(alias="schema", default="flipslot.release/1")
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    mtree: str = Field(pattern=r"^[^/\x00\n]+$")  # beside release.json
    mtree_sha256: Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
    entries: int = Field(ge=1)
    content_bytes: int = Field(ge=0)
    artefacts: tuple[Artefact, ...] = Field(min_length=1)
    tools: dict[str, str] = {}  # name -> version of what made it

    def artefact(self, format_: str) -> Artefact | None:
        """Return the artefact of this format, if the release has one."""
        return next((one for one in self.artefacts if one.format == format_), None)

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file of the release, but for its description."""
        found = {self.mtree: self.mtree_sha256}
        for one in self.artefacts:
            found |= {one.file: one.sha256, one.index: one.index_sha256}
        return found

    @property
    def label(self) -> str:
        """What an admin calls this release."""
        return f"{self.name}-{self.version}"

    def to_json(self) -> str:
        """Serialise: sorted by the model's own order, so that the same release is the same text."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse; raises pydantic.ValidationError."""
        return cls.model_validate_json(text)


def release_id(mtree_sha256: str, artefacts: tuple[Artefact, ...]) -> str:
    """Return the id that follows from what the release holds."""
    digest = hashlib.sha256(mtree_sha256.encode())
    for artefact in artefacts:
        digest.update(f"{artefact.format} {artefact.sha256}\n".encode())
    return digest.hexdigest()[:16]
