"""Has anything changed since a release was made? If not, not even its tree is made again.

A build remembers a digest of all that it was made of: what lstat(2) said of every entry (that is
what tells a changed file in any build that is not paranoid), the recipe with the files and the
mtree file that it names, what the command line said, who built, and the versions of what made it.
The same digest, and the release would be the same; that it lies there is proven file by file.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder import program, releases
from builder.cache import Cache, Remembered
from builder.formats import Packed
from builder.prepare import Inputs, Wanted
from builder.recipe import Recipe
from builder.releases import Names
from slots.events import Emit, Event, Notice
from slots.manifest import Format, Release


@dataclass(frozen=True, slots=True)
class Question:
    """What a build was asked for, beside what it is made of."""

    recipe: Recipe
    wanted: Wanted
    version: str | None  # given by hand
    packed: Mapping[Format, Packed]
    names: Names  # not of a version yet

    def digest(self, inputs: Inputs) -> bytes:
        """Return a digest of all that a release follows from."""
        asked = (
            repr(self.recipe),  # JSON cannot hold a path that is not UTF-8
            self.wanted.epoch_s,
            self.wanted.excludes,
            self.version,
            self.names.single,
            sorted(self.packed.items()),
            (os.geteuid(), os.getegid(), sorted(os.getgroups())),
            sorted(releases.tools_of(self.packed).items()),
            program.digest().hex(),
        )
        return hashlib.sha256(repr(asked).encode() + inputs.digest()).digest()


class Hearing:
    """Passes events on, and keeps what the notices among them say."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.told: list[str] = []

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, Notice):
            self.told.append(event.message)
        self._emit(event)


def standing(key: bytes, names: Names, known: Cache, emit: Emit) -> tuple[Release, Names] | None:
    """Return the release that was made of the same, if it still lies where it would go."""
    made = known.release(key)
    if made is None:
        return None
    names = names.of(made.version)
    release = releases.described_at(names.manifest, made.manifest_sha256)
    if release is None or not releases.holds(names.final, release, known, emit):
        return None
    for message in made.told:
        emit(Notice(message))
    return release, names


def remembered(release: Release, told: Sequence[str]) -> Remembered:
    """Return what is to be remembered of a release."""
    sha256 = hashlib.sha256(release.to_json().encode()).hexdigest()
    return Remembered(sha256, release.version, tuple(told))
