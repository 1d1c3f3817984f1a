"""Real parts for the deployer's tests: sandbox frontends behind an SSH server, and releases."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from builder.pieces import cut
from deployer.cli import run
from slots.index import Index, to_lines
from slots.manifest import HEAD_BYTES, Artefact, Release, release_id
from tests.lab.embedded import Fleet, embedded_fleet

DEPLOY = Path(sys.executable).parent / "deploy"
HELD = Path(__file__).with_name("held.py")
ALIGNMENT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left."""

    status: int
    stdout: str
    stderr: str


def ran(folder: Path, *arguments: str) -> Ran:
    """Run the command line in a folder."""
    out, err = StringIO(), StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        status = run(arguments)
    return Ran(status, out.getvalue(), err.getvalue())


@dataclass
class AdminBox:
    """The admin's working folder: an inventory, releases, and frontends that it reaches."""

    fleet: Fleet

    @property
    def folder(self) -> Path:
        return self.fleet.folder

    @property
    def inventory(self) -> Path:
        return self.folder / "fleet.toml"

    def deploy(self, *arguments: str) -> Ran:
        """Run the command line in this process: it starts faster, and its leaks are seen."""
        return ran(self.folder, *arguments)

    def start(self, *arguments: str, held_at: str | None = None) -> "subprocess.Popen[str]":
        """Start the command as a process of its own; held, it stops where that step begins."""
        held = [sys.executable, str(HELD), held_at] if held_at else [str(DEPLOY)]
        return subprocess.Popen(
            [*held, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def release(self, version: str, *, broken: bool = False, ballast: bytes | None = None) -> Path:
        """Build a release by mksquashfs: one CGI that says its version, or one that fails.

        Its ballast is like no other release's if none is given.
        """
        tree = self.folder / f"tree-{version}"
        cgi = tree / "usr/lib/cgi-bin/version"
        cgi.parent.mkdir(parents=True)
        body = "exit 1" if broken else f"printf 'Content-Type: text/plain\\n\\n{version}\\n'"
        cgi.write_text(f"#!/bin/sh\n{body}\n")
        cgi.chmod(0o755)
        (tree / "ballast").write_bytes(os.urandom(300_000) if ballast is None else ballast)
        return write_release(tree, self.folder / "images/out" / f"cgi-{version}", version)

    def served(self, name: str = "www1") -> str:
        """Return the version that a frontend serves now, read through its link."""
        link = self.folder / "frontends" / name / "webroot/cgi"
        return (link / "usr/lib/cgi-bin/version").read_text().split("\\n")[2]

    def target(self, name: str = "www1") -> str:
        link = self.folder / "frontends" / name / "webroot/cgi"
        return str(link.readlink()) if link.is_symlink() else ""

    def on_disk(self) -> dict[str, str]:
        """Return all that the frontends keep on disk: devices, records, links."""
        return {
            str(path): str(path.readlink() if path.is_symlink() else path.stat().st_mtime_ns)
            for path in (self.folder / "frontends").rglob("*")
            if (path.is_symlink() or path.is_file()) and "worker" not in path.name
        }

    def edited(self, old: str, new: str) -> str:
        """Write the inventory with a change beside it, and return that file's name."""
        text = self.inventory.read_text()
        assert old in text, old
        (self.folder / "edited.toml").write_text(text.replace(old, new))
        return "edited.toml"


def write_release(tree: Path, folder: Path, version: str) -> Path:
    """Pack a tree by mksquashfs and describe it as the builder does."""
    folder.mkdir(parents=True)
    image = folder / "packed"
    subprocess.run(
        ["mksquashfs", str(tree), str(image), "-noappend", "-no-progress", "-quiet"], check=True
    )
    data = image.read_bytes()
    image.unlink()
    return described(data, folder, version)


def described(data: bytes, folder: Path, version: str) -> Path:
    """Write a release of these bytes, filled up as an image is."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "cgi.squashfs"
    data += bytes(max(HEAD_BYTES, -(-len(data) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES) - len(data))
    image.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    index = "".join(to_lines(Index(sha256, len(data), cut(image, lambda _: None))))
    image.with_name(f"{image.name}.index").write_text(index)
    artefact = Artefact(
        format="squashfs",
        file=image.name,
        size_bytes=len(data),
        sha256=sha256,
        head_sha256=hashlib.sha256(data[:HEAD_BYTES]).hexdigest(),
        index=f"{image.name}.index",
        index_sha256=hashlib.sha256(index.encode()).hexdigest(),
        codec="zlib",
        level=9,
        cluster_bytes=131_072,
    )
    release = Release(
        id=release_id(sha256, (artefact,)),
        name="cgi",
        version=version,
        mtree="tree.mtree",
        mtree_sha256=sha256,
        entries=3,
        content_bytes=300_000,
        artefacts=(artefact,),
    )
    (folder / "release.json").write_text(release.to_json())
    return folder


@pytest.fixture(scope="module")
def admin_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminBox]:
    """Two sandbox frontends behind a real sshd (or an SSH server in this process), no release."""
    if shutil.which("mksquashfs") is None or shutil.which("unsquashfs") is None:
        pytest.skip("squashfs-tools are not here: no image to deploy")
    folder = tmp_path_factory.mktemp("admin")
    tree = folder / "empty"
    tree.mkdir()
    with embedded_fleet(folder, tree, names=("www1", "www2")) as fleet:
        yield AdminBox(fleet)
