import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from builder import browse
from builder.build import Built, build
from builder.normalise import OwnerRule
from builder.recipe import OwnerSettings, Packing
from builder.verify import verify
from slots.errors import BuildError, ConfigError, Refused, VerificationError
from slots.events import Event, Finished, Notice, Progress, Started
from slots.index import from_lines
from slots.manifest import ALIGNMENT_BYTES, HEAD_BYTES, Artefact, Format, Release
from tests.builder import readers
from tests.builder.conftest import order
from tests.builder.trees import Snapshot, snapshot

FORMATS: tuple[Format, ...] = ("uzip", "iso9660", "squashfs", "erofs")


def _need(*formats: Format) -> None:
    for format_ in formats:
        readers.need(*readers.TOOLS.get(format_, ()))


def _build(source: Path, output: Path, *formats: Format) -> Built:
    return build(order(source, output, *formats), lambda _event: None)


def _extracted(image: Path, folder: Path) -> Snapshot:
    with browse.opened(image) as one:
        browse.extract(one, folder, lambda _event: None)
    return snapshot(folder)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_image_extracts_to_the_directory_that_it_was_built_from(
    chroot: Path, tmp_path: Path, format_: Format
) -> None:
    _need(format_)
    image = tmp_path / "image"
    _build(chroot, image, format_)
    assert _extracted(image, tmp_path / "out") == snapshot(chroot)
    assert verify(image, lambda _event: None).artefacts[0].format == format_


@pytest.mark.parametrize("format_", FORMATS)
def test_two_builds_give_the_same_bytes(chroot: Path, tmp_path: Path, format_: Format) -> None:
    _need(format_)
    copy = tmp_path / "elsewhere" / chroot.name
    copy.parent.mkdir()
    subprocess.run(["cp", "-a", "--", str(chroot), str(copy)], check=True)
    first, second = tmp_path / "first", tmp_path / "second"
    _build(chroot, first, format_)
    build(replace(order(copy, second, format_), threads=1), lambda _event: None)
    assert first.read_bytes() == second.read_bytes()


def test_a_release_holds_what_its_description_says(chroot: Path, tmp_path: Path) -> None:
    _need("squashfs")
    built = _build(chroot, tmp_path, "uzip", "squashfs")
    release = Release.from_json(built.manifest.read_bytes())
    folder = built.manifest.parent
    assert folder == tmp_path / f"chroot-{release.mtree_sha256[:12]}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "release.json",
            "tree.mtree",
            *(f"{folder.name}{end}" for end in (".uzip", ".squashfs")),
            *(f"{folder.name}{end}.index" for end in (".uzip", ".squashfs")),
        ]
    )
    for artefact in release.artefacts:
        assert artefact.size_bytes % ALIGNMENT_BYTES == 0
        assert artefact.size_bytes >= HEAD_BYTES
        lines = (folder / artefact.index).read_text().splitlines()
        assert from_lines(lines).sha256 == artefact.sha256
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "release.json"
    assert verify(folder, lambda _event: None).release == release


def test_the_same_release_is_made_the_newest_again_and_not_twice(
    chroot: Path, tmp_path: Path
) -> None:
    first = _build(chroot, tmp_path)
    os.utime(first.manifest, (1, 1))
    again = _build(chroot, tmp_path)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.manifest == first.manifest
    assert first.manifest.stat().st_mtime > 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "chroot"] == [
        first.manifest.parent.name
    ]


def test_a_version_that_names_another_tree_is_refused_before_anything_is_written(
    chroot: Path, tmp_path: Path, events: list[Event]
) -> None:
    wanted = replace(order(chroot, tmp_path), version="1")
    first = build(wanted, lambda _event: None)
    again = build(wanted, lambda _event: None)
    (chroot / "added").touch()
    with pytest.raises(
        ConfigError, match="release chroot-1 exists and holds something else"
    ) as caught:
        build(wanted, events.append)
    assert caught.value.hint == f"choose another --version, or remove {tmp_path / 'chroot-1'}"
    assert "uzip" not in {one.step for one in events if isinstance(one, Started)}
    assert (again.is_new, again.release) == (False, first.release)
    assert verify(first.manifest.parent, lambda _event: None).release == first.release


