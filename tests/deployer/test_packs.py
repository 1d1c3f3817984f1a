"""Packs on the admin box: made once, kept, read whole before they are used."""

import gzip
import os
import shutil
import time
from hashlib import sha256
from pathlib import Path

import pytest

from deployer import memory
from deployer.choice import NoPack
from deployer.packs import FOLDER, KEPT, Pack, between, difference, make, provide, read
from deployer.releases import FoundRelease, find
from slots.errors import ConfigError, VerificationError
from slots.events import Event, Finished, Started
from slots.manifest import HEAD_BYTES, Artefact
from slots.pack import parse_head
from tests.deployer.conftest import described
from tests.slots.patches import noise, replayed

COMMON = noise(1, 400_000)
OLD = noise(2, 70_000) + COMMON + noise(3, 60_000)
NEW = noise(4, 80_000) + COMMON + noise(5, 30_000)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two releases that have most in common, and one that has nothing in common with them."""
    folder = tmp_path / "out"
    for version, data in (("1", OLD), ("2", NEW), ("3", noise(6, 300_000))):
        described(data, folder / f"cgi-{version}", version)
    return folder


def release(out: Path, version: str) -> tuple[FoundRelease, Artefact]:
    found = find(f"cgi-{version}", out)
    return found, found.release.artefacts[0]


def provided(out: Path, events: list[Event], old: str = "1", new: str = "2") -> Pack | NoPack:
    return provide(out, release(out, old)[1].sha256, *release(out, new), events.append)


def made(out: Path, events: list[Event]) -> Pack:
    pack = provided(out, events)
    assert isinstance(pack, Pack), pack
    return pack


def image(out: Path, version: str) -> bytes:
    found, artefact = release(out, version)
    return found.path(artefact).read_bytes()


def test_a_pack_of_two_releases_gives_the_new_image(out: Path, events: list[Event]) -> None:
    pack = made(out, events)
    with gzip.open(pack.path) as file:
        patch = parse_head(file.readline)
        literals = (file.read(one.length) for one in patch.literals)
        body = replayed(patch, image(out, "1"), literals)
        assert file.read() == b""
    assert body == image(out, "2")[HEAD_BYTES:]
    assert pack.facts.size_bytes == pack.path.stat().st_size < 120_000
    assert pack.facts.old.sha256 == release(out, "1")[1].sha256
    assert pack.facts.new.sha256 == release(out, "2")[1].sha256


def test_a_pack_is_made_once(out: Path, events: list[Event]) -> None:
    first = made(out, events)
    assert [one.step for one in events if isinstance(one, Started)] == ["pack"]
    events.clear()
    before = first.path.stat()
    assert made(out, events) == first
    assert events == []
    after = first.path.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("size", [0, 10, -1])
def test_a_kept_pack_that_is_damaged_is_made_again(
    out: Path, events: list[Event], size: int
) -> None:
    first = made(out, events)
    data = first.path.read_bytes()
    first.path.write_bytes(data[:size])
    assert made(out, events) == first
    assert first.path.read_bytes() == data


def test_a_kept_pack_that_lacks_a_literal_is_made_again(out: Path, events: list[Event]) -> None:
    first = made(out, events)
    text = gzip.decompress(first.path.read_bytes())
    first.path.write_bytes(gzip.compress(text[:-1], mtime=0))
    with pytest.raises(VerificationError, match=r"is no whole pack: it has \d+ bytes of literals"):
        read(first.path)
    assert made(out, events) == first


def test_of_an_image_that_rotted_no_pack_is_made(out: Path, events: list[Event]) -> None:
    old, new = release(out, "1")[0], release(out, "2")[0]
    path = out / "cgi-2" / "cgi.squashfs"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"cgi\.squashfs"):
        between(old, new, None, out, events.append)
    assert list(out.glob(f"{FOLDER}/*")) == []


def test_a_flipped_bit_of_a_kept_pack_is_found(out: Path, events: list[Event]) -> None:
    path = made(out, events).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match="is no whole pack"):
        read(path)


def test_a_kept_pack_that_was_read_and_has_not_changed_is_not_read_again(
    out: Path, events: list[Event]
) -> None:
    path = made(out, events).path
    os.utime(path, (0, 0))
    time.sleep(memory.RACY_S)
    assert made(out, events).facts.sha256 == sha256(path.read_bytes()).hexdigest()
    note = memory.note_path(out, path, "pack")
    assert memory.found(note) == sha256(path.read_bytes()).hexdigest()
    memory.remember(note, "f" * 64)
    assert made(out, events).facts.sha256 == "f" * 64
    path.touch()  # another stamp: that may be another file
    assert made(out, events).facts.sha256 == sha256(path.read_bytes()).hexdigest()


def test_the_pack_of_other_images_is_not_taken(out: Path, events: list[Event]) -> None:
    first = made(out, events)
    described(NEW[:-9000], out / "cgi-4", "4")
    wanted = release(out, "4")[1].sha256
    shutil.copy(first.path, first.path.with_name(f"{first.facts.old.sha256}-{wanted}.pack"))
    pack = provided(out, events, new="4")
    assert isinstance(pack, Pack)
    assert pack.facts.new.sha256 == wanted


def test_the_old_artefact_itself_is_not_needed(out: Path, events: list[Event]) -> None:
    (out / "cgi-1" / "cgi.squashfs").unlink()
    made(out, events)


@pytest.mark.parametrize(
    ("new", "spoil", "why"),
    [
        ("3", "", "the two images have little in common"),
        ("2", "cgi-1", "has no index of the image"),
        ("2", "cgi-1/cgi.squashfs.index", "there is no "),
        ("2", "cgi-2/cgi.squashfs", "cgi.squashfs cannot be read: No such file"),
    ],
)
def test_what_stands_in_the_way_of_a_pack_is_said(
    out: Path, events: list[Event], new: str, spoil: str, why: str
) -> None:
    digest, wanted = release(out, "1")[1].sha256, release(out, new)
    if spoil:
        path = out / spoil
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = provide(out, digest, *wanted, events.append)
    assert isinstance(found, NoPack)
    assert why in found.why
    assert list(out.glob(f"{FOLDER}/*")) == []


def test_an_index_that_is_not_the_described_one_is_not_believed(
    out: Path, events: list[Event]
) -> None:
    index = out / "cgi-1" / "cgi.squashfs.index"
    index.write_text(index.read_text().replace('"', "'"))
    found = provided(out, events)
    assert isinstance(found, NoPack)
    assert "is not what its release says" in found.why


def test_a_folder_that_cannot_hold_packs_is_a_reason(out: Path, events: list[Event]) -> None:
    (out / FOLDER).write_text("in the way")
    found = provided(out, events)
    assert isinstance(found, NoPack)
    assert "a pack cannot be kept" in found.why


def test_where_a_pack_that_is_asked_for_cannot_be_kept_is_one_line(
    out: Path, events: list[Event]
) -> None:
    (out / FOLDER).write_text("in the way")
    old, new = release(out, "1")[0], release(out, "2")[0]
    with pytest.raises(ConfigError, match=r"cannot make .*/\.packs: File exists") as refused:
        between(old, new, None, out, events.append)
    assert "-o" in refused.value.hint


def test_only_the_newest_packs_are_kept(out: Path, events: list[Event]) -> None:
    folder = out / FOLDER
    folder.mkdir()
    for number in range(KEPT + 3):
        path = folder / f"{number}.pack"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    (folder / ".cut.partial").write_bytes(b"")
    os.utime(folder / ".cut.partial", (1, 1))
    pack = made(out, events)
    kept = {path.name for path in folder.iterdir()}
    assert kept == {pack.path.name, *(f"{number}.pack" for number in range(4, KEPT + 3))}


def test_making_a_pack_is_told(out: Path, events: list[Event]) -> None:
    patch = difference(*release(out, "1"), *release(out, "2"))
    pack = make(patch, out / "cgi-2" / "cgi.squashfs", out / "file", events.append)
    assert events[-1] == Finished(
        "pack", "cgi.squashfs", f"{pack.facts.size_bytes} bytes, {pack.facts.moves} moves"
    )
    assert read(out / "file") == pack
