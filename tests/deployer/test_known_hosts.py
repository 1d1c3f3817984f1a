"""known_hosts: written down, changed, revoked or unknown."""

import subprocess
from pathlib import Path

import pytest

from deployer.known_hosts import (
    Changed,
    Judgement,
    Revoked,
    Trusted,
    Unknown,
    fingerprint,
    host_id,
    judge,
    key_types,
    parse,
)

KEY, OTHER = "AAAAC3NzaC1lZDI1NTE5AAAA", "AAAAC3NzaC1lZDI1NTE5BBBB"


def judged(text: str, host: str = "www1", key: str = KEY) -> Judgement:
    return judge(list(parse(text.splitlines(), "known")), host, "ssh-ed25519", key)


@pytest.mark.parametrize(
    ("text", "judgement"),
    [
        (f"www1 ssh-ed25519 {KEY}", Trusted()),
        (f"www1,10.0.0.1 ssh-ed25519 {KEY} comment", Trusted()),
        (f"*.example,www? ssh-ed25519 {KEY}", Trusted()),
        (f"WWW1 ssh-ed25519 {KEY}", Trusted()),
        (f"www*,!www1 ssh-ed25519 {KEY}", Unknown()),
        (f"[www1]:2222 ssh-ed25519 {KEY}", Unknown()),
        ("", Unknown()),
        ("# www1\n\nwww1", Unknown()),
        (f"@cert-authority www1 ssh-ed25519 {KEY}", Unknown()),
        (f"www1 ssh-ed25519 {OTHER}", Changed("known:1")),
        (f"# first\nwww1 ssh-rsa {OTHER}", Changed("known:2")),
        (f"www1 ssh-rsa {OTHER}\nwww1 ssh-ed25519 {OTHER}", Changed("known:2")),
        (f"www1 ssh-ed25519 {OTHER}\nwww1 ssh-ed25519 {KEY}", Trusted()),
        (f"www1 ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}", Revoked("known:2")),
        ("|1|broken ssh-ed25519 x", Unknown()),
    ],
)
def test_a_key_is_held_against_what_is_written_down(text: str, judgement: Judgement) -> None:
    assert judged(text) == judgement


def test_another_port_is_another_host() -> None:
    assert host_id("WWW1", 22) == "www1"
    assert judged(f"[www1]:2222 ssh-ed25519 {KEY}", host_id("www1", 2222)) == Trusted()
    assert judged(f"[2001:db8::1]:22 ssh-ed25519 {KEY}", "2001:db8::1") == Unknown()


def test_hashed_names_are_understood_as_ssh_keygen_writes_them(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[www1]:2222 ssh-ed25519 {KEY}\n")
    try:
        subprocess.run(
            ["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no ssh-keygen on this machine")
    text = known.read_text()
    assert "www1" not in text
    assert judged(text, "[www1]:2222") == Trusted()
    assert judged(text, "www1") == Unknown()


def test_the_types_that_are_written_down_are_asked_for_first() -> None:
    keys = list(parse([f"www1 ssh-rsa {KEY}", f"@revoked www1 ecdsa {KEY}"], "known"))
    assert key_types(keys, "www1") == ("ssh-rsa",)


def test_a_fingerprint_is_as_ssh_keygen_shows_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    except FileNotFoundError:
        pytest.skip("there is no ssh-keygen on this machine")
    shown = subprocess.check_output(["ssh-keygen", "-l", "-f", key], text=True)
    assert fingerprint((tmp_path / "key.pub").read_text().split()[1]) == shown.split()[1]
