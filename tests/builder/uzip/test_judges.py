"""Another program reads what we write: qemu-img's cloop driver (zlib, no empty clusters)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from builder.clusters import Cluster, ZeroRun
from tests.builder.uzip.images import SIZE, image, noise, text


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_qemu_decodes_a_zlib_image_without_holes(tmp_path: Path) -> None:
    items: list[Cluster] = [text(1), noise(1), ZeroRun(2), text(2), text(1), bytes(SIZE), noise(2)]
    source, out = tmp_path / "image.uzip", tmp_path / "volume"
    source.write_bytes(image(items, "zlib", store_all=True)[0])
    subprocess.run(
        ["qemu-img", "convert", "-f", "cloop", "-O", "raw", str(source), str(out)], check=True
    )
    assert out.read_bytes() == b"".join(
        bytes(SIZE * one.count) if isinstance(one, ZeroRun) else one for one in items
    )
