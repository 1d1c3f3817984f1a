"""The description of what a build makes, and whether it stands there already."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path

from pydantic import ValidationError

from builder import places
from builder.cache import Cache
from builder.formats import FORMATS, Checked, Job, Made, Packed
from builder.hardlinks import first_files
from builder.stamps import Stamp, stamp_of
from builder.tree import Digests, Tree
from slots.errors import ConfigError
from slots.events import Emit, step
from slots.manifest import Artefact, Format, Release, release_id


@dataclass(frozen=True, slots=True)
class Described:
    """A tree, the digest of each file in it, and that of its specification."""

    tree: Tree
    digests: Digests
    sha256: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a release: a folder of its own, or one file with others beside it.

    The label of one that has no version yet is the name of its image alone.
    """

    parent: Path
    single: str | None
    label: str

    def of(self, version: str) -> "Names":
        """Return the names of a version."""
        return replace(self, label=f"{self.label}-{version}")

    @property
    def folder(self) -> str:
        """What the folder of a build under way is named after."""
        return self.single or self.label

    @property
    def final(self) -> Path:
        """Where the files of the release will lie."""
        return self.parent if self.single else self.parent / self.label

    @property
    def manifest(self) -> Path:
        """Where the description of the release will lie."""
        name = f"{self.single}.{places.MANIFEST}" if self.single else places.MANIFEST
        return self.final / name

    def artefact(self, name: Format) -> str:
        """Return the file of an artefact."""
        return self.single or f"{self.label}{FORMATS[name].suffix}"

    def index(self, name: Format) -> str:
        """Return the file of an artefact's index."""
        return f"{self.artefact(name)}.index"

    @property
    def mtree(self) -> str:
        """The file of the specification."""
        return f"{self.single}.mtree" if self.single else places.TREE


@dataclass(frozen=True, slots=True)
class Plan:
    """All that can be said of a release before it is made."""

    name: str
    version: str
    is_named: bool  # the version was given by hand
    names: Names
    described: Described
    jobs: Mapping[Format, Job]
    checked: Mapping[Format, Checked]

    @property
    def tools(self) -> dict[str, str]:
        """What makes the release, with versions."""
        found = {"flipslot": installed_version("flipslot")}
        for one in self.checked.values():
            found |= one.tools
        return dict(sorted(found.items()))

    def artefact(self, name: Format, made: Made, index_sha256: str) -> Artefact:
        """Describe an artefact that was made."""
        packed = self.jobs[name].packed
        return Artefact(
            format=name,
            file=self.names.artefact(name),
            size_bytes=made.size_bytes,
            sha256=made.sha256,
            head_sha256=made.head_sha256,
            index=self.names.index(name),
            index_sha256=index_sha256,
            codec=packed.codec,
            level=packed.level,
            cluster_bytes=packed.cluster_bytes,
            parameters=dict(self.checked[name].parameters),
        )

    def release(self, artefacts: tuple[Artefact, ...]) -> Release:
        """Describe the release that was made."""
        tree = self.described.tree
        return Release(
            id=release_id(self.described.sha256, artefacts),
            name=self.name,
            version=self.version,
            mtree=self.names.mtree,
            mtree_sha256=self.described.sha256,
            entries=len(tree),
            content_bytes=sum(node.size for node in first_files(tree)),
            artefacts=artefacts,
            tools=self.tools,
        )


def standing(plan: Plan, known: Cache, emit: Emit) -> Release | None:
    """Return the release that stands where this one would, if making it would give the same.

    It is recognised by its tree, its parameters and the versions of what made it.
    """
    found = described_at(plan.names.manifest)
    if found is None or not _is_planned(plan, found) or found.tools != plan.tools:
        return None
    return found if holds(plan.names.final, found, known, emit) else None


def holds(folder: Path, release: Release, known: Cache, emit: Emit) -> bool:
    """Tell whether all files of a release are what it says of them, to the bit.

    A file is read for that once; then it is known by its stamp, as the files of a source are.
    """
    try:
        stamps = {name: stamp_of((folder / name).stat()) for name in release.digests}
        if any(Stamp.of(stamps[one.file]).size != one.size_bytes for one in release.artefacts):
            return False
        found = known.digests(stamps.values())
        unread = {name: stamp for name, stamp in stamps.items() if stamp not in found}
        with step(emit, "digest", folder.name, sum(Stamp.of(one).size for one in unread.values())):
            read = {
                stamp: bytes.fromhex(places.sha256_of(folder / name))
                for name, stamp in unread.items()
            }
        if any(stamp_of((folder / name).stat()) != stamp for name, stamp in unread.items()):
            return False
    except OSError:
        return False
    known.keep_digests(read)
    found |= read
    return all(found[stamps[name]].hex() == sha256 for name, sha256 in release.digests.items())


def refuse_other(plan: Plan, made: Release | None = None) -> None:
    """Refuse a version that was given by hand if its folder holds something else.

    Before anything is made this is told by the tree and the packing, then by the id.
    """
    folder = plan.names.final
    if plan.names.single is None and folder.exists():
        found = described_at(plan.names.manifest)
        is_same = found is not None and _is_planned(plan, found)
        if not is_same or (made is not None and found is not None and found.id != made.id):
            raise ConfigError(
                f"release {folder.name} exists and holds something else",
                hint=f"choose another --version, or remove {folder}",
            )


def _is_planned(plan: Plan, found: Release) -> bool:
    """Tell whether a release holds the same tree, packed in the same way."""
    here = (found.name, found.version, found.mtree, found.mtree_sha256)
    wanted = (plan.name, plan.version, plan.names.mtree, plan.described.sha256)
    return here == wanted and [_packing(one) for one in found.artefacts] == list(_packings(plan))


def _packings(plan: Plan) -> Iterator[tuple[object, ...]]:
    for name, job in plan.jobs.items():
        packed = job.packed
        yield (
            name,
            plan.names.artefact(name),
            plan.names.index(name),
            packed.codec,
            packed.level,
            packed.cluster_bytes,
            dict(plan.checked[name].parameters),
        )


def _packing(one: Artefact) -> tuple[object, ...]:
    return (
        one.format,
        one.file,
        one.index,
        one.codec,
        one.level,
        one.cluster_bytes,
        one.parameters,
    )


def described_at(manifest: Path, sha256: str | None = None) -> Release | None:
    """Read a description, if it is one, and the very one of this digest."""
    try:
        text = manifest.read_bytes()
        if sha256 not in {None, hashlib.sha256(text).hexdigest()}:
            return None
        return Release.from_json(text)
    except (OSError, ValidationError):
        return None


def tools_of(packed: Mapping[Format, Packed]) -> dict[str, str]:
    """Return what makes such artefacts, with versions."""
    found = {"flipslot": installed_version("flipslot")}
    for name, one in packed.items():
        found |= FORMATS[name].tools(one.codec)
    return dict(sorted(found.items()))
