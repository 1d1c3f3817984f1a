"""The folder of a mirror: objects by their digest, laid once, never changed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from deployer import publish as module
from deployer.packs import FOLDER
from deployer.publish import Published, older, publish
from deployer.releases import FoundRelease, find
from slots.errors import ConfigError, VerificationError
from slots.events import Event, Notice
from tests.deployer.conftest import described, ran
from tests.slots.patches import noise

COMMON = noise(1, 400_000)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """An admin's folder: three releases, the second without anything in common with the last."""
    out = tmp_path / "images/out"
    for number, data in enumerate((COMMON, noise(2, 200_000), noise(3, 90_000) + COMMON), start=1):
        folder = described(data, out / f"cgi-{number}", str(number))
        os.utime(folder / "release.json", (number, number))
    return tmp_path


def out(box: Path) -> Path:
    return box / "images/out"


def newest(box: Path) -> FoundRelease:
    return find("cgi-3", out(box))


def published(box: Path, to: Path, events: list[Event]) -> tuple[Published, ...]:
    new = newest(box)
    return publish(new, older(out(box), new), out(box), to, events.append)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_object_is_named_by_its_digest(box: Path, events: list[Event]) -> None:
    to = box / "mirror"
    laid = published(box, to, events)
    found = content(to)
    assert all(name == digest for name, digest in found.items())
    assert [one.object.what for one in laid] == [
        "cgi-3 as squashfs",
        "from cgi-1 to cgi-3 as squashfs",
    ]
    assert {one.object.sha256 for one in laid} == set(found)
    assert [one.message for one in events if isinstance(one, Notice)] == [
        "no pack from cgi-2 to cgi-3 as squashfs: the two images have little in common"
    ]


def test_packs_lead_from_what_was_there_before_and_is_another_image(
    box: Path, events: list[Event]
) -> None:
    again = described(noise(3, 90_000) + COMMON, out(box) / "cgi-again", "again")
    os.utime(again / "release.json", (2.5, 2.5))
    new = newest(box)
    before = [one.release.version for one in older(out(box), new)]
    assert before == ["again", "2", "1"], "the newest first"
    assert older(out(box), find("cgi-1", out(box))) == ()
    laid = published(box, box / "mirror", events)
    assert [one.object.what for one in laid] == [
        "cgi-3 as squashfs",
        "from cgi-1 to cgi-3 as squashfs",
    ], "none from an image to itself"


def test_objects_are_the_files_themselves_where_that_is_possible(
    box: Path, events: list[Event]
) -> None:
    laid = published(box, box / "mirror", events)
    assert all(one.object.path.samefile(box / "mirror" / one.object.sha256) for one in laid)


def test_what_is_there_stays_as_it_is(box: Path, events: list[Event]) -> None:
    to = box / "mirror"
    published(box, to, events)
    before = {path: path.stat().st_ctime_ns for path in to.iterdir()}
    assert all(one.was_there for one in published(box, to, events))
    assert {path: path.stat().st_ctime_ns for path in to.iterdir()} == before


def test_an_object_that_rotted_is_laid_again(box: Path, events: list[Event]) -> None:
    to = box / "mirror"
    laid = published(box, to, events)
    rotten = to / laid[0].object.sha256
    data = rotten.read_bytes()
    rotten.unlink()
    rotten.write_bytes(bytes(len(data)))
    again = published(box, to, events)
    assert [one.was_there for one in again] == [False, True]
    assert rotten.read_bytes() == data


def test_another_disk_gets_a_copy(
    box: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", across)
    to = box / "mirror"
    published(box, to, events)
    found = content(to)
    assert len(found) == 2
    assert all(name == digest for name, digest in found.items())
    assert all(path.stat().st_nlink == 1 for path in to.iterdir())


def test_a_source_that_changed_is_not_copied_under_its_old_name(
    box: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_linked", lambda *_: False)
    new = newest(box)
    new.path(new.release.artefacts[0]).write_bytes(b"other")
    with pytest.raises(VerificationError, match="is not what its release says"):
        publish(new, (), out(box), box / "mirror", events.append)
    assert list((box / "mirror").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(box: Path, events: list[Event]) -> None:
    (box / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot publish to"):
        published(box, box / "file" / "mirror", events)


def test_the_command_publishes_and_says_what(box: Path) -> None:
    ended = ran(box, "publish", "--image", "cgi-3", "--from", "cgi-1", "--to", "mirror", "--json")
    assert ended.status == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["schema"] == "flipslot.publish/1"
    assert {one["sha256"] for one in document["objects"]} == set(content(box / "mirror"))
    again = ran(box, "publish", "--image", "cgi-3", "--from", "cgi-1", "--to", "mirror")
    assert again.stdout.count("was there") == 2


def test_an_empty_folder_of_an_unset_variable_is_refused(box: Path) -> None:
    before = sorted(box.iterdir())
    ended = ran(box, "publish", "--image", "cgi-3", "--to", "")
    assert ended.status == 2
    assert "empty argument behind --to" in ended.stderr
    assert sorted(box.iterdir()) == before


def test_the_command_makes_the_pack_that_a_deploy_would_find(box: Path) -> None:
    ended = ran(box, "pack", "cgi-1", "cgi-3", "--json")
    assert ended.status == 0, ended.stderr
    document = json.loads(ended.stdout)
    kept = next((out(box) / FOLDER).iterdir())
    assert box / document["file"] == kept
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == document["sha256"]
    named = ran(box, "pack", "cgi-1", "cgi-3", "-o", "here.pack")
    assert document["sha256"] in named.stdout
    assert (box / "here.pack").read_bytes() == kept.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("cgi-1", "cgi-9"), 2, "there is no image or release cgi-9"),
        (("cgi-1", "cgi-3", "--format", "uzip"), 2, "have no artefact of format uzip in common"),
        (("cgi-1", "cgi-3", "-o", "no/such/folder"), 2, "cannot write no/such/folder"),
        (("cgi-1", "cgi-3", "-o", "pipe"), 2, "cannot write pipe: it is no regular file"),
        (("cgi-1", "cgi-3", "-o", "loop"), 2, "cannot write loop: "),
        (("cgi-1", "cgi-3", "-o", "link"), 2, "cannot write link: it is no regular file"),
    ],
)
def test_a_pack_that_cannot_be_made_is_one_line(
    box: Path, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    os.mkfifo(box / "pipe")
    (box / "link").symlink_to("pipe")
    (box / "loop").symlink_to("loop")
    ended = ran(box, "pack", *arguments)
    assert ended.status == status
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (box / "pipe").is_fifo()
    assert (box / "link").is_symlink()