def test_a_single_file_has_its_description_beside_it(chroot: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    built = _build(chroot, image, "uzip")
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"x.img", "x.img.release.json", "x.img.index", "x.img.mtree"}
    assert built.release.artefacts[0].file == "x.img"


def test_recipes_give_owners_mount_points_and_links(
    chroot: Path, tmp_path: Path, events: list[Event]
) -> None:
    plain = order(chroot, tmp_path / "image")
    owners = (
        OwnerSettings(match="**", uid=7, gid=8),
        OwnerSettings(match="etc/*", uid=70_000, mode="0640"),
    )
    recipe = plain.recipe.model_copy(
        update={
            "owners": owners,
            "mount_points": ("dev", "var/run"),
            "links": {"etc/resolv.conf": "host/resolv.conf"},
        }
    )
    build(replace(plain, recipe=recipe, epoch_s=1_600_000_000), events.append)
    with browse.opened(tmp_path / "image") as image:
        nodes = {node.path: node for node in image.tree()}
    assert Notice("mount points made: /dev, /var, /var/run") in events
    assert Notice("replaced by links: /etc/resolv.conf") in events
    assert nodes[b"/etc/resolv.conf"].target == b"host/resolv.conf"
    assert (nodes[b"/etc/shadow"].uid, nodes[b"/etc/shadow"].gid) == (70_000, 8)
    assert (nodes[b"/etc/shadow"].mode, nodes[b"/bin/sh"].mode) == (0o640, 0o4755)
    assert nodes[b"/var/run"].uid == 7
    assert {node.mtime_s for node in nodes.values()} == {1_600_000_000}
    assert OwnerRule("x").uid is None


def test_an_mtree_file_gives_owners_and_devices(chroot: Path, tmp_path: Path) -> None:
    spec = tmp_path / "METALOG"
    spec.write_text(
        "./bin/sh uname=www gid=9 mode=0555\n"
        "./empty\\040dir/null type=char mode=0666 uid=0 gid=0 device=native,1,300\n"
    )
    build(replace(order(chroot, tmp_path / "image"), mtree=spec), lambda _event: None)
    with browse.opened(tmp_path / "image") as image:
        nodes = {node.path: node for node in image.tree()}
    assert (nodes[b"/bin/sh"].uid, nodes[b"/bin/sh"].gid, nodes[b"/bin/sh"].mode) == (80, 9, 0o555)
    null = nodes[b"/empty dir/null"]
    assert (null.kind, null.major, null.minor, null.mode) == ("char", 1, 300, 0o666)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"root:x:0:0:root:/root:/bin/sh\n",
        b'name = "cgi"\nlevel = 3\n',
        b"\x96\x89\x00\n\xa8=\n",
    ],
    ids=["empty", "passwd", "recipe", "bytes"],
)
def test_a_file_that_is_no_mtree_specification_is_refused(
    chroot: Path, tmp_path: Path, content: bytes
) -> None:
    spec = tmp_path / "spec"
    spec.write_bytes(content)
    with pytest.raises(ConfigError, match="spec is no mtree specification"):
        build(replace(order(chroot, tmp_path / "image"), mtree=spec), lambda _event: None)
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("format_", ["uzip", "squashfs"])
def test_a_file_that_changes_while_it_is_read_fails_the_build_by_name(
    chroot: Path, tmp_path: Path, format_: Format
) -> None:
    _need(format_)

    def disturb(event: Event) -> None:
        if isinstance(event, Started) and event.step == format_:
            with (chroot / "usr/lib/big").open("ab") as file:
                file.write(b"more")

    with pytest.raises(BuildError, match="/usr/lib/big changed"):
        build(order(chroot, tmp_path / "out" / "image", format_), disturb)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_added_while_an_image_is_written_fails_the_build(
    chroot: Path, tmp_path: Path
) -> None:
    def disturb(event: Event) -> None:
        if isinstance(event, Finished) and event.step == "uzip":
            (chroot / "usr/lib/new").touch()

    with pytest.raises(BuildError, match="changed while the image was built: /usr/lib"):
        build(order(chroot, tmp_path / "out" / "image"), disturb)
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_is_told_in_bytes_up_to_the_total(
    chroot: Path, tmp_path: Path, events: list[Event]
) -> None:
    build(order(chroot, tmp_path / "image"), events.append)
    totals = {one.step: one.total_bytes for one in events if isinstance(one, Started)}
    done = [one for one in events if isinstance(one, Progress)]
    assert {"digest", "uzip"} <= {one.step for one in done}
    assert all(0 < one.done_bytes <= (totals[one.step] or 0) for one in done)


