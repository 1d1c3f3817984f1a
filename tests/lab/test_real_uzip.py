"""The uzip of a real chroot, held against the chroot entry by entry by other programs."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.globs import matcher
from builder.iso9660 import layout, stream
from builder.iso9660.parameters import Parameters, Placement
from builder.scan import scan
from builder.uzip import codecs, writer
from tests.judges.iso_judge import KINDS, Volume
from tests.judges.uzip_judge import judge
from tests.lab.chroot import IMAGE
from tests.lab.frontends import why_not
from tests.lab.processes import LabError
from tests.lab.real_chroot import real_chroot

pytestmark = pytest.mark.lab

CLUSTER_BYTES = 65_536
RECIPE = """\
name = "real"
source = "{source}"
formats = ["uzip"]
"""

Facts = tuple[object, ...]


@pytest.fixture(scope="module")
def chroot() -> Path:
    if reason := why_not():
        pytest.skip(reason)
    try:
        return real_chroot()
    except LabError as error:
        pytest.skip(f"no real chroot: {error}")


@pytest.fixture(scope="module")
def volume(chroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The ISO in the uzip that `image build` makes, decoded by the judge; holes stay holes."""
    work = tmp_path_factory.mktemp("uzip")
    recipe, image, iso = work / "real.toml", work / "real.uzip", work / "real.iso"
    recipe.write_text(RECIPE.format(source=chroot))
    command = [str(IMAGE), "build", str(recipe), "--level", "3", "--output", str(image)]
    subprocess.run(command, check=True, capture_output=True, cwd=work)
    found = judge(image)
    zeros = bytes(found.cluster_bytes)
    with iso.open("wb") as file:
        for cluster in found.clusters():
            if cluster == zeros:
                file.seek(len(zeros), os.SEEK_CUR)
            else:
                file.write(cluster)
        file.truncate(found.count * found.cluster_bytes)
    assert found.violations == []
    yield iso
    shutil.rmtree(work)


def test_the_second_decoder_finds_every_entry_of_the_chroot(chroot: Path, volume: Path) -> None:
    with volume.open("rb") as file:
        read = lambda offset, size: os.pread(file.fileno(), size, offset)  # noqa: E731
        judged = Volume(read, volume.stat().st_size)
        found: dict[bytes, Facts] = {}
        for entry in judged.walk():
            content = judged.content(entry) if entry.kind == "file" and entry.size else b""
            facts = (entry.kind, entry.mode, entry.uid, entry.gid, entry.links, entry.mtime_s)
            found[entry.path] = (*facts, entry.target, entry.device, content)
        compare(found, dict(on_disk(chroot)))
        assert judged.violations == []
        assert judged.overlaps() == []


def test_xorriso_unpacks_the_chroot(chroot: Path, volume: Path, tmp_path: Path) -> None:
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")
    out = tmp_path / "out"
    command = ["xorriso", "-abort_on", "FATAL", "-hardlinks", "on", "-indev", str(volume)]
    command += ["-osirrox", "on:auto_chmod_off:device_files", "-extract", "/", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    failures = [line for line in done.stderr.splitlines() if " : FAILURE : " in line]
    assert [line for line in failures if "Cannot restore character device" not in line] == []
    # xorriso restores no times of symlinks, and reads numbers of devices as no kernel does.
    found, wanted = (dict(on_disk(root, link_times=False)) for root in (out, chroot))
    devices = {path for path, facts in wanted.items() if facts[0] in {"char", "block"}}
    assert len(failures) in {len(devices), len(devices) + 1}
    compare(found, {path: facts for path, facts in wanted.items() if path not in devices})


def test_qemu_decodes_the_zlib_kind_without_empty_clusters(chroot: Path, tmp_path: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    tree = scan(chroot, matcher([])).tree
    planned = layout.plan_layout(
        tree,
        Parameters(placement=Placement.SEQUENTIAL, cluster_bytes=CLUSTER_BYTES, label="REAL"),
    )
    image, iso, decoded = (tmp_path / name for name in ("real.uzip", "real.iso", "decoded.iso"))
    with image.open("w+b") as file:
        writer.write(
            stream.clusters(planned),
            planned.cluster_count,
            file,
            codec=codecs.CODECS["zlib"],
            level=1,
            cluster_bytes=CLUSTER_BYTES,
            threads=2,
            store_all=True,
        )
    with iso.open("wb") as file:
        for cluster in stream.clusters(planned):
            file.write(cluster if isinstance(cluster, bytes) else bytes(cluster.count << 16))
    convert = ["qemu-img", "convert", "-f", "cloop", "-O", "raw", str(image), str(decoded)]
    subprocess.run(convert, check=True, capture_output=True)
    subprocess.run(["cmp", str(iso), str(decoded)], check=True)


def compare(found: dict[bytes, Facts], wanted: dict[bytes, Facts]) -> None:
    """Name a few that differ: whole trees are no message."""
    assert sorted(found.keys() ^ wanted.keys())[:5] == []
    differ = [path for path, facts in wanted.items() if found[path] != facts]
    assert [(path, found[path][:8], wanted[path][:8]) for path in sorted(differ)[:5]] == []


def on_disk(root: Path, *, link_times: bool = True) -> Iterator[tuple[bytes, Facts]]:
    """Yield what lstat(2), readlink(2) and read(2) say of everything below a folder."""
    top = os.fsencode(root)
    inside: dict[tuple[int, int], int] = {}
    paths = [b""]
    for folder, names, files in os.walk(top):
        paths += [folder[len(top) :] + b"/" + name for name in (*names, *files)]
    found = {path: os.lstat(top + path) for path in paths}
    for status in found.values():
        key = (status.st_dev, status.st_ino)
        inside[key] = inside.get(key, 0) + 1
    for path, status in found.items():
        is_link, is_directory = stat.S_ISLNK(status.st_mode), stat.S_ISDIR(status.st_mode)
        is_file = stat.S_ISREG(status.st_mode)
        yield (
            path,
            (
                KINDS[stat.S_IFMT(status.st_mode)],
                0o777 if is_link else stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_nlink if is_directory else inside[status.st_dev, status.st_ino],
                int(status.st_mtime) if link_times or not is_link else 0,
                os.readlink(top + path) if is_link else b"",  # noqa: PTH115 - bytes
                device_of(status),
                Path(os.fsdecode(top + path)).read_bytes() if is_file else b"",
            ),
        )


def device_of(status: os.stat_result) -> tuple[int, int]:
    """Return the numbers of a device node."""
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0)
