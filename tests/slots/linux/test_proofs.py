"""How a slot on a block device is proven, past all caches."""

import os
from pathlib import Path

from slots import answers
from slots.actions import Mount
from slots.errors import VerificationError
from slots.manifest import HEAD_BYTES
from tests.slots import images
from tests.slots.hosts import Host, write
from tests.slots.linux.frontend import NEEDS, A, inside

pytestmark = NEEDS


def test_a_damaged_slot_is_read_from_the_disk_and_not_proven(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        write(host, A, image, token)
        with Path(host.slots.slot(A).device).open("r+b") as device:
            device.seek(HEAD_BYTES + 9)
            device.write(b"\xff\x00")
        answer = host.do(images.proof(A, art), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    assert host.probe().status(A).damaged


def test_what_the_disk_holds_counts_and_not_what_is_cached_of_it(
    host: Host, tmp_path: Path
) -> None:
    image = images.of_bytes(images.squashfs(tmp_path, "one").data + os.urandom(1_200_000), "uzip")
    device = Path(host.slots.slot(A).device)
    with host.lock() as token:
        write(host, A, image, token)
        for place in (HEAD_BYTES + 9, len(image.data) - 9):  # in the large blocks, and behind them
            with device.open("rb") as held:  # as long as it is open, what was read is cached
                assert held.read(len(image.data)) == image.data
                flip_a_bit(tmp_path / "a", place)  # behind the back of the device
                held.seek(0)
                assert held.read(len(image.data)) == image.data, "the cache does not know"
                assert host.do(images.proof(A, image.artefact), token).status == 23
            flip_a_bit(tmp_path / "a", place)


def flip_a_bit(path: Path, place: int) -> None:
    with path.open("r+b") as disk:
        disk.seek(place)
        (was,) = disk.read(1)
        disk.seek(place)
        disk.write(bytes([was ^ 1]))
        disk.flush()
        os.fsync(disk.fileno())


def test_a_proof_does_not_outlive_a_write_between_two_mounts(host: Host, tmp_path: Path) -> None:
    device, point = host.slots.slot(A).device, host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.probe().status(A).proven
    mounting = ("mount", "-t", "squashfs", "-o", "ro", device, point)
    inside(host, "umount", point)
    inside(host, *mounting)
    writes = "dd of='$1' bs=512 seek=140 count=1 if=/dev/urandom conv=notrunc,fsync 2>/dev/null"
    inside(host, "umount", point)
    inside(host, "sh", "-c", writes.replace("$1", device))
    inside(host, *mounting)  # it gets the number of the mount before it
    assert host.probe().status(A).mounted
    assert not host.probe().status(A).proven
