"""Mirrors that are sticks, or none at all."""

import shutil
from pathlib import Path

import pytest

from slots.actions import Erase
from slots.sandbox import Sandbox
from tests.slots.downloads.frontend import (
    IMAGE,
    PACK,
    SLOT_BYTES,
    B,
    fetch,
    proven,
    pull,
    staged,
)
from tests.slots.hosts import Host, sandbox_slots
from tests.slots.mirrors import Mirror, closed_port


def test_if_all_mirrors_fail_each_says_why_and_nothing_is_kept(host: Host, server: Mirror) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/{PACK.sha256}"
    urls = (dead, server.url("wrong", PACK.sha256), f"file:/no/such/{PACK.sha256}")
    with host.lock() as token:
        answer = fetch(host, token, *urls)
        host.do(Erase(B), token)
        image = pull(host, token, dead, server.url("wrong", IMAGE.artefact.sha256))
    assert (answer.status, image.status) == (21, 21)
    assert len(answer.all("failed_mirror")) == 3
    assert "connect" in answer.all("failed_mirror")[0].lower()
    assert "digest" in answer.all("failed_mirror")[1]
    assert "there is no file" in answer.all("failed_mirror")[2]
    assert not staged(host).exists()
    assert "digest" in image.all("failed_mirror")[1]


def test_a_stick_is_a_mirror_too(host: Host, tmp_path: Path) -> None:
    stick = tmp_path / "usb stick"
    stick.mkdir()
    (stick / PACK.sha256).write_bytes(PACK.data)
    (stick / IMAGE.artefact.sha256).write_bytes(IMAGE.data)
    with host.lock() as token:
        assert fetch(host, token, f"file:{stick}/{PACK.sha256}").status == 0
        host.do(Erase(B), token)
        answer = pull(host, token, f"file:{stick}/{IMAGE.artefact.sha256}")
        assert answer.status == 0, answer
    assert staged(host).read_bytes() == PACK.data
    written = Path(host.slots.slot(B).device).read_bytes()[: len(IMAGE.data)]
    assert written == bytes(65_536) + IMAGE.body


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("nothing there", "there is no file"),
        ("a folder", "there is no file"),
        ("short", " bytes came of "),
        ("wrong", "wrong bytes"),
        ("longer", "more than "),
    ],
)
def test_a_stick_that_rotted_does_not_stop_the_next_mirror(
    tmp_path: Path, server: Mirror, fault: str, why: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    host = Host(Sandbox(), sandbox_slots(tmp_path, SLOT_BYTES, records="records of it"))
    for data, name in ((PACK.data, PACK.sha256), (IMAGE.data, IMAGE.artefact.sha256)):
        spoilt = {
            "short": data[:-1],
            "wrong": data[:-1] + bytes([data[-1] ^ 1]),
            "longer": data + b"x",
        }
        if fault in spoilt:
            (tmp_path / name).write_bytes(spoilt[fault])
        elif fault == "a folder":
            (tmp_path / name).mkdir()
    with host.lock() as token:
        urls = (f"file:{tmp_path}/{PACK.sha256}", server.url("good", PACK.sha256))
        answer = fetch(host, token, *urls)
        assert answer.status == 0, answer
        assert staged(host).read_bytes() == PACK.data
        assert why in answer.first("failed_mirror"), answer
        host.do(Erase(B), token)
        names = (f"file:{tmp_path}", server.folder("good"))
        answer = pull(host, token, *(f"{name}/{IMAGE.artefact.sha256}" for name in names))
        assert answer.status == 0, answer
        assert answer.first("failed_mirror").startswith(f"file:{tmp_path}/"), answer
        assert proven(host, token)


def test_a_host_that_has_nothing_to_download_with_says_so(host: Host, server: Mirror) -> None:
    for name in ("curl", "wget"):
        (Path(host.platform.path) / name).unlink(missing_ok=True)
    with host.lock() as token:
        answer = fetch(host, token, server.url("good", PACK.sha256))
    assert "none of curl, wget, fetch" in answer.first("failed_mirror")
