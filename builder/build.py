"""`image build`: the pipeline of one release. The only file that knows the order of the stages."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder import cache, mtree, places, releases, unchanged
from builder.cache import Cache
from builder.digest import digest_files
from builder.formats import FORMATS, Job, Made, Target, packed
from builder.lint import Limits
from builder.prepare import Prepared, Wanted, look, prepare
from builder.recipe import Packing, Recipe, label_of
from builder.releases import Described, Names, Plan
from builder.tree import Tree
from builder.unchanged import Hearing, Question
from slots.errors import ConfigError
from slots.events import Emit, Notice
from slots.garbage import uncollected
from slots.index import Index, to_lines
from slots.manifest import Format, Release

OUT = Path("images/out")
VERSION_DIGITS = 12
_FILE_NAME_MAX = 200  # of 255: what lies beside an image has its name and more


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
    cache: Path | None = None  # the folder of what earlier builds knew; None: know nothing
    reads_all: bool = False  # every file is read, whatever the cache knows


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left: the release, where its description lies, whether it is new."""

    release: Release
    manifest: Path
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Work:
    """With what a release is made: a folder for it, what earlier builds knew, who is told."""

    folder: Path
    known: Cache
    emit: Emit


def build(order: Order, emit: Emit) -> Built:
    """Build a release: nothing is left under a final name unless all of it is right."""
    with uncollected():
        return _build(order, emit)


def _build(order: Order, emit: Emit) -> Built:
    names = _destination(order)
    places.make_parent(names.parent, _sources(order))
    with cache.opened(_cache_folder(order, emit), emit, reads_all=order.reads_all) as known:
        question = _question(order, names)
        inputs = look(order.recipe, question.wanted, emit)
        key = question.digest(inputs)
        if found := unchanged.standing(key, names, known, emit):
            return _newest(*found)
        hearing, latest_ns = Hearing(emit), inputs.latest_ns
        prepared = prepare(order.recipe, question.wanted, inputs, hearing)
        del inputs  # a third of the tree
        with places.partial(names.parent, names.folder) as folder:
            plan = _plan(order, question, prepared, _Work(folder, known, emit))
            built = _made(plan, prepared, _Work(folder, known, emit))
        if known.is_settled(latest_ns):
            known.keep_release(key, unchanged.remembered(built.release, hearing.told))
        return built


def _made(plan: Plan, prepared: Prepared, work: _Work) -> Built:
    """Make a release, unless it stands there already."""
    folder, known, emit = work.folder, work.known, work.emit
    if known.is_on and not known.reads_all and (found := releases.standing(plan, known, emit)):
        return _newest(found, plan.names)
    if plan.is_named:
        releases.refuse_other(plan)
    made = _write(plan, folder, known, emit)
    release = _described(plan, made, folder)
    prepared.laid.recheck()
    if plan.is_named:
        releases.refuse_other(plan, release)
    built = _publish(folder, plan, release)
    for name, one in made.items():
        known.keep_clusters(plan.names.final / plan.names.artefact(name), one.how, one.clusters)
    return built


def _newest(release: Release, names: Names) -> Built:
    """Make a release that stands there the newest again."""
    names.manifest.touch()
    return Built(release, names.manifest, is_new=False)


