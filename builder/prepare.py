"""A recipe → the tree that goes into every format: sources laid, rules applied, linted."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import busy, files, layers, mtree
from builder.globs import Matcher, matcher
from builder.lint import Judged, Limits, Waiver, judge, lint, summaries
from builder.names import listed
from builder.normalise import NewFile, Override, normalise, path_of
from builder.recipe import Recipe, SourceSettings
from builder.stamps import Stamp
from builder.tree import Kind, Tree
from builder.walk import Seen, walk
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
class Inputs:
    """All that a tree is made of, but for what its files hold."""

    seen: tuple[Seen, ...]  # of each source
    added: tuple[NewFile, ...]
    mtree: bytes | None  # the text of the mtree file

    def digest(self) -> bytes:
        """Return a digest of it all: the same one, and the tree is the same."""
        digest = hashlib.sha256()
        for part in (repr(self.added).encode(), repr(self.mtree).encode()):
            digest.update(hashlib.sha256(part).digest())
        for one in self.seen:
            digest.update(one.digest())
        return digest.digest()

    @property
    def latest_ns(self) -> int:
        """The last time that anything of it was written."""
        stamps = [one.stamp for one in self.added if one.stamp is not None]
        return max(
            *(one.latest_ns for one in self.seen),
            *(max(stamp.mtime_ns, stamp.ctime_ns) for stamp in map(Stamp.of, stamps)),
            0,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """The tree to be written, and the sources that it was made of."""

    tree: Tree
    laid: layers.Laid


def look(recipe: Recipe, wanted: Wanted, emit: Emit) -> Inputs:
    """Look at all sources, none of which a package manager may be changing."""
    for source in recipe.layers:
        busy.refuse_busy(source.path)
    return _look(recipe, wanted, emit)


def _look(recipe: Recipe, wanted: Wanted, emit: Emit) -> Inputs:
    added, specification = files.added(recipe), _specification(recipe, wanted)
    with step(emit, "scan", ", ".join(str(one.path) for one in recipe.layers)) as detail:
        seen = tuple(walk(one.path, _excluded(one, recipe, wanted)) for one in recipe.layers)
        detail.append(f"{sum(map(len, seen))} entries")
    return Inputs(seen, added, specification)


def prepare(recipe: Recipe, wanted: Wanted, inputs: Inputs, emit: Emit) -> Prepared:
    """Make the tree of all sources; what is told is told, what cannot be is refused."""
    prepared = _prepared(recipe, wanted, inputs, emit)
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
    told = (*_idle(wanted, inputs), *summaries(judged.findings), *map(unused, judged.unused))
    for line in told:
        emit(Notice(line))
    return prepared


def read(recipe: Recipe, wanted: Wanted, emit: Emit) -> Prepared:
    """Read all sources and make their tree, whatever is being done to them."""
    return _prepared(recipe, wanted, _look(recipe, wanted, emit), emit)


def _prepared(recipe: Recipe, wanted: Wanted, inputs: Inputs, emit: Emit) -> Prepared:
    laid = layers.laid(inputs.seen)
    rules = recipe.rules(wanted.epoch_s, inputs.added)
    overrides = {} if inputs.mtree is None else _overrides(recipe, wanted, inputs.mtree, laid)
    return Prepared(normalise(laid.tree, rules, overrides, emit), laid)


def _excluded(one: SourceSettings, recipe: Recipe, wanted: Wanted) -> Matcher:
    return matcher([*recipe.exclude, *one.exclude, *wanted.excludes])


def _idle(wanted: Wanted, inputs: Inputs) -> Iterator[str]:
    """Say which patterns of the command line leave nothing out: a slip, most likely.

    Those of a recipe are not told: it may serve chroots that do not all have what it leaves out.
    """
    gone = [path for one in inputs.seen for path in one.excluded]
    idle = [one for one in dict.fromkeys(wanted.excludes) if not any(map(matcher([one]), gone))]
    if idle:
        yield f"--exclude leaves nothing out: {listed([*map(os.fsencode, idle)])}"


def judged_by(recipe: Recipe, prepared: Prepared, limits: Mapping[str, Limits]) -> Judged:
    """Apply the rules of lint, and the waivers of the recipe."""
    mount_points = [path_of(one) for one in recipe.mount_points]
    found = lint(prepared.tree, limits, left_out=prepared.laid.left_out, mount_points=mount_points)
    return judge(found, recipe.waivers)


def unused(waiver: Waiver) -> str:
    """Say that a waiver silences nothing."""
    return f"a waiver of the recipe matches nothing: {waiver.code} {waiver.match}"


def _specification(recipe: Recipe, wanted: Wanted) -> bytes | None:
    """Read the mtree file, if one is given."""
    path = wanted.mtree or recipe.mtree
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the mtree file {path}: {error.strerror}") from error


def _overrides(
    recipe: Recipe, wanted: Wanted, specification: bytes, laid: layers.Laid
) -> Mapping[bytes, Override]:
    """Return what the mtree file says; what it says of what is left out does not count."""
    where, text = str(wanted.mtree or recipe.mtree), specification.decode(errors="surrogateescape")
    text = text.replace("\r\n", "\n")
    entries = mtree.parse(text.split("\n"), where)
    mtree.check_tells(entries, where)
    said = mtree.overrides(
        entries,
        where,
        mtree.USERS | _owners(laid.tree, b"/etc/passwd"),
        mtree.GROUPS | _owners(laid.tree, b"/etc/group"),
        root_is_assumed=mtree.is_metalog(text),
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
    if node is None or node.file is None:
        return {}
    try:
        text = Path(os.fsdecode(node.file)).read_text(encoding="utf-8", errors="replace")
        return mtree.owners_of(text)
    except OSError:
        return {}