@pytest.mark.parametrize(
    ("format_", "packing", "says"),
    [
        ("uzip", Packing(codec="lz4"), "uzip has no codec lz4"),
        ("uzip", Packing(level=99), "uzip with zstd has no level 99"),
        ("uzip", Packing(cluster=5000), "a cluster of 5000 bytes does not fit uzip"),
        ("squashfs", Packing(cluster=98_304), "a cluster of 98304 bytes does not fit squashfs"),
        ("iso9660", Packing(codec="zstd"), "iso9660 has no codec zstd"),
    ],
)
def test_a_packing_that_a_format_cannot_do_is_refused_with_what_it_can(
    chroot: Path, tmp_path: Path, format_: Format, packing: Packing, says: str
) -> None:
    wanted = replace(order(chroot, tmp_path / "image", format_), packing=packing)
    with pytest.raises(ConfigError, match=says) as caught:
        build(wanted, lambda _event: None)
    assert caught.value.hint


def test_a_missing_tool_is_named_with_its_package(
    chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"mkfs\.erofs is not installed") as caught:
        _build(chroot, tmp_path / "image", "erofs")
    assert "erofs-utils" in caught.value.hint


@pytest.mark.parametrize(("format_", "tool"), [("squashfs", "libzstd"), ("erofs", "mkfs.erofs")])
def test_what_wrote_an_image_is_told_with_its_version(
    format_: Format, tool: str, chroot: Path, tmp_path: Path
) -> None:
    _need(format_)
    _build(chroot, tmp_path / "image", format_)
    release = json.loads((tmp_path / "image.release.json").read_text())
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", release["tools"][tool])


