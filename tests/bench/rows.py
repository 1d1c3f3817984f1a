"""The measures of the bench; each returns lines of its table."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slots.index import Index
from tests.bench import edits, line_rows, peers, scratch, travel, travel_rows
from tests.bench.least import least_bytes
from tests.bench.measure import Usage, alternate, run
from tests.bench.peers import BLOCK_BYTES
from tests.bench.report import NOTHING, TIMES, Line, Verdict, against, below, missing
from tests.bench.travel_peers import Update
from tests.bench.travel_rows import Packing
from tests.bench.trees import Trees

MB = 1e6
SMALL_CLUSTER_BYTES = 65_536
SMALL_FILES = (10_000, 100_000)
MILLION_FILES = 1_000_000
FILES_PER_DIRECTORY = 100
LINEAR = 1.3  # a file may cost so much more in the big tree than in the small one


@dataclass(frozen=True, slots=True)
class Bench:
    """What the measures share."""

    work: Path  # a folder that may be filled and is emptied
    trees: Trees
    runs: int
    places: int  # in how many places an edit is tried
    full: bool

    def path(self, name: str) -> Path:
        """Return a file of the work folder."""
        return self.work / name


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure, and the tools without which it cannot be made."""

    take: Callable[[Bench], Iterable[Line]]
    tools: Sequence[str] = ()


def take(name: str, bench: Bench) -> list[Line]:
    """Take a measure; what it lacks is said in its line."""
    measure = MEASURES[name]
    if lacking := peers.lacking(measure.tools):
        return [missing(name, f"{' and '.join(lacking)} missing")]
    return list(measure.take(bench))


# --- cold builds ---------------------------------------------------------------------------


def cold_128(bench: Bench) -> Iterable[Line]:
    """Build from nothing, beside mksquashfs with the same codec, level and block."""
    image, squashfs = bench.path("cold.uzip"), bench.path("cold.squashfs")
    ours, peer = alternate(
        [
            [peers.image_build(bench.trees.v1, image, *peers.uzip(BLOCK_BYTES))],
            [peers.mksquashfs(bench.trees.v1, squashfs)],
        ],
        bench.runs,
    )
    name, what = "mksquashfs", "cold build, zstd 9, 128 KiB"
    size, peer_size = image.stat().st_size / MB, squashfs.stat().st_size / MB
    yield against(f"{what}: CPU", ours.cpu_s, peer.cpu_s, 1.15, show="{:.1f} s", peer_name=name)
    yield against(f"{what}: wall", ours.wall_s, peer.wall_s, 1.15, show="{:.1f} s", peer_name=name)
    yield against(f"{what}: size", size, peer_size, 1.06, show="{:.1f} MB", peer_name=name)
    yield below(
        f"{what}: memory",
        ours.peak_bytes / MB,
        300,
        show="{:.0f} MB",
        peer=f"{name}: {peer.peak_bytes / MB:.0f} MB",
    )


def cold_64(bench: Bench) -> Iterable[Line]:
    """Build a uzip in one go, beside an ISO image that is then compressed."""
    image, iso, packed = bench.path("cold64.uzip"), bench.path("plain.iso"), bench.path("iso.uzip")
    ours, peer = alternate(
        [
            [peers.image_build(bench.trees.v1, image, *peers.uzip(SMALL_CLUSTER_BYTES))],
            [peers.xorriso(bench.trees.v1, iso), peers.uzip_of_file(iso, packed)],
        ],
        bench.runs,
    )
    name, what = "xorriso, then our uzip writer", "cold build, zstd 9, 64 KiB"
    yield against(f"{what}: wall", ours.wall_s, peer.wall_s, 0.7, show="{:.1f} s", peer_name=name)
    yield against(f"{what}: CPU", ours.cpu_s, peer.cpu_s, None, show="{:.1f} s", peer_name=name)
    sizes = image.stat().st_size / MB, packed.stat().st_size / MB
    yield against(f"{what}: size", *sizes, None, show="{:.1f} MB", peer_name=name)


# --- rebuilds ------------------------------------------------------------------------------


def rebuild(bench: Bench) -> Iterable[Line]:
    """Build a tree again: untouched, then after the upgrade has happened in place.

    The untouched one is asked for where it stands, and elsewhere. The images of earlier builds stay
    where they are, as those of releases do.
    """
    with scratch.copied(bench.trees.v1, bench.path("copy")) as tree:
        first, _ = _rebuilt(bench, tree, "first.uzip")
        again = [_rebuilt(bench, tree, "first.uzip", stands=True) for _ in range(bench.runs)]
        elsewhere, moved = _rebuilt(bench, tree, "elsewhere.uzip")
        travel.update_in_place(tree, bench.trees.v2)
        second, upgraded = _rebuilt(bench, tree, "upgraded.uzip")
        peer = run(peers.mksquashfs(tree, bench.path("whole.squashfs")))
        cold = bench.path("cold.uzip")
        run(peers.image_build(tree, cold, *peers.uzip(BLOCK_BYTES)))
    yield from _rebuild_lines([usage for _, usage in again], moved, upgraded, peer)
    same = all(sha256 == first for sha256 in (elsewhere, *(sha256 for sha256, _ in again)))
    yield _truth("rebuild, nothing changed: the same bytes", holds=same)
    same = second == _sha256(cold)
    yield _truth("rebuild after the upgrade: the bytes of a cold build", holds=same)


