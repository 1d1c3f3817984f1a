"""A pack brought to a host and replayed there, by the real verbs under each shell."""

import gzip
import hashlib
import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slots import answers, calls
from slots.actions import Erase, Mount, Patch, Seal, Unmount
from slots.errors import VerificationError
from slots.manifest import HEAD_BYTES
from slots.sandbox import Sandbox
from slots.slot import SlotName, SlotState, Written
from tests.slots import images, packs
from tests.slots.hosts import Host, sandbox_slots, write

A, B = SlotName.A, SlotName.B
SLOT_BYTES = 2 << 20
SHELLS = ("dash", "busybox sh", "mksh")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_in(tmp_path)


def host_in(tmp_path: Path, shell: str = "dash") -> Host:
    slots = sandbox_slots(tmp_path, SLOT_BYTES, records="records of it")
    return Host(Sandbox(), slots, shell=shell)


def stage(host: Host, pack: packs.Pack, token: str, offset: int = 0) -> answers.Answer:
    call = calls.stage_call(token, pack.sha256, pack.size_bytes, offset)
    return host.run(call, pack.data[offset:])


def update(host: Host, old: images.Image, new: images.Image, pack: packs.Pack, token: str) -> None:
    """Bring slot B from nothing to the new image by the pack, and prove it."""
    assert stage(host, pack, token).status == 0
    patch = Patch(B, new.artefact, pack.sha256, old.artefact.sha256)
    for action, payload in (
        (Erase(B), b""),
        (patch, b""),
        (Seal(B, new.artefact, "r2"), new.head),
        (images.proof(B, new.artefact), b""),
    ):
        answer = host.do(action, token, payload)
        assert answer.status == 0, (action, answer)


def replay(
    host: Host, old: images.Image, new: images.Image, pack: packs.Pack, token: str
) -> answers.Answer:
    """Stage a pack and replay it into the erased slot B."""
    assert stage(host, pack, token).status == 0
    host.do(Erase(B), token)
    return host.do(Patch(B, new.artefact, pack.sha256, old.artefact.sha256), token)


def in_slot(host: Host, name: SlotName) -> bytes:
    return Path(host.slots.slot(name).device).read_bytes()


@pytest.mark.parametrize("unit", [512, 1])
def test_a_pack_makes_the_new_image_out_of_the_old_one(host: Host, shell: str, unit: int) -> None:
    host.shell = shell
    chance = random.Random(1)  # noqa: S311 - bytes of a test
    old = images.of_bytes(chance.randbytes(700_000), "uzip")
    mixed = old.data[:100_000] + chance.randbytes(70_001) + old.data[300_000:]
    new = images.of_bytes(mixed, "uzip")
    pack = packs.pack(old, new, unit, packs.moves_of(old.data, new.data, unit, 512))
    with host.lock() as token:
        write(host, A, old, token)
        update(host, old, new, pack, token)
    assert Path(host.slots.slot(B).device).read_bytes()[: len(new.data)] == new.data
    staging = Path(host.slots.records) / "staging/cgi"
    assert list(staging.iterdir()) == []


def test_a_long_run_is_copied_in_large_blocks_and_a_short_one_by_one_dd(
    host: Host, tmp_path: Path
) -> None:
    """A fork is what a move costs; the middle of a long one begins at a whole block."""
    body = random.Random(8).randbytes(1_048_576)  # noqa: S311 - bytes of a test
    old = images.of_bytes(body, "uzip")
    start, long, short = HEAD_BYTES // 512 + 5, 1000, 512
    moves = (packs.Copy(start, long), packs.Copy(3, short))
    end = start + long
    new = images.of_bytes(
        body[:HEAD_BYTES] + body[start * 512 : end * 512] + body[3 * 512 : (3 + short) * 512],
        "uzip",
    )
    assert len(new.data) == HEAD_BYTES + (long + short) * 512
    (tmp_path / "bin").mkdir()
    spy = tmp_path / "bin/dd"
    spy.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nexec {shutil.which("dd")} "$@"\n')
    spy.chmod(0o755)
    host.platform = replace(Sandbox(), path=f"{spy.parent}:{Sandbox().path}")
    with host.lock() as token:
        write(host, A, old, token)
        update(host, old, new, packs.pack(old, new, 512, moves), token)
    device = f"if={host.slots.slot(A).device} "
    asked = [line.removeprefix(device) for line in (tmp_path / "asked").read_text().splitlines()]
    copied = [line for line in asked if line.startswith(("bs=512 skip=", "bs=65536 skip="))]
    lead = -start % 128
    assert copied == [
        f"bs=512 skip={start} count={lead}",
        f"bs=65536 skip={(start + lead) // 128} count={(long - lead) // 128}",
        f"bs=512 skip={end - (end % 128)} count={end % 128}",
        f"bs=512 skip=3 count={short}",
    ]