def default_threads() -> int:
    """Return how many processors may be used."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sources(order: Order) -> list[Path]:
    return [one.path for one in order.recipe.layers]


def _cache_folder(order: Order, emit: Emit) -> Path | None:
    """Return where the cache lies; one inside a source would change it while it is read."""
    folder = order.cache
    if folder is None or places.source_around(folder, _sources(order)) is None:
        return folder
    emit(Notice(f"building without the cache in {folder}: it lies inside the source"))
    return None


def _destination(order: Order) -> Names:
    """Return the folder of the release's folder, or of the single file, and that file's name."""
    output, name = order.output, order.recipe.name
    if output is None:
        return Names(OUT, None, name)
    formats = order.formats or order.recipe.formats
    if output.is_dir() or len(formats) > 1:
        if output.exists() and not output.is_dir():
            raise ConfigError(
                f"{output} is a file, and {len(formats)} formats make a folder",
                hint="name one --format, or a folder as --output",
            )
        return Names(output, None, name)
    if output.is_symlink():
        raise ConfigError(
            f"{output} is a symlink to {output.readlink()}", hint="name the file itself"
        )
    if len(os.fsencode(output.name)) > _FILE_NAME_MAX or not output.name.isprintable():
        raise ConfigError(
            f"an image cannot be named {output.name!r}",
            hint=f"UTF-8 that can be printed, up to {_FILE_NAME_MAX} bytes",
        )
    if output.exists() and not output.is_file():
        raise ConfigError(
            f"{output} is no regular file", hint="name a file or a folder as --output"
        )
    return Names(output.parent, output.name, name)


def _question(order: Order, names: Names) -> Question:
    """Settle what is asked for; a wrong setting is refused before anything is read."""
    recipe, formats = order.recipe, order.formats or order.recipe.formats
    limits: dict[str, Limits] = {name: FORMATS[name].limits for name in formats}
    return Question(
        recipe=recipe,
        wanted=Wanted(limits, order.epoch_s, order.mtree, order.excludes),
        version=order.version or recipe.version,
        packed={name: packed(name, recipe.packing_of(name, order.packing)) for name in formats},
        names=names,
    )


def _plan(order: Order, question: Question, prepared: Prepared, work: _Work) -> Plan:
    """Settle what will be made; what a format cannot hold is refused before any file is read.

    The specification of the tree is written on the way: it names the release.
    """
    tree = prepared.tree
    jobs = _jobs(order, question, prepared)
    checked = {name: FORMATS[name].check(job) for name, job in jobs.items()}
    digests = digest_files(tree, order.threads, work.emit, work.known)
    sha256 = mtree.write(tree, digests, work.folder / question.names.mtree)
    described = Described(tree, digests, sha256)
    version = question.version or described.sha256[:VERSION_DIGITS]
    return Plan(
        name=order.recipe.name,
        version=version,
        is_named=question.version is not None,
        names=question.names.of(version),
        described=described,
        jobs=jobs,
        checked=checked,
    )


def _jobs(order: Order, question: Question, prepared: Prepared) -> dict[Format, Job]:
    """Settle how each format is packed."""
    tree = prepared.tree
    source = prepared.laid.equal_source if "erofs" in question.packed else None
    is_equal = source is not None and _is_clamp_of(prepared.laid.tree, tree)
    return {
        name: Job(
            tree=tree,
            packed=one,
            label=label_of(order.recipe),
            source=source if is_equal else None,
            threads=order.threads,
        )
        for name, one in question.packed.items()
    }


def _is_clamp_of(scanned: Tree, tree: Tree) -> bool:
    """Tell whether nothing but times was clamped, which mkfs.erofs can do as well."""
    latest_s = max(node.mtime_s for node in tree)
    clamped = (node._replace(mtime_s=min(node.mtime_s, latest_s)) for node in scanned)
    return tuple(clamped) == tree.nodes


def _write(plan: Plan, folder: Path, known: Cache, emit: Emit) -> dict[Format, Made]:
    """Write all artefacts of a release."""
    made: dict[Format, Made] = {}
    for name, job in plan.jobs.items():
        target = Target(
            folder / plan.names.artefact(name),
            plan.described.sha256,
            emit,
            plan.described.digests,
            known.clusters,
        )
        made[name] = FORMATS[name].write(job, target)
    return made


def _described(plan: Plan, made: Mapping[Format, Made], folder: Path) -> Release:
    """Write the indexes, and return the description of it all."""
    return plan.release(
        tuple(
            plan.artefact(name, one, _write_index(folder / plan.names.index(name), one))
            for name, one in made.items()
        )
    )


def _write_index(path: Path, made: Made) -> str:
    """Write an index, and return its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for line in to_lines(Index(made.sha256, made.size_bytes, made.pieces)):
            data = line.encode()
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _publish(folder: Path, plan: Plan, release: Release) -> Built:
    names = plan.names
    if names.single is not None:
        places.publish_files(folder, names.parent / names.single, release)
        return Built(release, names.manifest, is_new=True)
    is_new = places.publish_folder(folder, names.final, release)
    return Built(release, names.manifest, is_new)
