"""`image build`: the pipeline of one release. The only file that knows the order of the stages."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path

from builder import mtree, places
from builder.digest import digest_files
from builder.formats import FORMATS, Job, Made, Target, packed
from builder.hardlinks import first_files
from builder.lint import Limits
from builder.prepare import Prepared, Wanted, prepare
from builder.recipe import Packing, Recipe, label_of
from builder.tree import Tree
from slots.errors import ConfigError
from slots.events import Emit
from slots.index import Index, to_lines
from slots.manifest import Artefact, Format, Release, release_id

OUT = Path("images/out")
VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built: the recipe, and what the command line says over it."""

    recipe: Recipe
    formats: tuple[Format, ...] = ()  # none: the recipe's
    output: Path | None = None
    packing: Packing = field(default_factory=Packing)
    epoch_s: int | None = None
    version: str | None = None
    mtree: Path | None = None
    excludes: tuple[str, ...] = ()
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left: the release, where its description lies, whether it is new."""

    release: Release
    manifest: Path
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Described:
    """A tree with its specification: one line per entry, the digest of each file in it."""

    tree: Tree
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Made:
    """An artefact's description, and the tools that made it."""

    artefact: Artefact
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of a release: a folder of its own, or one file with others beside it."""

    parent: Path
    single: str | None
    label: str

    @property
    def folder(self) -> str:
        return self.single or self.label

    def artefact(self, name: Format) -> str:
        return self.single or f"{self.label}{FORMATS[name].suffix}"

    def index(self, name: Format) -> str:
        return f"{self.artefact(name)}.index"

    @property
    def mtree(self) -> str:
        return f"{self.single}.mtree" if self.single else places.TREE


def build(order: Order, emit: Emit) -> Built:
    """Build a release: nothing is left under a final name unless all of it is right."""
    parent, single = _destination(order)
    places.make_parent(parent, [one.path for one in order.recipe.layers])
    prepared = prepare(order.recipe, _wanted(order), emit)
    tree = prepared.tree
    jobs = _jobs(order, prepared)
    for name, job in jobs.items():
        FORMATS[name].check(job)
    digests = digest_files(tree, order.threads, emit)
    described = _Described(tree, "".join(mtree.to_lines(tree, digests)))
    version = order.version or order.recipe.version or described.sha256[:VERSION_DIGITS]
    names = _Names(parent, single, f"{order.recipe.name}-{version}")
    with places.partial(parent, names.folder) as folder:
        made = _write(described, names, jobs, folder, emit)
        release = _release(order.recipe, version, described, names, made.values())
        prepared.laid.recheck()
        return _publish(folder, names, release)


def default_threads() -> int:
    """Return how many processors may be used."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _destination(order: Order) -> tuple[Path, str | None]:
    """Return the folder of the release's folder, or of the single file, and that file's name."""
    output = order.output
    if output is None:
        return OUT, None
    formats = order.formats or order.recipe.formats
    if output.is_dir() or len(formats) > 1:
        if output.exists() and not output.is_dir():
            raise ConfigError(
                f"{output} is a file, and {len(formats)} formats make a folder",
                hint="name one --format, or a folder as --output",
            )
        return output, None
    return output.parent, output.name


def _wanted(order: Order) -> Wanted:
    formats = order.formats or order.recipe.formats
    limits: dict[str, Limits] = {name: FORMATS[name].limits for name in formats}
    return Wanted(limits, order.epoch_s, order.mtree, order.excludes)


def _jobs(order: Order, prepared: Prepared) -> dict[Format, Job]:
    """Settle how each format is packed; a wrong setting is refused before anything is read."""
    recipe, tree, source = order.recipe, prepared.tree, prepared.laid.equal_source
    is_equal = source is not None and _is_clamp_of(prepared.laid.tree, tree)
    return {
        name: Job(
            tree=tree,
            packed=packed(name, recipe.packing_of(name, order.packing)),
            label=label_of(recipe),
            source=source if is_equal else None,
            threads=order.threads,
        )
        for name in order.formats or recipe.formats
    }


def _is_clamp_of(scanned: Tree, tree: Tree) -> bool:
    """Tell whether nothing but times was clamped, which mkfs.erofs can do as well."""
    latest_s = max(node.mtime_s for node in tree)
    clamped = (replace(node, mtime_s=min(node.mtime_s, latest_s)) for node in scanned)
    return tuple(clamped) == tree.nodes


def _write(
    described: _Described,
    names: _Names,
    jobs: Mapping[Format, Job],
    folder: Path,
    emit: Emit,
) -> dict[Format, _Made]:
    """Write all artefacts of a release and what describes them, but the manifest."""
    (folder / names.mtree).write_text(described.text, encoding="utf-8")
    made: dict[Format, _Made] = {}
    for name, job in jobs.items():
        target = Target(folder / names.artefact(name), described.sha256, emit)
        one = FORMATS[name].write(job, target)
        index_sha256 = _write_index(folder / names.index(name), one)
        made[name] = _Made(_artefact(name, names, job, one, index_sha256), one.tools)
    return made


def _write_index(path: Path, made: Made) -> str:
    """Write an index, and return its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for line in to_lines(Index(made.sha256, made.size_bytes, made.pieces)):
            data = line.encode()
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _artefact(name: Format, names: _Names, job: Job, made: Made, index_sha256: str) -> Artefact:
    return Artefact(
        format=name,
        file=names.artefact(name),
        size_bytes=made.size_bytes,
        sha256=made.sha256,
        head_sha256=made.head_sha256,
        index=names.index(name),
        index_sha256=index_sha256,
        codec=job.packed.codec,
        level=job.packed.level,
        cluster_bytes=job.packed.cluster_bytes,
        parameters=dict(made.parameters),
    )


def _release(
    recipe: Recipe,
    version: str,
    described: _Described,
    names: _Names,
    made: Iterable[_Made],
) -> Release:
    made = list(made)
    artefacts = tuple(one.artefact for one in made)
    tools = {"flipslot": installed_version("flipslot")}
    for one in made:
        tools |= one.tools
    return Release(
        id=release_id(described.sha256, artefacts),
        name=recipe.name,
        version=version,
        mtree=names.mtree,
        mtree_sha256=described.sha256,
        entries=len(described.tree),
        content_bytes=_content_bytes(described.tree),
        artefacts=artefacts,
        tools=dict(sorted(tools.items())),
    )


def _content_bytes(tree: Tree) -> int:
    """Sum the files' bytes, those of a hard-linked file once."""
    return sum(node.size for node in first_files(tree))


def _publish(folder: Path, names: _Names, release: Release) -> Built:
    if names.single is not None:
        final = names.parent / names.single
        places.publish_files(folder, final, release)
        return Built(release, final.with_name(f"{final.name}.{places.MANIFEST}"), is_new=True)
    final = names.parent / names.label
    is_new = places.publish_folder(folder, final, release)
    return Built(release, final / places.MANIFEST, is_new)
