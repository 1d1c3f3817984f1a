"""A recipe → the tree that goes into every format: sources laid, rules applied, linted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import busy, files, layers, mtree
from builder.globs import matcher
from builder.lint import Judged, Limits, Waiver, judge, lint, summaries
from builder.names import listed
from builder.normalise import Override, normalise, path_of
from builder.recipe import Recipe, SourceSettings
from builder.tree import Kind, Tree
from slots.errors import BuildError, ConfigError
from slots.events import Emit, Notice, step


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says over the recipe, and the limits of the formats asked for."""

    limits: Mapping[str, Limits]
    epoch_s: int | None = None
    mtree: Path | None = None
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The tree to be written, and the sources that it was made of."""

    tree: Tree
    laid: layers.Laid


def prepare(recipe: Recipe, wanted: Wanted, emit: Emit) -> Prepared:
    """Read all sources and make their tree; what is told is told, what cannot be is refused."""
    for source in recipe.layers:
        busy.refuse_busy(source.path)
    prepared = read(recipe, wanted, emit)
    judged = judged_by(recipe, prepared, wanted.limits)
    if unreadable := prepared.laid.left_out["unreadable"]:
        raise BuildError(
            f"cannot read {len(unreadable)} of the source: {listed(unreadable)}",
            hint="build as root, or leave them out with --exclude",
        )
    if judged.errors:
        raise BuildError(
            "; ".join(summaries(judged.errors)),
            hint="exclude or change what is named, or build another format",
        )
    for line in (*summaries(judged.findings), *map(unused, judged.unused)):
        emit(Notice(line))
    return prepared


def read(recipe: Recipe, wanted: Wanted, emit: Emit) -> Prepared:
    """Read all sources and make their tree."""
    rules = recipe.rules(wanted.epoch_s, files.added(recipe))
    with step(emit, "scan", ", ".join(str(one.path) for one in recipe.layers)) as detail:
        laid = layers.lay([_source(one, recipe, wanted) for one in recipe.layers])
        tree = normalise(laid.tree, rules, _overrides(recipe, wanted, laid), emit)
        detail.append(f"{len(tree)} entries")
    return Prepared(tree, laid)


def _source(one: SourceSettings, recipe: Recipe, wanted: Wanted) -> layers.Source:
    return layers.Source(one.path, matcher([*recipe.exclude, *one.exclude, *wanted.excludes]))


def judged_by(recipe: Recipe, prepared: Prepared, limits: Mapping[str, Limits]) -> Judged:
    """Apply the rules of lint, and the waivers of the recipe."""
    mount_points = [path_of(one) for one in recipe.mount_points]
    found = lint(prepared.tree, limits, left_out=prepared.laid.left_out, mount_points=mount_points)
    return judge(found, recipe.waivers)


def unused(waiver: Waiver) -> str:
    """Say that a waiver silences nothing."""
    return f"a waiver of the recipe matches nothing: {waiver.code} {waiver.match}"


def _overrides(recipe: Recipe, wanted: Wanted, laid: layers.Laid) -> Mapping[bytes, Override]:
    """Read the mtree file, if one is given; what it says of what is left out does not count."""
    path = wanted.mtree or recipe.mtree
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"cannot read the mtree file {path}: {error.strerror}") from error
    said = mtree.overrides(
        mtree.parse(text.split("\n"), str(path)),
        str(path),
        mtree.USERS | _owners(laid.tree, b"/etc/passwd"),
        mtree.GROUPS | _owners(laid.tree, b"/etc/group"),
    )
    here = {node.path for node in laid.tree}
    gone = {one for layer in laid.layers for one in (*layer.excluded, *layer.sockets)}
    return {
        path: override
        for path, override in said.items()
        if path in here or not any(one in gone for one in _with_parents(path))
    }


def _with_parents(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _owners(tree: Tree, path: bytes) -> dict[str, int]:
    """Return the names of owners that the image itself knows."""
    node = next((one for one in tree if one.path == path and one.kind is Kind.FILE), None)
    if node is None or not isinstance(node.content, str):
        return {}
    try:
        return mtree.owners_of(Path(node.content).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
