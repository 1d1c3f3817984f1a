"""Which release is meant, and whether its artefacts are what it says."""

import os
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from deployer import memory
from deployer.releases import FoundRelease, find, known, verify
from slots.errors import ConfigError, VerificationError
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.manifest import release_id as id_of


def write(
    folder: Path,
    version: str,
    manifest: str = "release.json",
    age_s: int = 0,
    name: str = "cgi",
) -> Path:
    """Write a release of one small artefact; return its folder."""
    from hashlib import sha256

    folder.mkdir(parents=True, exist_ok=True)
    data = version.encode().ljust(2 * HEAD_BYTES, b".")
    (folder / "cgi.erofs").write_bytes(data)
    digest = sha256(data).hexdigest()
    artefact = Artefact(
        format="erofs",
        file="cgi.erofs",
        size_bytes=len(data),
        sha256=digest,
        head_sha256=sha256(data[:HEAD_BYTES]).hexdigest(),
        index="cgi.erofs.index",
        index_sha256=digest,
        codec="none",
        level=0,
        cluster_bytes=0,
    )
    release = Release(
        id=id_of(digest, (artefact,)),
        name=name,
        version=version,
        mtree="tree.mtree",
        mtree_sha256=digest,
        entries=1,
        content_bytes=1,
        artefacts=(artefact,),
    )
    path = folder / manifest
    path.write_text(release.to_json())
    when = path.stat().st_mtime - age_s
    os.utime(path, (when, when))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write(tmp_path / "out/cgi-1", "1", age_s=50)
    write(tmp_path / "out/cgi-3", "3", age_s=10)
    write(tmp_path / "out/cgi-2", "2", age_s=90)
    return tmp_path / "out"


def test_the_newest_is_the_one_written_last(out: Path) -> None:
    assert find(None, out).release.version == "3"
    assert [one.version for one in known(out)] == ["3", "1", "2"]


def test_a_release_is_named_by_name_folder_or_manifest(out: Path) -> None:
    named = (
        find("cgi-1", out),
        find(str(out / "cgi-1"), out),
        find(f"{out}/cgi-1/release.json", out),
        find(find("cgi-1", out).release.id, out),
    )
    assert {found.release.version for found in named} == {"1"}
    assert {found.path(found.release.artefacts[0]) for found in named} == {out / "cgi-1/cgi.erofs"}


def test_a_single_image_file_has_its_description_beside_it(tmp_path: Path, out: Path) -> None:
    folder = write(tmp_path / "single", "9", "my.img.release.json")
    (folder / "cgi.erofs").rename(folder / "my.img")
    found = find(str(folder / "my.img"), out)
    assert (found.only, found.path(found.release.artefacts[0])) == ("erofs", folder / "my.img")
    verify(found, frozenset({"erofs"}))


def test_an_artefact_in_its_release_s_folder_can_be_named(out: Path) -> None:
    assert find(str(out / "cgi-2/cgi.erofs"), out).only == "erofs"


@pytest.mark.parametrize("wanted", [".", "/"])
def test_a_folder_without_a_name_of_its_own_is_a_folder_like_any(out: Path, wanted: str) -> None:
    with chdir(out / "cgi-2"):
        if wanted == ".":
            assert find(wanted, out).release.version == "2"
        else:
            with pytest.raises(ConfigError, match=r"there is no /release\.json"):
                find(wanted, out)


@pytest.mark.parametrize("wanted", ["cgi-9", "./cgi-1", "out/nothing"])
def test_a_release_that_is_not_there_is_named(out: Path, wanted: str) -> None:
    with pytest.raises(ConfigError, match="there is no image or release"):
        find(wanted, out)


def test_an_image_without_a_description_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "alone.img").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"has no alone\.img\.release\.json beside it"):
        find(str(tmp_path / "alone.img"), out)


def test_another_file_of_a_release_s_folder_is_no_image(out: Path) -> None:
    (out / "cgi-1/tree.mtree").touch()
    with pytest.raises(ConfigError, match=r"does not speak of tree\.mtree"):
        find(str(out / "cgi-1/tree.mtree"), out)


def test_without_any_release_the_next_step_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find(None, tmp_path)
    assert str(tmp_path.absolute()) in caught.value.message
    assert "image build" in caught.value.hint