def test_what_a_failing_tool_says_is_shown(
    chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "mkfs.erofs"
    fake.write_text(
        '#!/bin/sh\ncase $1 in -V) echo "mkfs.erofs 1.7";; '
        '--help) echo "compressors are: lz4, lz4hc";; '
        '*) echo "the moon is full" >&2; exit 3;; esac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(BuildError, match=r"mkfs\.erofs failed \(exit status 3\): the moon is full"):
        _build(chroot, tmp_path / "out" / "image", "erofs")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_inside_the_source_is_refused(chroot: Path) -> None:
    with pytest.raises(ConfigError, match="lies inside the source"):
        _build(chroot, chroot / "images" / "image")


def test_an_output_that_is_a_pipe_or_a_device_is_not_replaced(chroot: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="is no regular file"):
        _build(chroot, pipe, "iso9660")
    assert pipe.is_fifo()


def test_a_killed_build_leaves_no_final_name_and_the_next_one_clears_up(
    chroot: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (chroot / "usr/lib/random").write_bytes(os.urandom(16_000_000))
    command = [
        sys.executable, "-c", "from builder.cli import main; main()", "build",
        "--source", str(chroot), "--output", f"{out}/", "--level", "22",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 20
        while not list(out.glob(".*partial*/*.uzip")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
    left = list(out.iterdir())
    assert [path.name.startswith(".") for path in left] == [True]
    (chroot / "usr/lib/random").unlink()
    alive = out / f".other-1.partial-{os.getpid()}"
    alive.mkdir()
    built = _build(chroot, out)
    assert sorted(out.iterdir()) == sorted([alive, built.manifest.parent])


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_build_ends_its_children_and_leaves_nothing(
    chroot: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    _need("squashfs")
    out = tmp_path / "out"
    (chroot / "usr/lib/random").write_bytes(os.urandom(24_000_000))
    command = [
        sys.executable, "-c", "from builder.cli import main; main()", "build",
        "--source", str(chroot), "--output", f"{out}/", "--format", "squashfs", "--level", "22",
        "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 20
        while not list(out.glob(".*partial*/*.squashfs")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(number)
        out_json, said = child.communicate(timeout=20)
    assert child.returncode == status
    answer = json.loads(out_json)
    assert (answer["schema"], answer["exit_code"]) == ("flipslot.error/1", status)
    assert "nothing is left behind" in said
    assert list(out.iterdir()) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False)
    assert str(out) not in running.stdout


def test_a_full_disk_is_one_clear_line_and_nothing_is_left(chroot: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    (chroot / "usr/lib/random").write_bytes(os.urandom(3_000_000))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=False)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        for format_ in FORMATS:
            _need(format_)
            with pytest.raises(BuildError, match="no space left on the device") as caught:
                _build(chroot, disk / "image", format_)
            assert "\n" not in caught.value.message
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def release(chroot: Path, tmp_path: Path) -> Path:
    return _build(chroot, tmp_path / "out", "uzip", "iso9660").manifest.parent


def _artefact(folder: Path) -> Artefact:
    return Release.from_json((folder / "release.json").read_bytes()).artefacts[0]


@pytest.mark.parametrize("what", ["byte", "cut", "index", "mtree", "manifest", "gone"])
def test_verify_names_what_is_damaged(release: Path, what: str) -> None:
    artefact = _artefact(release)
    image = release / artefact.file
    match what:
        case "byte":
            with image.open("r+b") as file:
                file.seek(artefact.size_bytes // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
            says = rf"{image} is damaged in its bytes from"
        case "cut":
            os.truncate(image, artefact.size_bytes - 4096)
            says = rf"{image} has .* bytes, not"
        case "index":
            path = release / artefact.index
            path.write_text(path.read_text().replace("a", "b", 1))
            says = rf"{path} is not the one"
        case "mtree":
            path = release / "tree.mtree"
            path.write_text(path.read_text().replace("0600", "0644"))
            says = rf"{path} is not the one"
        case "manifest":
            path = release / "release.json"
            path.write_text(path.read_text().replace(artefact.head_sha256, "0" * 64))
            says = rf"the head of {image} is not as"
        case _:
            image.unlink()
            says = rf"{image} is missing"
    with pytest.raises(VerificationError, match=says):
        verify(release, lambda _event: None)


def test_verify_finds_an_image_whose_entries_are_not_those_described(release: Path) -> None:
    manifest, mtree = release / "release.json", release / "tree.mtree"
    text = mtree.read_text().replace(
        "./etc/shadow type=file mode=0600", "./etc/shadow type=file mode=0644"
    )
    old = Release.from_json(manifest.read_bytes())
    mtree.write_text(text)
    manifest.write_text(
        manifest.read_text().replace(old.mtree_sha256, hashlib.sha256(text.encode()).hexdigest())
    )
    with pytest.raises(VerificationError, match="/etc/shadow has mode 0600, not 0644"):
        verify(release, lambda _event: None)


def test_verify_without_a_description_says_what_it_wants(chroot: Path, tmp_path: Path) -> None:
    _build(chroot, tmp_path / "image")
    (tmp_path / "image.release.json").unlink()
    with pytest.raises(Refused, match=r"no release\.json describes"):
        verify(tmp_path / "image", lambda _event: None)


def test_a_release_holds_no_time_of_its_own(chroot: Path, tmp_path: Path) -> None:
    _need("squashfs")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = _build(chroot, tmp_path / "a", "uzip", "squashfs").manifest.read_text()
    time.sleep(1.1)
    assert _build(chroot, tmp_path / "b", "uzip", "squashfs").manifest.read_text() == first
    assert json.loads(first)["schema"] == "flipslot.release/1"
