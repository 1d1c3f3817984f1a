"""Small images for the verbs."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from slots.actions import Prove
from slots.manifest import ALIGNMENT_BYTES, HEAD_BYTES, Artefact, Format
from slots.pack import packed_head
from slots.slot import SlotName

MAGIC: dict[Format, tuple[int, bytes]] = {
    "uzip": (0, b"#!/bin/sh\n#V4.0 Format\n"),
    "squashfs": (0, b"hsqs"),
    "erofs": (1024, b"\xe2\xe1\xf5\xe0"),
    "iso9660": (32769, b"CD001"),
}


class Image(NamedTuple):
    """An image and what its release says of it."""

    data: bytes
    artefact: Artefact

    @property
    def head(self) -> bytes:
        """Return the head as it travels."""
        return packed_head(self.data[:HEAD_BYTES])

    @property
    def body(self) -> bytes:
        return self.data[HEAD_BYTES:]


def of_bytes(data: bytes, format_: Format) -> Image:
    """Describe these bytes as a build would."""
    data += bytes(-len(data) % ALIGNMENT_BYTES)
    artefact = Artefact(
        format=format_,
        file="image",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        head_sha256=hashlib.sha256(data[:HEAD_BYTES]).hexdigest(),
        index="image.index",
        index_sha256="0" * 64,
        codec="none",
        level=0,
        cluster_bytes=0,
    )
    return Image(data, artefact)


def proof(slot: SlotName, artefact: Artefact, release: str = "r1") -> Prove:
    """Return the action that proves an image in a slot."""
    return Prove(
        *(slot, release, artefact.format),
        *(artefact.size_bytes, artefact.sha256, artefact.head_sha256),
    )


def with_magic(format_: Format, size_bytes: int, seed: int = 1) -> Image:
    """Return an image that has a head of this format and otherwise noise."""
    block = hashlib.sha256(str(seed).encode()).digest()
    data = bytearray((block * (size_bytes // len(block) + 1))[:size_bytes])
    data[:HEAD_BYTES] = bytes(4096) + data[4096:HEAD_BYTES]
    offset, magic = MAGIC[format_]
    data[offset : offset + len(magic)] = magic
    return of_bytes(bytes(data), format_)


def squashfs(folder: Path, version: str, size_bytes: int = 200_000) -> Image:
    """Return a real squashfs of a tiny chroot, with some incompressible bytes in it."""
    if shutil.which("mksquashfs") is None:
        pytest.skip("needs mksquashfs (squashfs-tools)")
    tree = folder / f"tree-{version}"
    for inner in ("bin", "dev", "tmp", "etc/host", "data", "srv"):
        (tree / inner).mkdir(parents=True)
    (tree / "version").write_text(version + "\n")
    (tree / "escape").symlink_to("/etc")
    (tree / "noise").write_bytes(
        b"".join(hashlib.sha256(f"{version}{n}".encode()).digest() for n in range(size_bytes // 32))
    )
    shutil.copy("/bin/sleep", tree / "bin" / "sleep")
    out = folder / f"{version}.squashfs"
    subprocess.run(
        ("mksquashfs", tree, out, "-quiet", "-no-progress", "-all-root", "-noappend"), check=True
    )
    return of_bytes(out.read_bytes(), "squashfs")
