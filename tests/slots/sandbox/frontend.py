"""What the tests of sandboxes share."""

from pathlib import Path

from slots.actions import Flip, Mount
from slots.slot import SlotName
from tests.slots import images
from tests.slots.hosts import Host, write

A, B = SlotName.A, SlotName.B

SLOT_BYTES = 1 << 20


def damage(path: str, offset: int) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 1,)))


def mounted_active(host: Host, tmp_path: Path, token: str) -> str:
    """Serve slot A, then slot B; returns the mount point of A."""
    for name in (A, B):
        write(host, name, images.squashfs(tmp_path, f"of-{name}"), token)
        assert host.do(Mount(name, "squashfs"), token).status == 0
        assert host.do(Flip(name), token).status == 0
    return host.slots.slot(A).mount_point
