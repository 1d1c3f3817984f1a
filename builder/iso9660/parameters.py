"""What a layout depends on besides the tree."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from builder.iso9660.rockridge import BLOCK_BYTES

LABEL = re.compile(r"[A-Z0-9_]{1,32}")


class Placement(StrEnum):
    """How places are found."""

    HASHED = "hashed"
    SEQUENTIAL = "sequential"


class PathTables(StrEnum):
    """What the path tables list; no kernel reads them, the standard wants them full."""

    FULL = "full"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a layout depends on besides the tree."""

    label: str = "FLIPSLOT"
    placement: Placement = Placement.HASHED
    cluster_bytes: int = 131_072
    pack_bytes: int = 32_768  # small files of a directory that are placed together
    table_bytes: int = 16_384  # tables of neighbouring directories that are placed together
    load_percent: int = 35  # how full a zone may get before it doubles
    path_tables: PathTables = PathTables.FULL

    def as_record(self) -> dict[str, int | str]:
        """Return the parameters for the description of the image."""
        return {name: getattr(value, "value", value) for name, value in asdict(self).items()}


def parameter_refusals(parameters: Parameters) -> Iterator[str]:
    """Name every value that makes no layout."""
    if not LABEL.fullmatch(parameters.label):
        yield f"label {parameters.label!r} is not 1 to 32 of A-Z, 0-9 and _"
    if parameters.cluster_bytes <= 0 or parameters.cluster_bytes % BLOCK_BYTES:
        yield f"cluster_bytes {parameters.cluster_bytes} is not a multiple of {BLOCK_BYTES}"
    for name in ("pack_bytes", "table_bytes"):
        if getattr(parameters, name) < BLOCK_BYTES:
            yield f"{name} {getattr(parameters, name)} is less than {BLOCK_BYTES}"
    if not 1 <= parameters.load_percent <= 95:
        yield f"load_percent {parameters.load_percent} is not 1 to 95"