# Two images out of a few blocks: equal ones, moved ones, new ones, and lengths of every kind.
BLOCKS = st.lists(st.integers(0, 12), min_size=16, max_size=60)


def image_of(blocks: list[int], shift: int) -> images.Image:
    made = b"".join(hashlib.shake_128(b"%d" % block).digest(4096) for block in blocks)
    return images.of_bytes((bytes(shift) + made).ljust(HEAD_BYTES, b"x"), "squashfs")


@pytest.mark.parametrize("unit", [512, 1])
@settings(max_examples=6)
@given(old=BLOCKS, new=BLOCKS, shift=st.integers(0, 5), piece=st.sampled_from([512, 4096, 1536]))
def test_replaying_a_pack_of_any_two_images_gives_the_new_one(
    unit: int, old: list[int], new: list[int], shift: int, piece: int
) -> None:
    # An image that is shorter than a head and a block has nothing to be copied from.
    before, after = image_of(old, 0), image_of(new, shift * (1 if unit == 1 else 512))
    pack = packs.pack(before, after, unit, packs.moves_of(before.data, after.data, unit, piece))
    for shell in SHELLS:
        with tempfile.TemporaryDirectory() as folder:
            host = host_in(Path(folder), shell)
            with host.lock() as token:
                write(host, A, before, token)
                answer = replay(host, before, after, pack, token)
            assert answer.status == 0, (shell, answer)
            assert in_slot(host, B)[HEAD_BYTES : len(after.data)] == after.body, shell
            assert in_slot(host, B)[:HEAD_BYTES] == bytes(HEAD_BYTES)


@pytest.mark.parametrize("unit", [512, 1])
def test_an_image_that_is_its_head_alone_needs_no_move(host: Host, unit: int) -> None:
    old = images.of_bytes(bytes(range(256)) * 300, "uzip")
    new = images.of_bytes(bytes(range(256)) * 256, "uzip")
    with host.lock() as token:
        write(host, A, old, token)
        update(host, old, new, packs.pack(old, new, unit, ()), token)


OLD = image_of([1, 2, 3] * 10, 0)
NEW = image_of([3, 9, 2] * 10, 0)
MOVES = packs.moves_of(OLD.data, NEW.data, 512)
TABLE = packs.head(OLD, NEW, 512, 3)
REST = (len(NEW.data) - HEAD_BYTES) // 512
END = len(OLD.data) // 512


def with_size(image: images.Image, name: str) -> packs.Pack:
    """Return a pack that is right, but for the size of one image."""
    text = gzip.decompress(packs.pack(OLD, NEW, 512, MOVES).data)
    line = f"{name}={image.artefact.sha256} {len(image.data)}"
    assert f"{line}\n".encode() in text
    return packs.Pack(gzip.compress(text.replace(f"{line}\n".encode(), f"{line}0\n".encode())))


