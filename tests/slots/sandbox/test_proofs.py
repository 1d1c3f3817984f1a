"""How a slot of a sandbox is proven, and how long a proof holds."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from slots import answers
from slots.actions import Flip, Judge
from slots.errors import VerificationError
from slots.manifest import HEAD_BYTES
from slots.slot import Verdict
from tests.slots import images
from tests.slots.hosts import Host, write
from tests.slots.sandbox.frontend import A, B, damage, mounted_active


def test_a_damaged_slot_is_not_proven_and_says_what_it_holds_instead(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    art = image.artefact
    with host.lock() as token:
        write(host, A, image, token)
        damage(host.slots.slot(A).device, HEAD_BYTES + 77)
        answer = host.do(images.proof(A, art), token)
    assert isinstance(answers.error_of(answer, "www1"), VerificationError)
    data = Path(host.slots.slot(A).device).read_bytes()[: art.size_bytes]
    assert answer.first("actual") == hashlib.sha256(data).hexdigest()
    assert "slot A is damaged" in answer.first("error")
    assert answer.first("hint") == "deploy it again to slot A"
    status = host.probe().status(A)
    assert status.damaged
    assert not status.proven
    assert status.holds is not None
    assert status.proof is not None
    assert status.proof.sha256 == answer.first("actual")


@pytest.mark.parametrize("openssl", ["exit 1", "echo wrong usage"])
def test_a_slot_is_proven_with_an_openssl_that_does_not_work(
    host: Host, tmp_path: Path, openssl: str
) -> None:
    image = images.squashfs(tmp_path, "one")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/openssl"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n{openssl}\n')
    program.chmod(0o755)
    host.environment = {**host.environment, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    with host.lock() as token:
        write(host, A, image, token)
        assert host.do(images.proof(A, image.artefact), token).status == 0
    assert host.probe().status(A).proven
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["dgst -sha256 -r"] * len(asked) != []


def test_a_proof_notes_an_image_of_which_the_record_is_lost(host: Host, tmp_path: Path) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        before = host.probe().status(A)
        for record in Path(host.slots.records).glob("cgi.A.*"):
            record.unlink()
        assert host.probe().status(A).holds is None
        assert host.do(images.proof(A, image.artefact), token).status == 0
        assert host.probe().status(A).holds == before.holds
        assert host.probe().status(A).proven
        assert host.do(Judge(A, Verdict.GOOD), token).status == 0


def test_a_flip_drops_the_verdict_of_its_slot_unless_the_link_stays(
    host: Host, tmp_path: Path
) -> None:
    with host.lock() as token:
        mounted_active(host, tmp_path, token)
        for name in (A, B):
            assert host.do(Judge(name, Verdict.GOOD), token).status == 0
        host.do(Flip(B), token)
        assert host.probe().status(B).verdict is Verdict.GOOD
        host.do(Flip(A), token)
        assert host.probe().status(A).verdict is None
        assert host.probe().status(B).verdict is Verdict.GOOD


def test_a_proof_of_another_boot_is_no_proof(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
    record = Path(host.slots.records) / "cgi.A.proof"
    boot_id = host.probe().boot_id
    record.write_text(record.read_text().replace(boot_id, "another-boot"))
    assert host.probe().status(A).proof is None


def test_a_proof_of_another_device_is_no_proof(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
    record = Path(host.slots.records) / "cgi.A.proof"
    lines = record.read_text().splitlines()
    (device,) = (line for line in lines if line.startswith("device="))
    record.write_text("\n".join([*lines, ""]).replace(device, "device=1:1"))
    assert host.probe().status(A).proof is None


def test_of_a_slot_that_could_not_be_read_again_no_proof_is_left(
    host: Host, tmp_path: Path
) -> None:
    image = images.squashfs(tmp_path, "one")
    with host.lock() as token:
        write(host, A, image, token)
        assert host.probe().status(A).proven
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/dd"
        fails = "bs=1048576*|*bs=4096*skip="
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *{fails}*) echo broken >&2; exit 1 ;; esac\n'
            f'exec {shutil.which("dd")} "$@"\n'
        )
        program.chmod(0o755)
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        host.environment = {**host.environment, "PATH": path}
        answer = host.do(images.proof(A, image.artefact), token)
    assert answer.status == 21, answer
    assert "cannot read" in answer.first("error")
    assert host.probe().status(A).proof is None


def test_records_of_another_head_say_nothing(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Judge(A, Verdict.GOOD), token)
    damage(host.slots.slot(A).device, 5000)
    status = host.probe().status(A)
    assert status.holds is None
    assert (status.proof, status.verdict) == (None, None)
