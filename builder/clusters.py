"""The seam between a file system and its container: a volume as a run of whole clusters.

The file system yields them in order, the container stores them; neither knows the other. A hole
is an item of its own, so that a volume of which most is empty costs nothing to pass on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ZeroRun:
    """So many clusters that hold zeros alone."""

    count: int


Cluster = bytes | ZeroRun
"""One whole cluster of data, or a hole of whole clusters."""
