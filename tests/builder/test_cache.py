import hashlib
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder import cache as caches
from builder import recall
from builder.build import Built, Order, build
from builder.clusters import KEY_BYTES, Stored
from builder.stamps import Stamp, stamp_of
from slots.events import Event, Finished, Notice, Started
from slots.index import piece_digest
from tests.builder.conftest import order

COMMAND = (sys.executable, "-c", "from builder.cli import main; main()")
LONG_AGO_NS = 3600 * 10**9
DIGEST = bytes(range(32))
STAMP = Stamp(1, 2**64 - 5, 10, 1_000_000_000, 1_000_000_000)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known"


def _order(source: Path, output: Path, known: Path | None) -> Order:
    return replace(order(source, output), cache=known)


def _built(wanted: Order) -> tuple[Built, list[Event]]:
    events: list[Event] = []
    return build(wanted, events.append), events


def _detail(events: list[Event], step: str) -> str:
    return next(one.detail for one in events if isinstance(one, Finished) and one.step == step)


def _aged(known: Path, chroot: Path) -> None:
    """Remember all files of a tree, as a build does that begins long after they were written."""
    found = {
        stamp_of(path.stat()): hashlib.sha256(path.read_bytes()).digest()
        for path in chroot.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    with caches.opened(known, lambda _event: None) as cache:
        cache.since_ns += LONG_AGO_NS
        cache.keep_digests(found)


def test_a_rebuild_reads_no_file_and_compresses_no_cluster_again(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    _aged(known, chroot)
    first, cold = _built(_order(chroot, tmp_path / "first", known))
    second, warm = _built(_order(chroot, tmp_path / "second", known))
    clusters = _detail(cold, "uzip").partition(" ")[0]
    assert _detail(warm, "digest").endswith(", 0 read")
    assert _detail(warm, "uzip").startswith(f"{clusters} clusters, ")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert first.release.id == second.release.id


def test_a_changed_file_is_read_and_its_neighbours_are_not(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    _aged(known, chroot)
    _built(_order(chroot, tmp_path / "first", known))
    (chroot / "etc/shadow").write_text("another")
    _, events = _built(_order(chroot, tmp_path / "second", known))
    build(_order(chroot, tmp_path / "third", None), lambda _event: None)
    assert _detail(events, "digest").endswith(", 1 read")
    assert "as they were" in _detail(events, "uzip")
    assert (tmp_path / "second").read_bytes() == (tmp_path / "third").read_bytes()


def test_a_file_that_was_written_with_its_old_time_is_read(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    _aged(known, chroot)
    path = chroot / "etc/shadow"
    before = path.stat()
    path.write_text("SECRET")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    build(_order(chroot, tmp_path / "first", known), lambda _event: None)
    build(_order(chroot, tmp_path / "second", None), lambda _event: None)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_that_was_written_just_before_the_scan_is_not_trusted(known: Path) -> None:
    now_ns = time.time_ns()
    young = STAMP._replace(inode=1, ctime_ns=now_ns - 1_000_000_000)
    old = STAMP._replace(inode=2, ctime_ns=now_ns - 5_000_000_000)
    future = STAMP._replace(inode=3, mtime_ns=now_ns + LONG_AGO_NS)
    with caches.opened(known, lambda _event: None) as cache:
        stamps = [one.packed() for one in (young, old, future)]
        cache.keep_digests(dict.fromkeys(stamps, DIGEST))
        assert cache.digests(stamps) == {old.packed(): DIGEST}


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_a_file_is_known_by_every_number_of_its_stamp(known: Path, field: str) -> None:
    with caches.opened(known, lambda _event: None) as cache:
        cache.keep_digests({STAMP.packed(): DIGEST})
        assert cache.digests([STAMP.packed()]) == {STAMP.packed(): DIGEST}
        other = STAMP._replace(**{field: getattr(STAMP, field) - 1})
        assert cache.digests([other.packed()]) == {}


def test_paranoid_reads_every_file_and_gives_the_same_bytes(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    _aged(known, chroot)
    _built(_order(chroot, tmp_path / "first", known))
    wanted = replace(_order(chroot, tmp_path / "first", known), reads_all=True)
    built, events = _built(wanted)
    assert " read" not in _detail(events, "digest")
    assert built.is_new


def test_a_release_that_stands_is_recognised_without_writing_one(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    (tmp_path / "out").mkdir()
    first, _ = _built(_order(chroot, tmp_path / "out", known))
    os.utime(first.manifest, (1, 1))
    again, events = _built(_order(chroot, tmp_path / "out", known))
    assert (again.release, again.is_new) == (first.release, False)
    assert "uzip" not in {one.step for one in events if isinstance(one, Started)}
    assert first.manifest.stat().st_mtime > 1


@pytest.mark.parametrize("suffix", [".uzip", ".uzip.index", "tree.mtree", "release.json"])
def test_a_release_of_which_a_file_is_not_whole_is_made_again(
    chroot: Path, tmp_path: Path, known: Path, suffix: str
) -> None:
    (tmp_path / "out").mkdir()
    first, _ = _built(_order(chroot, tmp_path / "out", known))
    folder = first.manifest.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (damaged,) = (path for path in folder.iterdir() if path.name.endswith(suffix))
    damaged.write_bytes(b"")
    build(_order(chroot, tmp_path / "out", known), lambda _event: None)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("what", ["changed", "cut", "gone"])
def test_an_artefact_that_is_no_longer_what_it_was_is_a_miss(
    chroot: Path, tmp_path: Path, known: Path, what: str
) -> None:
    _built(_order(chroot, tmp_path / "first", known))
    image = tmp_path / "first"
    wanted = image.read_bytes()
    match what:
        case "changed":
            image.write_bytes(bytes(byte ^ 1 for byte in wanted))
        case "cut":
            os.truncate(image, len(wanted) // 2)
        case _:
            image.unlink()
    build(_order(chroot, tmp_path / "second", known), lambda _event: None)
    assert (tmp_path / "second").read_bytes() == wanted


def test_another_level_is_compressed_anew(chroot: Path, tmp_path: Path, known: Path) -> None:
    plain = _order(chroot, tmp_path / "first", known)
    _built(plain)
    packing = plain.packing.model_copy(update={"level": 3})
    _, events = _built(replace(plain, output=tmp_path / "second", packing=packing))
    assert "as they were" not in _detail(events, "uzip")


def test_a_damaged_cache_is_made_anew(chroot: Path, tmp_path: Path, known: Path) -> None:
    _built(_order(chroot, tmp_path / "first", known))
    (known / caches.FILE).write_bytes(b"not a database" * 1000)
    _, events = _built(_order(chroot, tmp_path / "second", known))
    assert not [one for one in events if isinstance(one, Notice) and "cache" in one.message]
    _, events = _built(_order(chroot, tmp_path / "third", known))
    assert "as they were" in _detail(events, "uzip")
    assert len({(tmp_path / name).read_bytes() for name in ("first", "second", "third")}) == 1


def test_a_cache_that_fails_amid_a_build_is_left_alone(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    _built(_order(chroot, tmp_path / "first", known))
    with sqlite3.connect(known / caches.FILE) as connection:
        connection.execute("drop table artefacts")
        connection.execute("create table artefacts (how text)")
    connection.close()
    _, events = _built(_order(chroot, tmp_path / "second", known))
    notices = [one.message for one in events if isinstance(one, Notice)]
    assert [one for one in notices if one.startswith("building without the cache: ")]
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_cache_that_others_may_write_is_not_trusted(
    chroot: Path, tmp_path: Path, known: Path
) -> None:
    known.mkdir()
    known.chmod(0o777)
    _, events = _built(_order(chroot, tmp_path / "first", known))
    assert any(
        isinstance(one, Notice) and "others may write to it" in one.message for one in events
    )
    assert list(known.iterdir()) == []


def test_builds_at_the_same_time_share_a_cache(chroot: Path, tmp_path: Path, known: Path) -> None:
    def one(number: int) -> bytes:
        output = tmp_path / f"out{number % 3}" / f"image{number}"
        built = build(_order(chroot, output, known), lambda _event: None)
        return (built.manifest.parent / built.release.artefacts[0].file).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(8)))) == 1


def test_a_cache_forgets_artefacts_that_are_gone_and_the_oldest_of_too_many(
    tmp_path: Path, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "MAX_CLUSTERS", 2)
    paths = [tmp_path / f"image{number}" for number in range(5)]
    for path in paths:
        path.write_bytes(b"data")
    key, other = b"k" * KEY_BYTES, b"o" * KEY_BYTES
    row = Stored(key, 0, 4, 4, piece_digest(b"data"))
    with caches.opened(known, lambda _event: None) as cache:
        for path in paths[:2]:
            cache.keep_clusters(path, "how", [row])
        paths[0].unlink()
        cache.keep_clusters(paths[2], "how", [row])
        assert _paths(known) == {paths[1], paths[2]}
        cache.keep_clusters(paths[3], "how", [row])
        cache.keep_clusters(paths[4], "how", [row])
        assert _paths(known) == {paths[3], paths[4]}
        assert list(cache.clusters("how")([other, key])) == [None, (b"data", 4, row.digest)]
        assert list(cache.clusters("otherwise")([key])) == [None]


def test_a_cache_forgets_the_files_of_long_ago(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = STAMP.packed(), STAMP._replace(inode=7).packed()
    with caches.opened(known, lambda _event: None) as cache:
        cache.keep_digests({first: DIGEST})
        later = caches._today() + caches.KEPT_DAYS + 1
        monkeypatch.setattr(caches, "_today", lambda: later)
        cache.keep_digests({other: DIGEST})
        assert cache.digests([first, other]) == {other: DIGEST}


def _paths(known: Path) -> set[Path]:
    connection = sqlite3.connect(known / caches.FILE)
    try:
        return {
            Path(os.fsdecode(path)) for (path,) in connection.execute("select path from artefacts")
        }
    finally:
        connection.close()