DAMAGED = {
    "no pack": packs.raw("something else\n", b""),
    "an empty pack": packs.raw("", b""),
    "a newer pack": packs.raw(TABLE.replace("pack 1", "pack 2"), b""),
    "no moves": packs.raw(TABLE, b""),
    "too few moves": packs.raw(TABLE + f"c 0 {REST - 1}\n", b""),
    "moves that make less": packs.raw(TABLE + f"c 0 {REST - 9}\nc 0 1\nc 0 1\n", b""),
    "moves that make more": packs.raw(TABLE + f"c 0 {REST}\nc 0 1\nc 0 1\n", b""),
    "a copy behind the end": packs.raw(TABLE + f"c {END} 1\nc 0 1\nc 0 {REST - 2}\n", b""),
    "a copy of nothing": packs.raw(TABLE + f"c 0 0\nc 0 1\nc 0 {REST - 1}\n", b""),
    "a negative number": packs.raw(TABLE + f"c -1 5\nc 0 1\nc 0 {REST - 6}\n", b""),
    "an octal number": packs.raw(TABLE + f"c 010 5\nc 0 1\nc 0 {REST - 6}\n", b""),
    "a huge number": packs.raw(TABLE + f"c 99999999999999999999 5\nc 0 1\nc 0 {REST - 6}\n", b""),
    "a command for a number": packs.raw(TABLE + "c $(touch${IFS}/tmp/x) 5\nc 0 1\nc 0 1\n", b""),
    "an unknown move": packs.raw(TABLE + f"x 0 1\nc 0 1\nc 0 {REST - 2}\n", b""),
    "another unit": packs.pack(OLD, NEW, 1024, (NEW.body,)),
    "a literal of two numbers": packs.raw(TABLE + f"l {REST - 2} 9\nc 0 1\nc 0 1\n", b""),
    "another old image": packs.pack(NEW, NEW, 512, MOVES),
    "another size of the old image": with_size(OLD, "old"),
    "another size of the new image": with_size(NEW, "new"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_pack_is_refused_before_the_first_write(host: Host, what: str) -> None:
    with host.lock() as token:
        write(host, A, OLD, token)
        stage(host, DAMAGED[what], token)
        host.do(Erase(B), token)
        before = in_slot(host, B)
        written = Path(host.slots.slot(B).device).stat().st_mtime_ns
        answer = host.do(Patch(B, NEW.artefact, DAMAGED[what].sha256, OLD.artefact.sha256), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError), answer
    assert answer.first("error").endswith("nothing was written")
    assert in_slot(host, B) == before
    assert Path(host.slots.slot(B).device).stat().st_mtime_ns == written
    assert not list(Path(host.slots.records).glob(".*"))


def test_a_number_that_a_shell_cannot_count_to_is_no_small_one(host: Host, shell: str) -> None:
    """To one that counts with 32 bits this is 0, but not to its dd."""
    host.shell = shell
    wrapped = packs.raw(TABLE + f"c {1 << 32} 5\nc 0 1\nc 0 {REST - 6}\n", b"")
    with host.lock() as token:
        write(host, A, OLD, token)
        answer = replay(host, OLD, NEW, wrapped, token)
    assert answer.status == 23, answer
    assert "outside the old image" in answer.first("error")


@pytest.mark.parametrize("what", ["literals that end", "literals that go on", "half a file"])
def test_a_pack_that_is_damaged_behind_its_moves_is_no_success(host: Host, what: str) -> None:
    good = packs.pack(OLD, NEW, 512, MOVES)
    text = gzip.decompress(good.data)
    bad = {
        "literals that end": packs.Pack(gzip.compress(text[:-512])),
        "literals that go on": packs.Pack(gzip.compress(text + b"x")),
        "half a file": packs.Pack(good.data[:-12]),
    }[what]
    with host.lock() as token:
        write(host, A, OLD, token)
        assert replay(host, OLD, NEW, bad, token).status == 21
    assert host.probe().status(B).state is SlotState.WRITING


def test_a_pack_that_was_damaged_where_it_lay_is_removed(host: Host) -> None:
    pack = packs.pack(OLD, NEW, 512, MOVES)
    with host.lock() as token:
        write(host, A, OLD, token)
        stage(host, pack, token)
        (file,) = (Path(host.slots.records) / "staging/cgi").iterdir()
        file.write_bytes(pack.data[:-1] + b"x")
        host.do(Erase(B), token)
        answer = host.do(Patch(B, NEW.artefact, pack.sha256, OLD.artefact.sha256), token)
        assert isinstance(answers.error_of(answer, "www1"), VerificationError)
        assert not file.exists()
        again = host.do(Patch(B, NEW.artefact, pack.sha256, OLD.artefact.sha256), token)
    assert again.status == 20


def test_an_old_slot_that_holds_something_else_is_refused(host: Host) -> None:
    pack = packs.pack(OLD, NEW, 512, MOVES)
    with host.lock() as token:
        write(host, A, NEW, token)
        assert replay(host, OLD, NEW, pack, token).status == 20
        write(host, A, OLD, token)
        with Path(host.slots.slot(A).device).open("r+b") as device:
            device.write(b"tampered")
        answer = replay(host, OLD, NEW, pack, token)
    assert answer.status == 20
    assert "no longer holds what its record says" in answer.first("error")


def test_a_slot_that_was_not_erased_or_is_active_is_not_replayed_into(host: Host) -> None:
    pack = packs.pack(OLD, NEW, 512, MOVES)
    replayed = Patch(B, NEW.artefact, pack.sha256, OLD.artefact.sha256)
    with host.lock() as token:
        write(host, A, OLD, token)
        write(host, B, OLD, token)
        assert stage(host, pack, token).status == 0
        before = in_slot(host, B)
        answer = host.do(replayed, token)
        assert (answer.status, "erase it first" in answer.first("error")) == (20, True), answer
        host.do(Erase(B), token)
        Path(host.slots.link).symlink_to(host.slots.target(B))
        erased = in_slot(host, B)
        answer = host.do(replayed, token)
    assert (answer.status, "is active" in answer.first("error")) == (20, True), answer
    assert in_slot(host, B) == erased == bytes(HEAD_BYTES) + before[HEAD_BYTES:]


def test_a_pack_cut_at_ten_places_goes_on_and_is_not_sent_again(host: Host) -> None:
    chance = random.Random(4)  # noqa: S311 - places of a test
    pack = packs.Pack(chance.randbytes(200_000))
    cuts = sorted(chance.sample(range(1, pack.size_bytes), 10))
    with host.lock() as token:
        at = 0
        for cut in cuts:
            call = calls.stage_call(token, pack.sha256, pack.size_bytes, at)
            assert host.run(call, pack.data[at:cut]).status == 21
            assert host.probe().staged == ((pack.sha256, cut),)
            at = cut
        assert stage(host, pack, token, at).status == 0
        assert host.probe().staged == ((pack.sha256, pack.size_bytes),)
        assert stage(host, pack, token, 17).status == 0  # it is there: nothing is taken
        other = packs.Pack(b"another")
        assert stage(host, other, token).status == 0
    (left,) = (Path(host.slots.records) / "staging/cgi").iterdir()
    assert left.name == f"{other.sha256}.pack"


@pytest.mark.parametrize("believed", [0, 1000])
def test_what_is_there_beyond_what_was_known_is_not_gone_on_from(host: Host, believed: int) -> None:
    """A mirror may have begun the pack since the probe, and lied."""
    pack = packs.Pack(random.Random(6).randbytes(200_000))  # noqa: S311 - bytes of a test
    with host.lock() as token:
        call = calls.stage_call(token, pack.sha256, pack.size_bytes, 0)
        assert host.run(call, pack.data[:1000]).status == 21
        (partial,) = (Path(host.slots.records) / "staging/cgi").iterdir()
        with partial.open("ab") as file:
            file.write(bytes(5000))
        assert stage(host, pack, token, 7000).status == 20, "so much is not there"
        assert stage(host, pack, token, believed).status == 0
    assert partial.with_suffix(".pack").read_bytes() == pack.data


def test_what_came_is_removed_if_its_digest_is_wrong_or_there_is_no_room(host: Host) -> None:
    pack = packs.Pack(bytes(300_000))
    staging = Path(host.slots.records) / "staging/cgi"
    with host.lock() as token:
        call = calls.stage_call(token, pack.sha256, pack.size_bytes, 0)
        wrong = host.run(call, b"x" * pack.size_bytes)
        assert isinstance(answers.error_of(wrong, "www1"), VerificationError)
        assert list(staging.iterdir()) == []
        full = host.run(f"trap '' XFSZ; ulimit -f 100\n{call}", pack.data)
    assert full.status == 21
    assert full.first("error").startswith("cannot keep the pack in")
    assert "staging" in full.first("hint")
    assert list(staging.iterdir()) == []


def test_a_cut_fill_goes_on_behind_the_last_block_that_came(host: Host) -> None:
    new = images.of_bytes(random.Random(2).randbytes(1_300_000), "uzip")  # noqa: S311
    small = "SEGMENT_BYTES=262144\n"
    with host.lock() as token:
        host.do(Erase(B), token)
        call = calls.fill_call(token, B, new.artefact)
        assert host.run(small + call, new.body[:700_000]).status == 21
        offset = HEAD_BYTES + 700_000 // HEAD_BYTES * HEAD_BYTES
        assert host.probe().status(B).written == Written(new.artefact.sha256, offset)
        host.do(Erase(B), token)
        assert host.probe().status(B).written == Written(new.artefact.sha256, offset)
        call = calls.fill_call(token, B, new.artefact, offset)
        assert host.run(small + call, new.data[offset:]).status == 0
        other = calls.fill_call(token, B, OLD.artefact, offset)
        assert host.run(other, OLD.data[offset:]).status == 20
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0
        host.do(Erase(B), token)
        assert host.probe().status(B).written is None


def test_an_image_cut_at_ten_places_goes_on_each_time(host: Host, shell: str) -> None:
    host.shell = shell
    chance = random.Random(5)  # noqa: S311 - places of a test
    new = images.of_bytes(chance.randbytes(1_300_000), "uzip")
    small = "SEGMENT_BYTES=262144\n"
    at = HEAD_BYTES
    with host.lock() as token:
        for cut in sorted(chance.sample(range(HEAD_BYTES, len(new.data)), 10)):
            host.do(Erase(B), token)
            payload = new.data[at : max(at, cut)]
            call = calls.fill_call(token, B, new.artefact, at)
            assert host.run(small + call, payload).status == 21
            written = host.probe().status(B).written
            # All whole blocks that came are there, and nothing that did not.
            came = at + len(payload) // HEAD_BYTES * HEAD_BYTES
            assert (written.size_bytes if written else HEAD_BYTES) == came
            at = came
        host.do(Erase(B), token)
        call = calls.fill_call(token, B, new.artefact, at)
        assert host.run(small + call, new.data[at:]).status == 0
        assert host.do(Seal(B, new.artefact, "r"), token, new.head).status == 0
        assert host.do(images.proof(B, new.artefact), token).status == 0


def test_a_proof_is_of_the_mount_that_came_after_it_and_of_no_other(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        assert host.probe().status(A).proven
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.probe().status(A).proven
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert host.probe().status(A).proven
        assert host.do(Unmount(A), token).status == 0
        assert not host.probe().status(A).proven
        assert host.do(Mount(A, "squashfs"), token).status == 0
        assert not host.probe().status(A).proven
