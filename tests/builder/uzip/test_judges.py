"""Another program reads what we write: qemu-img's cloop driver (zlib, no empty clusters)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from builder.clusters import Cluster
from tests.builder.uzip.images import image, noise, text


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_qemu_decodes_a_zlib_image_without_holes(tmp_path: Path) -> None:
    items: list[Cluster] = [text(1), noise(1), text(2), text(3), noise(2)]
    source, out = tmp_path / "image.uzip", tmp_path / "volume"
    source.write_bytes(image(items, "zlib")[0])
    subprocess.run(
        ["qemu-img", "convert", "-f", "cloop", "-O", "raw", str(source), str(out)], check=True
    )
    assert out.read_bytes() == b"".join(one for one in items if isinstance(one, bytes))