def test_of_releases_of_several_names_one_must_be_named(out: Path) -> None:
    write(out / "site-1", "1", name="site")
    with pytest.raises(ConfigError, match="holds releases of cgi and site") as caught:
        find(None, out)
    assert "--image" in caught.value.hint
    assert find(None, out, "cgi").release.label == "cgi-3"
    assert find(None, out, "site").release.label == "site-1"
    assert find("site", out).release.label == "site-1"
    with pytest.raises(ConfigError, match="there is no release of php in"):
        find(None, out, "php")


def test_a_broken_release_of_the_wanted_name_is_not_passed_over(out: Path) -> None:
    for broken in ("cgi-4", "site-4"):
        (out / broken).mkdir()
        (out / broken / "release.json").write_text("{}")
    with pytest.raises(ConfigError, match="cgi-4"):
        find(None, out, "cgi")


@pytest.mark.parametrize("wanted", ["", " "])
def test_an_empty_name_is_no_release(out: Path, wanted: str) -> None:
    with pytest.raises(ConfigError, match="--image is empty"):
        find(wanted, out)


def test_a_newest_release_that_is_broken_is_not_passed_over(out: Path) -> None:
    broken = out / "cgi-4"
    broken.mkdir()
    (broken / "release.json").write_text('{"schema": "flipslot.release/1", "nmae": 1}')
    with pytest.raises(ConfigError, match="nmae is unknown"):
        find(None, out)
    assert len(known(out)) == 3


def damaged(found: FoundRelease, at: int) -> None:
    path = found.path(found.release.artefacts[0])
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, HEAD_BYTES - 1, HEAD_BYTES, 2 * HEAD_BYTES - 1])
def test_one_changed_bit_is_found(out: Path, at: int) -> None:
    found = find("cgi-1", out)
    verify(found, frozenset({"erofs"}))
    damaged(found, at)
    with pytest.raises(VerificationError, match=r"cgi\.erofs is not what its release says"):
        verify(found, frozenset({"erofs"}))
    verify(found, frozenset({"uzip"}))


def test_a_size_that_differs_is_told_in_bytes(out: Path) -> None:
    found = find("cgi-1", out)
    path = found.path(found.release.artefacts[0])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VerificationError, match="has 131071 bytes, its release says 131072"):
        verify(found, frozenset({"erofs"}))


def test_an_artefact_that_was_read_is_not_read_again_until_it_changes(out: Path) -> None:
    found, formats = find("cgi-1", out), frozenset({"erofs"})
    path = out / "cgi-1/cgi.erofs"
    verify(found, formats, out)
    assert not (out / memory.FOLDER).exists()  # it changed a moment ago: that is not yet a stamp
    time.sleep(memory.RACY_S)
    verify(found, formats, out)
    (note,) = (out / memory.FOLDER).iterdir()
    verify(found, formats, out)
    assert list((out / memory.FOLDER).iterdir()) == [note]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError):
        verify(found, formats, out)


def test_a_noted_artefact_is_believed(out: Path) -> None:
    found = find("cgi-1", out)
    time.sleep(memory.RACY_S)
    artefact = found.release.artefacts[0].model_copy(update={"sha256": "0" * 64})
    memory.remember(
        memory.note_path(out, found.path(artefact), artefact.sha256, artefact.head_sha256)
    )
    lied = replace(found, release=found.release.model_copy(update={"artefacts": (artefact,)}))
    verify(lied, frozenset({"erofs"}), out)
    with pytest.raises(VerificationError):
        verify(lied, frozenset({"erofs"}))


def test_an_image_is_found_behind_a_symlink(out: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("out/cgi-1/cgi.erofs")
    found = find(str(tmp_path / "latest"), out)
    assert (found.release.version, found.only) == ("1", "erofs")
    verify(found, frozenset({"erofs"}))


def test_what_a_killed_build_left_is_no_release(out: Path) -> None:
    write(out / ".cgi-9.partial-77", "9", age_s=-60)
    assert find(None, out).release.version == "3"
    assert "9" not in {one.version for one in known(out)}


def test_a_release_that_was_half_copied_says_what_to_do(out: Path) -> None:
    (out / "cgi-3/cgi.erofs").unlink()
    with pytest.raises(
        VerificationError, match=r"there is no .*cgi\.erofs.*build or copy it again"
    ):
        verify(find(None, out), frozenset({"erofs"}))
    (out / "cgi-3/release.json").write_text("{")
    with pytest.raises(ConfigError, match=r"is damaged: it is no JSON \(build or copy it again\)"):
        find("cgi-3", out)
