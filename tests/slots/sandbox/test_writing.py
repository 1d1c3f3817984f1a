"""What is written into a slot of a sandbox, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slots import answers
from slots.actions import Erase, Fill, Flip, Mount, Seal, Unmount
from slots.errors import HostError, VerificationError
from slots.manifest import HEAD_BYTES
from slots.pack import packed_head
from slots.slot import DeviceKind, SlotState
from tests.slots import images
from tests.slots.hosts import Host, write
from tests.slots.sandbox.frontend import SLOT_BYTES, A, B


def test_erasing_zeroes_the_head_and_drops_the_records(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(Erase(A), token).status == 0
    status = host.probe().status(A)
    assert status.state is SlotState.WRITING
    assert (status.image, status.proof, status.verdict) == (None, None, None)
    data = Path(host.slots.slot(A).device).read_bytes()
    assert data[:HEAD_BYTES] == bytes(HEAD_BYTES)
    assert data[HEAD_BYTES : len(image.data)] == image.body
    assert len(data) == SLOT_BYTES


def test_a_lost_record_of_a_write_is_the_same_as_empty(host: Host) -> None:
    with host.lock() as token:
        host.do(Erase(A), token)
    (Path(host.slots.records) / "cgi.A.writing").unlink()
    assert host.probe().status(A).state is SlotState.EMPTY


@pytest.mark.parametrize("surplus", [1, 4096])
def test_what_follows_a_payload_is_not_written(host: Host, surplus: int) -> None:
    image = images.with_magic("uzip", 300_000)
    device = Path(host.slots.slot(A).device)
    with host.lock() as token:
        host.do(Erase(A), token)
        before = device.read_bytes()
        host.do(Fill(A, image.artefact), token, image.body + b"x" * surplus)
    end = 65_536 + len(image.body)
    assert device.read_bytes()[65_536:end] == image.body
    assert device.read_bytes()[end:] == before[end:]


@pytest.mark.parametrize("change", [-4096, -1])
def test_a_payload_that_ends_too_early_is_no_success(host: Host, change: int) -> None:
    image = images.with_magic("uzip", 300_000)
    body = image.body[:change]
    with host.lock() as token:
        host.do(Erase(A), token)
        answer = host.do(Fill(A, image.artefact), token, body)
    assert answer.status == 21
    assert isinstance(answers.error_of(answer, "www1"), HostError)
    assert host.probe().status(A).state is SlotState.WRITING
    assert len(Path(host.slots.slot(A).device).read_bytes()) == SLOT_BYTES


@pytest.mark.parametrize("size", [65_536, 69_632, 131_072, 135_168])
def test_images_of_every_shape_arrive_whole(host: Host, size: int) -> None:
    image = images.with_magic("iso9660", size)
    with host.lock() as token:
        write(host, B, image, token)
    data = Path(host.slots.slot(B).device).read_bytes()
    assert data[:size] == image.data
    assert data[size:] == bytes(SLOT_BYTES - size)


def test_a_half_written_slot_cannot_be_mounted_even_without_records(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        host.do(Erase(A), token)
        assert host.do(Fill(A, image.artefact), token, image.body).status == 0
        for record in Path(host.slots.records).glob("cgi.A.*"):
            record.unlink()
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 20
    assert "holds no squashfs image" in answer.first("error")


def test_a_slot_that_was_not_erased_is_not_filled(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        answer = host.do(Fill(A, image.artefact), token, image.body)
    assert answer.status == 20
    assert host.probe().status(A).proof is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda head: packed_head(bytes((head[0] ^ 1,)) + head[1:]),
        lambda head: packed_head(head[:-1]),
        lambda head: packed_head(head)[:-20],
        lambda head: b"x" + packed_head(head)[1:],
        lambda head: head,
        lambda _: b"",
    ],
)
def test_a_head_that_was_damaged_on_the_way_is_not_written(
    host: Host, damage: Callable[[bytes], bytes]
) -> None:
    image = images.with_magic("uzip", 300_000)
    head = damage(image.data[:HEAD_BYTES])
    with host.lock() as token:
        host.do(Erase(A), token)
        host.do(Fill(A, image.artefact), token, image.body)
        answer = host.do(Seal(A, image.artefact, "r1"), token, head)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    assert host.probe().status(A).state is SlotState.WRITING


def test_the_active_and_the_mounted_slot_are_not_written(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        host.do(Mount(A, "squashfs"), token)
        before = Path(host.slots.slot(A).device).read_bytes()
        for payload, action in (
            (b"", Erase(A)),
            (image.body, Fill(A, image.artefact)),
            (image.head, Seal(A, image.artefact, "r1")),
        ):
            answer = host.do(action, token, payload)
            assert answer.status == 20
            assert "mounted" in answer.first("error")
        host.do(Flip(A), token)
        for refused in (Erase(A), Unmount(A)):
            answer = host.do(refused, token)
            assert answer.status == 20
            assert "active" in answer.first("error")
    assert Path(host.slots.slot(A).device).read_bytes() == before


def test_a_slot_too_small_or_missing_is_refused(host: Host) -> None:
    image = images.with_magic("uzip", SLOT_BYTES + 4096)
    with host.lock() as token:
        host.do(Erase(A), token)
        answer = host.do(Fill(A, image.artefact), token, image.body)
        assert answer.status == 20
        assert str(SLOT_BYTES) in answer.first("error")
        Path(host.slots.slot(B).device).unlink()
        answer = host.do(Erase(B), token)
    assert answer.status == 20
    assert "there is no" in answer.first("error")
    assert not Path(host.slots.slot(B).device).exists()
    assert host.probe().status(B).device_kind is DeviceKind.MISSING
