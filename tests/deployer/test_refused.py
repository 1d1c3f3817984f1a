"""Bad input over SSH: one clear line, its exit code, and nothing changed on any frontend."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployer.conftest import AdminBox, Ran


@pytest.fixture(scope="module")
def box(admin_box: AdminBox) -> AdminBox:
    """Both frontends serve release 1 from slot A; release 2 is the newest."""
    admin_box.release("1")
    ran = admin_box.deploy("--slot", "A", "--yes")
    assert ran.status == 0, ran
    admin_box.release("2")
    return admin_box


@pytest.fixture(autouse=True)
def nothing_changes(box: AdminBox) -> Iterator[None]:
    before = box.on_disk()
    yield
    assert box.on_disk() == before


def said(ran: Ran) -> str:
    """Return what a command told the admin, without its events."""
    lines = [line for line in ran.stderr.splitlines() if not line.startswith('{"event"')]
    assert "Traceback" not in ran.stderr
    return "\n".join([*lines, ran.stdout])


def test_an_unknown_host_key_is_named_with_the_next_step(box: AdminBox) -> None:
    (box.folder / "empty_known_hosts").touch()
    inventory = box.edited('known_hosts"', 'known_hosts_none"')
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 6
    assert "the host key of [127.0.0.11]:" in said(ran)
    assert "is unknown (ssh-ed25519 SHA256:" in said(ran)
    assert "ssh-keyscan -p " in said(ran)


def test_a_changed_host_key_is_named_with_file_and_line(box: AdminBox) -> None:
    lines = (box.folder / "keys/known_hosts").read_text().splitlines()
    swapped = [
        " ".join([a.split()[0], *b.split()[1:]]) for a, b in zip(lines, lines[::-1], strict=True)
    ]
    (box.folder / "keys/swapped").write_text("# a comment\n" + "\n".join(swapped) + "\n")
    inventory = box.edited('/known_hosts"', '/swapped"')
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www2")
    assert ran.status == 6
    assert "has changed" in said(ran)
    assert f"{box.folder}/keys/swapped:3" in said(ran)
    assert "1 host shows another host key: not touched" in said(ran)


def test_a_wrong_key_is_named(box: AdminBox) -> None:
    other = box.folder / "keys/other"
    if not other.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    inventory = box.edited("keys/id_ed25519", "keys/other")
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 6
    assert f"does not let {_user(box)} in: tried {other}" in said(ran)


def test_a_key_that_is_missing_is_named(box: AdminBox) -> None:
    inventory = box.edited("keys/id_ed25519", "keys/absent")
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 6
    assert "keys/absent (no such file)" in said(ran)


def test_a_host_that_is_down_is_left_out_and_reported(box: AdminBox) -> None:
    port = next(one.ssh_port for one in box.fleet.frontends)
    inventory = box.edited(f"port = {port}\n", "port = 1\n")
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 6
    assert "127.0.0.11 port 1 refused the connection" in said(ran)


def test_a_host_name_that_does_not_exist_is_named(box: AdminBox) -> None:
    inventory = box.edited('address = "127.0.0.11"', 'address = "no-such-host.invalid"')
    ran = box.deploy("--dry-run", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 6
    assert "the name no-such-host.invalid is unknown" in said(ran)


def test_a_missing_device_is_refused_on_all_hosts(box: AdminBox) -> None:
    inventory = box.edited(
        'platform = "sandbox"\n',
        'platform = "sandbox"\n',
    )
    text = (box.folder / inventory).read_text()
    text += '\n[hosts.www2.slots.cgi]\nA = "/nowhere/A"\nB = "/nowhere/B"\n'
    (box.folder / inventory).write_text(text)
    ran = box.deploy("--yes", "--inventory", inventory)
    assert ran.status == 2
    assert "www2: slot B: there is no /nowhere/B" in said(ran)
    assert "nothing is touched on any host; without that www1 would have been" in said(ran)
    rows = box.deploy("status", "--inventory", inventory, "--hosts", "www2").stdout.splitlines()
    assert [row.split()[3] for row in rows[1:3]] == ["missing", "missing"]


def test_a_slot_that_is_too_small_is_refused(box: AdminBox) -> None:
    small = box.folder / "small"
    small.write_bytes(bytes(128 << 10))
    inventory = box.edited("/disk/cgiB", "/../../small")
    text = (
        (box.folder / inventory)
        .read_text()
        .replace(f"{box.folder}/frontends/{{name}}/../../small", str(small))
    )
    (box.folder / inventory).write_text(text)
    ran = box.deploy("--yes", "--inventory", inventory, "--hosts", "www1")
    assert ran.status == 2
    assert "slot B is too small: 0.1 MB for the 0.3 MB of cgi-2 (squashfs)" in said(ran)


def test_no_mountable_artefact_is_refused_with_what_the_host_can_mount(box: AdminBox) -> None:
    folder = box.folder / "erofs-only"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(box.folder / "images/out/cgi-2", folder)
    manifest = json.loads((folder / "release.json").read_text())
    manifest["artefacts"][0]["format"] = "erofs"
    (folder / "release.json").write_text(json.dumps(manifest))
    ran = box.deploy("--yes", "--image", "erofs-only", "--hosts", "www1")
    assert ran.status == 2
    assert "cgi-2 has no artefact that the host can mount: it is erofs, the host mounts" in said(
        ran
    )
    assert "squashfs" in said(ran)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "head"])
def test_an_artefact_that_is_not_what_its_release_says_is_refused(
    box: AdminBox, damage: str
) -> None:
    folder = box.folder / f"damaged-{damage}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(box.folder / "images/out/cgi-2", folder)
    image = folder / "cgi.squashfs"
    data = bytearray(image.read_bytes())
    data[1000 if damage == "head" else 100_000] ^= 1
    image.write_bytes(data[: -4096 if damage == "cut" else None])
    if damage == "gone":
        image.unlink()
    ran = box.deploy("--yes", "--image", folder.name)
    assert ran.status == 8
    assert str(Path(folder.name) / "cgi.squashfs") in said(ran)
    assert len([line for line in ran.stderr.splitlines() if "cgi.squashfs" in line]) == 1


def test_the_active_slot_is_refused_for_another_image(box: AdminBox) -> None:
    ran = box.deploy("--slot", "A", "--yes")
    assert ran.status == 2
    assert "www1 www2: slot A is active and holds cgi-1" in said(ran)
    assert "deploy to slot B, or roll back first" in said(ran)


def test_the_active_slot_with_that_very_image_is_nothing_to_do(box: AdminBox) -> None:
    ran = box.deploy("--slot", "a", "--image", "cgi-1")
    assert ran.status == 0
    assert "slot A serves cgi-1 already" in said(ran)


def test_a_rollback_to_an_empty_slot_is_refused(box: AdminBox) -> None:
    ran = box.deploy("rollback", "--yes")
    assert ran.status == 2
    assert "there is nothing to roll back to: slot B is empty" in said(ran)


def test_without_a_terminal_and_without_yes_nothing_is_begun(box: AdminBox) -> None:
    ran = box.deploy()
    assert ran.status == 2
    assert "no terminal" in said(ran)
    assert "add --yes" in said(ran)


def test_a_dry_run_and_a_plan_change_nothing(box: AdminBox) -> None:
    assert box.deploy("--dry-run").status == 0
    ran = box.deploy("plan", "--check", "-o", "plan.json")
    assert ran.status == 10
    document = json.loads((box.folder / "plan.json").read_text())
    assert document["schema"] == "flipslot.plan/1"
    assert {host["plan"]["target"] for host in document["hosts"]} == {"B"}


def test_wrong_fields_of_an_inventory_are_all_named_at_once(box: AdminBox) -> None:
    inventory = box.edited("records =", "recrods =")
    text = (box.folder / inventory).read_text().replace("port = ", "prot = ", 1)
    (box.folder / inventory).write_text(text)
    ran = box.deploy("--yes", "--inventory", inventory)
    assert ran.status == 2
    assert "sets.cgi.recrods is unknown (did you mean records?)" in said(ran)
    assert "hosts.www1.prot is unknown (did you mean port?)" in said(ran)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hosts", "wwww1"), "no host matches wwww1 (did you mean www1?)"),
        (("--hosts", "nope"), "it has www1, www2"),
        (("--hosts", ""), "empty argument behind --hosts"),
        (("--hosts", "www1,"), "--hosts 'www1,' has an empty word"),
        (("status", "--hosts", ""), "empty argument behind --hosts"),
        (("--image", ""), "empty argument behind --image"),
        (("--set", ""), "empty argument behind --set"),
        (("--inventory", ""), "empty argument behind --inventory"),
        (("--inventory", "."), "is a folder"),
        (("plan", "-o", ""), "empty argument behind -o"),
        (("pack", "cgi-1", "cgi-1", "--format="), "empty argument behind --format"),
        (("pack", "", "cgi-1"), "empty argument behind pack"),
        (("--hosts", "@canary"), "no host matches @canary"),
        (("--hosts", "www*", "--hosts", "!www?"), "leave no host"),
        (("--set", "php"), "there is no set php"),
        (("--image", "cgi-9"), "there is no image or release cgi-9"),
        (("--inventory", "absent.toml"), "there is no inventory absent.toml"),
        (("--slot", "C"), "--slot C: not one of A, B, auto"),
        (("--frobnicate",), "No such option: --frobnicate"),
        (("--hosts", "www1", "status"), "--hosts stands before status"),
    ],
)
def test_wrong_arguments_are_named(box: AdminBox, arguments: tuple[str, ...], message: str) -> None:
    ran = box.deploy(*arguments)
    assert ran.status == 2, ran
    assert message in said(ran)


def test_an_error_is_also_json_if_asked_for(box: AdminBox) -> None:
    inventory = box.edited("records =", "recrods =")
    text = (box.folder / inventory).read_text().replace("port = ", "prot = ", 1)
    (box.folder / inventory).write_text(text)
    ran = box.deploy("status", "--json", "--inventory", inventory)
    document = json.loads(ran.stdout)
    assert (document["schema"], document["exit_code"]) == ("flipslot.error/1", 2)
    assert len(document["faults"]) == 2
    assert "recrods is unknown" in document["message"]
    assert json.loads(box.deploy("--frobnicate", "--json").stdout)["error"] == "ConfigError"


def test_looking_writes_no_line_for_each_step(box: AdminBox) -> None:
    assert box.deploy("status").stderr == ""
    assert box.deploy("plan").stderr == ""
    inventory = box.edited('address = "127.0.0.11"', 'address = "no-such-host.invalid"')
    ran = box.deploy("--yes", "--quiet", "--hosts", "www1", "--inventory", inventory)
    assert (ran.status, ran.stderr) == (6, "")


def test_status_names_the_host_on_every_row_of_a_pipe(box: AdminBox) -> None:
    lines = box.deploy("status").stdout.splitlines()
    rows = [line.split() for line in lines[1:] if line.startswith("www1")]
    assert [row[:4] for row in rows[:2]] == [
        ["www1", "A", "active", "ready"],
        ["www1", "B", "-", "empty"],
    ]
    assert "www1 www2: no rollback: there is nothing to roll back to: slot B is empty" in lines


def _user(box: AdminBox) -> str:
    return box.inventory.read_text().split('user = "')[1].split('"')[0]


@pytest.mark.parametrize("damage", ["head", "end", "cut"])
def test_a_release_that_is_not_as_described_is_named_before_anything_is_made_of_it(
    box: AdminBox, damage: str
) -> None:
    """A pack is made meanwhile, and may stumble over the same."""
    image = box.folder / "images/out/cgi-2/cgi.squashfs"
    data = image.read_bytes()
    try:
        with image.open("r+b") as file:
            if damage == "cut":
                file.truncate(4096)
            else:
                file.seek(3 if damage == "head" else -3, 0 if damage == "head" else 2)
                file.write(b"\x5a")
        ran = box.deploy("--yes", "--image", "cgi-2")
    finally:
        image.write_bytes(data)
    told = [line for line in said(ran).splitlines() if "its release says" in line]
    assert ran.status == 8, ran
    assert len(told) == 1, ran
    assert "cgi.squashfs" in told[0]
