"""The kernel of the machine whose power is cut: Debian's, fetched once and kept."""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

from tests.lab.processes import LabError, tool

KEPT = Path("/var/tmp/flipslot-kernel")
META_PACKAGE = "linux-image-cloud-amd64"
WANTED = ("virtio_pci", "virtio_blk", "squashfs")
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "nbdkit": "nbdkit",
    "sfdisk": "fdisk",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "busybox": "busybox-static",
}


def why_not() -> str:
    """Return why no power can be cut here, or nothing."""
    if platform.machine() != "x86_64":
        return "power cuts are played on an amd64 machine"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacks = sorted(
        package for name, package in PACKAGES.items() if not shutil.which(name, path=path)
    )
    if lacks:
        return f"power cuts need {', '.join(lacks)} (apt-get install {' '.join(lacks)})"
    return ""


def fetched() -> tuple[Path, tuple[Path, ...]]:
    """Return the kernel and its modules, in the order in which they are loaded."""
    if not (KEPT / "vmlinuz").exists():
        _fetch()
    return KEPT / "vmlinuz", tuple(sorted((KEPT / "modules").iterdir()))


def _fetch() -> None:
    depends = tool("apt-cache", "depends", META_PACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise LabError(f"apt knows no kernel behind {META_PACKAGE}")
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT.parent) as name:
        work = Path(name)
        tool("sh", "-c", 'cd "$0" && apt-get download -qq "$1"', name, found[1], timeout_s=300)
        [package] = work.glob("*.deb")
        tool("dpkg-deb", "-x", str(package), str(work / "all"), timeout_s=300)
        kept = work / "kept"
        (kept / "modules").mkdir(parents=True)
        [image] = (work / "all/boot").glob("vmlinuz-*")
        shutil.copy(image, kept / "vmlinuz")
        for number, module in enumerate(_in_order(work / "all/lib/modules")):
            shutil.copy(module, kept / "modules" / f"{number:02}-{module.name}")
        shutil.rmtree(KEPT, ignore_errors=True)
        kept.rename(KEPT)


def _in_order(folder: Path) -> list[Path]:
    """Return the wanted modules behind those that they need."""
    files = {one.stem.replace("-", "_"): one for one in folder.rglob("*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        module = files[name]
        found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module.read_bytes())
        for needed in (found[1].decode() if found else "").split(","):
            if needed:
                add(needed.replace("-", "_"))
        if module not in order:
            order.append(module)

    for name in WANTED:
        add(name)
    return order
