import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder import cache as caches
from builder.build import Built, Order, build
from builder.recipe import FileSettings, Packing, Recipe
from slots.errors import BuildError
from slots.events import Event, Notice, Started
from tests.builder.conftest import order

RELEASE_FILES = (".uzip", ".uzip.index", "tree.mtree", "release.json")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust files that were written just before a build."""
    monkeypatch.setattr(caches, "RACY_NS", -3600 * 10**9)


@pytest.fixture
def wanted(chroot: Path, tmp_path: Path) -> Order:
    """An order into a folder, with a cache, of a recipe that adds a file and takes an mtree."""
    for name in ("out", "plain"):
        (tmp_path / name).mkdir()
    (tmp_path / "motd").write_text("one")
    (tmp_path / "owners").write_text("./etc/passwd type=file uid=7\n")
    recipe = Recipe(
        name="image",
        source=chroot,
        files=(FileSettings(path="etc/motd", source=tmp_path / "motd"),),
        mtree=tmp_path / "owners",
    )
    return replace(
        order(chroot, tmp_path / "out"), recipe=recipe, cache=tmp_path / "known", epoch_s=2**30
    )


def _built(wanted: Order) -> tuple[Built, list[Event]]:
    events: list[Event] = []
    return build(wanted, events.append), events


def _steps(events: list[Event]) -> list[str]:
    return [one.step for one in events if isinstance(one, Started)]


def _is_short(built: Built, events: list[Event]) -> bool:
    """Whether a release was recognised before its tree was made."""
    files_asked_for = any(
        one.step == "digest" and not one.subject for one in events if isinstance(one, Started)
    )
    return not built.is_new and not files_asked_for


def _contents(built: Built) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in built.manifest.parent.iterdir()}


@pytest.mark.usefixtures("settled")
def test_where_nothing_changed_not_even_the_tree_is_made(wanted: Order) -> None:
    first, told = _built(wanted)
    before = _contents(first)
    os.utime(first.manifest, (1, 1))
    again, events = _built(wanted)
    assert _is_short(again, events)
    assert again.release == first.release
    assert _contents(again) == before
    assert first.manifest.stat().st_mtime > 1
    notices = [one for one in told if isinstance(one, Notice)]
    assert notices
    assert [one for one in events if isinstance(one, Notice)] == notices
    once_more, events = _built(wanted)
    assert _is_short(once_more, events)
    assert _steps(events) == ["scan", "digest"]


def test_a_tree_that_could_be_written_again_unseen_is_looked_at_anew(wanted: Order) -> None:
    _built(wanted)
    assert not _is_short(*_built(wanted))


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _relinked(root: Path) -> None:
    link = root / "bin/also"
    link.unlink()
    link.symlink_to("SH")
    os.utime(link, (0, 0), follow_symlinks=False)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: _same_size_and_time(root / "usr/lib/big"),
    "mode": lambda root: (root / "etc/passwd").chmod(0o600),
    "time": lambda root: os.utime(root / "etc/passwd", (5, 5)),
    "target": _relinked,
    "new": lambda root: (root / "etc/new").touch(),
    "gone": lambda root: (root / "etc/passwd").unlink(),
    "renamed": lambda root: (root / "usr/lib/big").rename(root / "usr/lib/bog"),
    "linked": lambda root: (root / "etc/hard").hardlink_to(root / "etc/shadow"),
    "root": lambda root: root.chmod(0o700),
    "added file": lambda root: (root.parent / "motd").write_text("two"),
    "mtree": lambda root: (root.parent / "owners").write_text("./etc/passwd type=file uid=8\n"),
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_an_image_is_made_of_is_seen(
    wanted: Order, tmp_path: Path, chroot: Path, change: str
) -> None:
    if change == "gone":
        wanted = replace(wanted, recipe=wanted.recipe.model_copy(update={"mtree": None}))
    first, _ = _built(wanted)
    assert _is_short(*_built(wanted))
    time.sleep(0.01)  # a tick of the file system's clock
    CHANGES[change](chroot)
    again, _ = _built(wanted)
    plain, _ = _built(replace(wanted, cache=None, output=tmp_path / "plain"))
    assert again.is_new
    assert again.release != first.release
    assert _contents(again) == _contents(plain)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "change",
    [
        {"packing": Packing(level=3)},
        {"packing": Packing(cluster=131_072)},
        {"epoch_s": 2**29},
        {"version": "7"},
        {"excludes": ("etc/shadow",)},
        {"formats": ("iso9660",)},
    ],
    ids=str,
)
def test_a_change_of_what_is_asked_for_is_seen(
    wanted: Order, tmp_path: Path, change: dict[str, object]
) -> None:
    first, _ = _built(wanted)
    other = replace(wanted, **change)  # type: ignore[arg-type]
    again, _ = _built(other)
    plain, _ = _built(replace(other, cache=None, output=tmp_path / "plain"))
    assert again.is_new
    assert again.release != first.release
    assert _contents(again) == _contents(plain)


@pytest.mark.usefixtures("settled")
def test_another_version_of_what_makes_it_makes_it_again(
    wanted: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built(wanted)
    monkeypatch.setattr("builder.releases.installed_version", lambda _name: "9.9")
    again, _ = _built(wanted)
    assert again.is_new
    assert again.release.tools["flipslot"] == "9.9"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("suffix", RELEASE_FILES)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_release_whose_files_are_not_what_they_were_is_made_again(
    wanted: Order, suffix: str, damage: str
) -> None:
    first, _ = _built(wanted)
    assert _is_short(*_built(wanted))  # its files are known by their stamps now
    before = _contents(first)
    (path,) = (one for one in first.manifest.parent.iterdir() if one.name.endswith(suffix))
    time.sleep(0.01)  # a tick of the file system's clock
    match damage:
        case "changed":
            _same_size_and_time(path)
        case "cut":
            os.truncate(path, path.stat().st_size // 2)
        case _:
            path.unlink()
    again, events = _built(wanted)
    assert "uzip" in _steps(events)
    assert _contents(again) == before


@pytest.mark.usefixtures("settled")
def test_a_damaged_release_is_replaced_by_a_build_that_knows_nothing(wanted: Order) -> None:
    first, _ = _built(wanted)
    before = _contents(first)
    _same_size_and_time(first.manifest.with_name(first.release.artefacts[0].file))
    again, _ = _built(replace(wanted, cache=None))
    assert again.is_new
    assert _contents(again) == before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("ask", [{"cache": None}, {"reads_all": True}], ids=str)
def test_who_trusts_nothing_gets_all_of_it_made_and_the_same_bytes(
    wanted: Order, ask: dict[str, object]
) -> None:
    first, _ = _built(wanted)
    before = _contents(first)
    again, events = _built(replace(wanted, **ask))  # type: ignore[arg-type]
    assert "uzip" in _steps(events)
    assert _contents(again) == before


@pytest.mark.usefixtures("settled")
def test_without_its_cache_a_build_reads_everything(wanted: Order, tmp_path: Path) -> None:
    _built(wanted)
    for path in (tmp_path / "known").iterdir():
        path.unlink()
    again, events = _built(wanted)
    assert not again.is_new  # recognised by its tree
    assert not _is_short(again, events)


@pytest.mark.usefixtures("settled")
def test_a_build_that_was_cut_short_is_not_remembered(wanted: Order, chroot: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Started) and event.step == "uzip":
            raise KeyboardInterrupt

    def disturb(event: Event) -> None:
        if isinstance(event, Started) and event.step == "uzip":
            (chroot / "etc/passwd").chmod(0o604)

    with pytest.raises(KeyboardInterrupt):
        build(wanted, interrupt)
    with pytest.raises(BuildError, match="changed while"):
        build(wanted, disturb)
    built, events = _built(wanted)
    assert built.is_new
    assert "uzip" in _steps(events)


@pytest.mark.usefixtures("settled")
def test_a_release_is_recognised_in_each_place_where_it_lies(wanted: Order, tmp_path: Path) -> None:
    there = replace(wanted, output=tmp_path / "plain")
    first, _ = _built(wanted)
    second, _ = _built(there)
    assert second.is_new
    for one, built in ((wanted, first), (there, second)):
        again, events = _built(one)
        assert _is_short(again, events)
        assert again.manifest == built.manifest
