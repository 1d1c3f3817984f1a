"""A rollout whose bytes come from mirrors, from the command line to a sandbox frontend."""

import json
import os
import shutil

import pytest

from slots.manifest import HEAD_BYTES, Release
from tests.deployer.conftest import AdminBox
from tests.slots.mirrors import closed_port, mirror
from tests.slots.patches import noise


def test_hosts_pull_what_a_mirror_has_and_say_why_one_has_not(admin_box: AdminBox) -> None:
    if not any(shutil.which(name) for name in ("curl", "wget")):
        pytest.skip("needs curl or wget")
    folder = admin_box.release("1")
    artefact = Release.from_json((folder / "release.json").read_bytes()).artefacts[0]
    dead = f"http://127.0.0.1:{closed_port()}/slots"
    with mirror() as server:
        server.objects[artefact.sha256] = (folder / artefact.file).read_bytes()
        good = f"http://127.0.0.1:{server.port}/good"

        def deploy(*mirrors: str, more: str = "") -> tuple[int, str]:
            urls = ", ".join(f'"{url}"' for url in mirrors)
            table = f'[transfer]\nsource = "http"\nmirrors = [{urls}]\n{more}\n'
            text = table + admin_box.inventory.read_text()
            (admin_box.folder / "mirrors.toml").write_text(text)
            arguments = ("--yes", "--hosts", "www1", "--inventory", "mirrors.toml")
            ran = admin_box.deploy(*arguments, "--image", str(folder))
            return ran.status, ran.stdout + ran.stderr

        status, said = deploy(dead, f"{good[:-4]}wrong")
        assert status == 4, said
        assert "no mirror gave the image" in said
        assert dead in said
        assert admin_box.target() == ""
        status, said = deploy(dead, good, more='total_bandwidth = "50 MB/s"')
        assert status == 0, said
        assert f"the host pulls from {dead}, else from {good}" in said
        assert "total_bandwidth holds for what travels through ssh" in said
        assert f"from {good}/{artefact.sha256}" in said
        assert (admin_box.served(), admin_box.target() != "") == ("1", True)
        folder = admin_box.release("2")
        status, said = deploy(dead, more="fallback_to_ssh = true")
        assert status == 0, said
        assert "it travels through ssh" in said
        assert admin_box.served() == "2"
        before = admin_box.target()
        folder = admin_box.release("3")
        status, said = deploy(dead)
        assert status == 4, said
        assert "no mirror gave the image; slot A is as it was" in said
        assert admin_box.deploy("rollback", "--yes", "--hosts", "www1").status == 0
        assert (admin_box.served(), admin_box.target() != before) == ("1", True)


def test_a_second_run_pulls_only_what_a_cut_one_left(admin_box: AdminBox) -> None:
    if not any(shutil.which(name) for name in ("curl", "wget")):
        pytest.skip("needs curl or wget")
    folder = admin_box.release("cut", ballast=os.urandom(900_000))
    artefact = Release.from_json((folder / "release.json").read_bytes()).artefacts[0]
    size_bytes = artefact.size_bytes
    with mirror() as server:
        server.objects[artefact.sha256] = (folder / artefact.file).read_bytes()

        def deploy(mirror_folder: str) -> tuple[int, str]:
            url = server.folder(mirror_folder)
            text = f'[transfer]\nsource = "http"\nmirrors = "{url}"\n'
            text += admin_box.inventory.read_text()
            (admin_box.folder / "mirrors.toml").write_text(text)
            arguments = ("--yes", "--hosts", "www2", "--inventory", "mirrors.toml")
            ran = admin_box.deploy(*arguments, "--image", str(folder))
            return ran.status, ran.stdout + ran.stderr

        status, said = deploy("cut")
        assert status == 4, said
        had = size_bytes // 2 // HEAD_BYTES * HEAD_BYTES
        server.asked.clear()
        server.gave.clear()
        status, said = deploy("good")
        assert status == 0, said
        # Once for the head alone: whether the mirror has the image at all.
        assert server.asked == [("good", ""), ("good", f"bytes={had}-")]
        assert server.gave[-1] == size_bytes - had
        done = f'"step":"fill","done_bytes":{size_bytes - HEAD_BYTES},'
        assert done in said, said
        assert f"went on behind {had - HEAD_BYTES} bytes of a cut transfer" in said
        assert admin_box.served("www2") == "cut"


@pytest.mark.parametrize("fault", ["dead", "cut", "cut-wrong"])
def test_a_pack_that_no_mirror_gives_is_pushed_and_not_the_whole_image(
    admin_box: AdminBox, fault: str
) -> None:
    ballast = noise(11, 900_000)
    only = ("--yes", "--json", "--hosts", "www2")
    folder = admin_box.release(f"before-{fault}", ballast=ballast)
    assert admin_box.deploy("--image", str(folder), *only).status == 0
    folder = admin_box.release(f"after-{fault}", ballast=ballast + noise(12, 60_000))
    published = admin_box.deploy("publish", "--image", folder.name, "--to", f"mirror-{fault}")
    assert published.status == 0, published.stderr
    with mirror() as server:
        for one in (admin_box.folder / f"mirror-{fault}").iterdir():
            server.objects[one.name] = one.read_bytes()
        dead = f"http://127.0.0.1:{closed_port()}/slots"
        url = dead if fault == "dead" else server.folder(fault)
        table = f'[transfer]\nsource = "http"\nmirrors = "{url}"\nfallback_to_ssh = true\n'
        (admin_box.folder / "mirrors.toml").write_text(table + admin_box.inventory.read_text())
        ran = admin_box.deploy("--image", str(folder), *only, "--inventory", "mirrors.toml")
    assert ran.status == 0, ran.stderr
    assert "no mirror gave the pack" in ran.stderr
    assert "it travels through ssh" in ran.stderr
    result = json.loads(ran.stdout)
    (host,) = result["hosts"]
    assert host["plan"]["way"] == "pack"
    # As planned, but for what mirrors began: the head does not go ahead with a pull that may fail.
    begun = 0 if fault == "dead" else host["plan"]["pack"]["size_bytes"] // 2
    assert host["travelled_bytes"] == host["plan"]["sends_bytes"] + begun
    assert host["travelled_bytes"] < result["whole_bytes"] / 3
    assert admin_box.served("www2") == f"after-{fault}"