def _rebuilt(bench: Bench, tree: Path, name: str, *, stands: bool = False) -> tuple[str, Usage]:
    """Build with the cache; return the digest of the image, and the cost.

    An image that stands there is left to the build; otherwise it is removed before.
    """
    out = bench.path(name)
    command = peers.image_build(tree, out, *peers.uzip(BLOCK_BYTES), cache=bench.path("cache"))
    usage = run(replace(command, out=None) if stands else command)
    return _sha256(out), usage


def _rebuild_lines(
    again: Sequence[Usage], moved: Usage, upgraded: Usage, peer: Usage
) -> Iterable[Line]:
    yield against(
        "rebuild after the upgrade: CPU",
        upgraded.cpu_s,
        peer.cpu_s,
        0.2,
        show="{:.1f} s",
        peer_name="mksquashfs whole",
    )
    wall_s = sorted(one.wall_s for one in again)[len(again) // 2]
    cpu_s = sorted(one.cpu_s for one in again)[len(again) // 2]
    what = f"rebuild, nothing changed: wall (CPU {cpu_s:.1f} s)"
    yield below(what, wall_s, 3, show="{:.1f} s")
    yield Line(
        "rebuild, nothing changed, into another file: CPU",
        f"{moved.cpu_s:.1f} s",
        NOTHING,
        NOTHING,
        NOTHING,
        Verdict.NO_AIM,
    )


def _truth(figure: str, *, holds: bool) -> Line:
    verdict = Verdict.MET if holds else Verdict.MISSED
    return Line(figure, "yes" if holds else "no", NOTHING, NOTHING, "yes", verdict)


def _sha256(out: Path) -> str:
    """Return what the release beside an image says of its digest."""
    release = json.loads(out.with_name(f"{out.name}.release.json").read_text())
    found: str = release["artefacts"][0]["sha256"]
    return found


# --- what travels --------------------------------------------------------------------------


def update(bench: Bench) -> Iterable[Line]:
    """Count the bytes of an update from v1 to v2 in our formats, beside rsync of the tree.

    Nobody has what the recipe leaves out.
    """
    with scratch.changeable(bench.trees.v1, bench.path("receiver")) as receiver:
        peer = travel.rsync_bytes(bench.trees.v2, receiver, bench.work, peers.left_out())
    old, new = _both(bench, "uzip", *peers.uzip(SMALL_CLUSTER_BYTES))
    clusters = travel.new_bytes(old.pieces[1:], new.pieces[1:])
    table = travel.table_gzipped_bytes(bench.path("v2.uzip"), new)
    yield against(
        f"new bytes v1 → v2, 64 KiB, zstd 9, with {table / MB:.2f} MB of gzipped table",
        (clusters + table) / MB,
        peer / MB,
        1.1,
        show="{:.2f} MB",
        peer_name="rsync -a -z --zc=zstd --delete",
    )
    yield against(
        "new bytes v1 → v2, 64 KiB, zstd 9",
        (clusters + table) / MB,
        least_bytes(bench.trees.v1, bench.trees.v2, peers.left_out()) / MB,
        None,
        show="{:.2f} MB",
        peer_name="what is new in files, in clusters of its own",
    )
    old, new = _both(bench, "squashfs", "--format", "squashfs")
    yield against(
        "new bytes v1 → v2 from squashfs artefacts, pieces of 4 KiB",
        travel.new_bytes(old.pieces, new.pieces) / MB,
        peer / MB,
        1.25,
        show="{:.2f} MB",
        peer_name="rsync",
    )


def _both(bench: Bench, suffix: str, *options: str) -> tuple[Index, Index]:
    """Build both versions by one recipe, so that their labels are equal; return their indexes."""
    recipe = _recipe(bench)
    found = []
    for name, tree in (("v1", bench.trees.v1), ("v2", bench.trees.v2)):
        out = bench.path(f"{name}.{suffix}")
        if not out.exists():  # another measure of this run has built it
            run(peers.image_build(tree, out, *options, recipe=recipe))
        found.append(travel.read_index(out.with_name(f"{out.name}.index")))
    return found[0], found[1]


def _recipe(bench: Bench) -> Path:
    recipe = bench.path("bench.toml")
    recipe.write_text(f'source = "."\nexclude = {json.dumps(peers.left_out())}\n')
    return recipe


def upgrade(bench: Bench) -> Iterable[Line]:
    """Send the update as a pack, beside every other way."""
    _both(bench, "uzip", *peers.uzip(SMALL_CLUSTER_BYTES))
    _both(bench, "squashfs", "--format", "squashfs")
    squashfs = bench.path("v1.squashfs"), bench.path("v2.squashfs")
    images = bench.path("v1.uzip"), bench.path("v2.uzip")
    ways = Update(bench.trees.v1, bench.trees.v2, *images, bench.work, peers.left_out())
    return travel_rows.upgrade(ways, squashfs)


def packed_edits(bench: Bench) -> Iterable[Line]:
    """Send single edits as packs."""
    packings = [
        Packing("uzip", peers.uzip(SMALL_CLUSTER_BYTES), travel_rows.EDIT_MB),
        Packing("squashfs", ("--format", "squashfs"), travel_rows.SQUASHFS_EDIT_MB),
    ]
    return travel_rows.single_edits(bench.trees.v1, bench.work, packings, _recipe(bench))


def single_edits(bench: Bench) -> Iterable[Line]:
    """Count what single edits of v1 change of its image; in one place of a sequential one too."""
    old = edits.image_of(bench.trees.v1)
    sequential = edits.image_of(bench.trees.v1, edits.SEQUENTIAL)
    for edit in edits.EDITS:
        costs: list[edits.Cost] = []
        in_sequence: list[edits.Cost] = []
        for place in edit.places(old.tree, bench.places):
            with scratch.changeable(bench.trees.v1, bench.path("edited")) as tree:
                edit.apply(tree, place)
                costs.append(edits.cost_of(old, tree, place))
                if not in_sequence:
                    in_sequence.append(edits.cost_of(sequential, tree, place))
        yield _edit_line(edit, costs, in_sequence)


def _edit_line(
    edit: edits.Edit, costs: Sequence[edits.Cost], sequential: Sequence[edits.Cost]
) -> Line:
    if not costs:
        return missing(edit.name, "the tree has no place for it")
    sizes = ", ".join(f"{one.new_bytes / 1000:.0f}" for one in costs)
    tables = max(one.path_table_bytes for one in costs) / 1000
    worst = max(one.new_bytes for one in costs)
    return Line(
        f"edit: {edit.name}" + (f" (and path tables: {tables:.0f} kB)" if tables else ""),
        f"{sizes} kB",
        f"sequential layout: {sequential[0].new_bytes / 1000:.0f} kB",
        f"{costs[0].new_bytes / sequential[0].new_bytes:.3f} {TIMES}",
        f"≤ {edit.aim_bytes // 1000} kB",
        Verdict.MET if worst <= edit.aim_bytes else Verdict.MISSED,
    )


# --- size ----------------------------------------------------------------------------------


def many_files(bench: Bench) -> Iterable[Line]:
    """Build trees of many small files: memory, and whether time grows with their number alone."""
    counts = (*SMALL_FILES, MILLION_FILES) if bench.full else SMALL_FILES
    used = {count: _many(bench, count) for count in (1, *counts)}
    nothing, least = used[1], counts[0]
    per_file = {count: (used[count].cpu_s - nothing.cpu_s) / count for count in counts}
    for count in counts:
        what = f"{count:,} small files"
        took = f"wall {used[count].wall_s:.1f} s, CPU {used[count].cpu_s:.1f} s"
        yield below(f"{what}: memory ({took})", used[count].peak_bytes / MB, 1000, show="{:.0f} MB")
        if count != least:
            yield against(
                f"{what}: CPU of one file",
                per_file[count] * 1000,
                per_file[least] * 1000,
                LINEAR,
                show="{:.3f} ms",
                peer_name=f"in {least:,}",
            )
    if not bench.full:
        yield missing(f"{MILLION_FILES:,} small files", "make bench ARGS=--full")


def _many(bench: Bench, count: int) -> Usage:
    with scratch.in_memory(bench.path("many")) as folder:
        write_small_files(folder / "tree", count)
        return run(peers.image_build(folder / "tree", bench.path("many.uzip")))


def write_small_files(root: Path, count: int) -> None:
    """Write a tree of small files, the same each time: 100 to 2,000 bytes of letters."""
    chance = random.Random(count)  # noqa: S311 - no secret, the same each time
    pool = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz \n", k=1 << 16)).encode()
    for first in range(0, count, FILES_PER_DIRECTORY):
        number = first // FILES_PER_DIRECTORY
        folder = root / f"{number // 100:03}" / f"{number % 100:02}"
        folder.mkdir(parents=True)
        for file in range(first, min(count, first + FILES_PER_DIRECTORY)):
            start = chance.randrange(len(pool) - 2000)
            data = b"%d\n" % file + pool[start : start + chance.randint(100, 2000)]
            (folder / f"file{file}.txt").write_bytes(data)


def over_a_line(bench: Bench) -> Iterable[Line]:
    """Update four frontends behind long, slow lines, beside rsync to the same."""
    return line_rows.over_a_line(bench.trees, bench.path("line"))


MEASURES = {
    "cold build, 128 KiB": Measure(cold_128, ("mksquashfs",)),
    "cold build, 64 KiB": Measure(cold_64, ("xorriso",)),
    "rebuild": Measure(rebuild, ("mksquashfs", "rsync")),
    "update": Measure(update, ("rsync",)),
    "upgrade": Measure(upgrade, ("rsync",)),
    "edits": Measure(single_edits),
    "packed edits": Measure(packed_edits),
    "over 50 Mbit/s and 40 ms": Measure(over_a_line, ("rsync", "ssh", "tc")),
    "many files": Measure(many_files),
}
