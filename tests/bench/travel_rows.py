"""Measures of what really travels: pack and head, beside other ways; making packs; replaying."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.packs import Pack, read
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.pack import packed_head
from tests.bench import edits, peers, scratch, travel_peers
from tests.bench.measure import Command, Usage, run
from tests.bench.report import NOTHING, Line, Verdict, against, below, missing
from tests.bench.travel_peers import Sent, Update
from tests.bench.travel_replay import plain_dd, replay

MB = 1e6
EDIT_MB, SQUASHFS_EDIT_MB = 0.5, 1.5
PACK_S = 10
REPLAY_S, EDIT_REPLAY_S = 12, 2
UZIP_AIM, SQUASHFS_AIM = 1.1, 1.25


def made(old: Path, new: Path, out: Path) -> tuple[Pack, Usage]:
    """Make the pack between two images by the command."""
    command = [str(peers.DEPLOY), "pack", str(old), str(new), "-o", str(out), "--quiet"]
    usage = run(Command(command, out))
    return read(out), usage


def travels_mb(pack: Pack, image: Path) -> float:
    """Return all that is sent: the pack with its moves, and the head of the image."""
    with image.open("rb") as file:
        head = packed_head(file.read(HEAD_BYTES))
    return (pack.facts.size_bytes + len(head)) / MB


def artefact_of(image: Path) -> Artefact:
    """Return what the release beside an image says of it."""
    text = image.with_name(f"{image.name}.release.json").read_text()
    return Release.from_json(text).artefacts[0]


def upgrade(update: Update, squashfs: tuple[Path, Path]) -> Iterable[Line]:
    """Hold the upgrade's pack against all other ways."""
    pack, usage = made(update.old, update.new, update.work / "upgrade.pack")
    replayed = replay(update.old, update.new, artefact_of(update.new), pack.path, pack.facts)
    ours_mb, ours_s = travels_mb(pack, update.new), usage.cpu_s + replayed.cpu_s
    moves = f"{pack.facts.moves:,} moves"
    for name, sent in travel_peers.all_of(update, peers.lacking):
        what = f"v1 → v2, all that travels ({moves}), uzip 64 KiB, zstd 9"
        if sent is None:
            yield missing(f"{what}: {name}", f"{name.split()[0]} missing")
        elif name == next(iter(travel_peers.PEERS)):
            yield _beside(what, ours_mb, sent, name, UZIP_AIM)
            other, _ = made(*squashfs, update.work / "squashfs.pack")
            what = f"v1 → v2, all that travels ({other.facts.moves:,} moves), squashfs"
            yield _beside(what, travels_mb(other, squashfs[1]), sent, name, SQUASHFS_AIM)
            yield _cpu(ours_s, sent, name)
        else:
            yield _beside(what, ours_mb, sent, name)
            yield _cpu(ours_s, sent, name)
    yield from _making(usage)
    yield _replaying("the upgrade", pack, replayed, plain_dd(update.new), REPLAY_S)


def _beside(what: str, ours_mb: float, sent: Sent, name: str, aim: float | None = None) -> Line:
    return against(what, ours_mb, sent.sent_bytes / MB, aim, show="{:.2f} MB", peer_name=name)


def _cpu(ours_s: float, sent: Sent, name: str) -> Line:
    what = "v1 → v2, CPU of both sides (pack made and replayed)"
    return against(what, ours_s, sent.cpu_s, None, show="{:.1f} s", peer_name=name)


def _making(usage: Usage) -> Iterable[Line]:
    what = f"making the upgrade's pack (wall {usage.wall_s:.1f} s): CPU"
    yield below(what, usage.cpu_s, PACK_S, show="{:.1f} s")
    yield Line(
        "making the upgrade's pack: memory",
        f"{usage.peak_bytes / MB:.0f} MB",
        *(NOTHING, NOTHING, NOTHING, Verdict.NO_AIM),
    )


def _replaying(what: str, pack: Pack, ours: Sent, plain: Sent, aim_s: float) -> Line:
    """Hold a replay against a plain dd: what counts is what it takes beside that."""
    figure = (
        f"replaying {what} ({pack.facts.moves:,} moves), CPU above a plain dd "
        f"(wall {ours.wall_s:.1f} s, plain {plain.wall_s:.1f} s)"
    )
    shown = f"dd: CPU {plain.cpu_s:.1f} s"
    return below(figure, ours.cpu_s - plain.cpu_s, aim_s, show="{:.1f} s", peer=shown)


@dataclass(frozen=True, slots=True)
class Packing:
    """How images of single edits are built, and what an edit may send at most."""

    format: str
    options: tuple[str, ...]
    most_mb: float


def single_edits(
    tree: Path, work: Path, packings: Sequence[Packing], recipe: Path
) -> Iterable[Line]:
    """Make one edit after the other, and packs from the images before each to those behind it."""
    with scratch.copied(tree, work / "copy") as copy:
        old = [_built(copy, work / f"edit0.{one.format}", one, recipe) for one in packings]
        for number, edit in enumerate(edits.EDITS, start=1):
            places = edit.places(edits.image_of(copy).tree, 1)
            if not places:
                yield missing(f"edit, all that travels: {edit.name}", "the tree has no place")
                continue
            edit.apply(copy, places[0])
            for slot, one in enumerate(packings):
                new = _built(copy, work / f"edit{number}.{one.format}", one, recipe)
                yield from _edit_lines(edit.name, one, old[slot], new)
                _forget(old[slot])
                old[slot] = new


def _edit_lines(name: str, packing: Packing, old: Path, new: Path) -> Iterable[Line]:
    pack, _ = made(old, new, old.with_name("edit.pack"))
    what = f"edit, all that travels ({pack.facts.moves:,} moves), {packing.format}: {name}"
    yield below(what, travels_mb(pack, new), packing.most_mb, show="{:.2f} MB")
    if packing.format == "uzip":
        replayed = replay(old, new, artefact_of(new), pack.path, pack.facts)
        yield _replaying(f"the edit: {name}", pack, replayed, plain_dd(new), EDIT_REPLAY_S)


def _built(tree: Path, out: Path, packing: Packing, recipe: Path) -> Path:
    cache = out.with_name("edits-cache")
    run(peers.image_build(tree, out, *packing.options, cache=cache, recipe=recipe))
    return out


def _forget(image: Path) -> None:
    for path in image.parent.glob(f"{image.name}*"):
        path.unlink()
