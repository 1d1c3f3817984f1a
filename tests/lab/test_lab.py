"""The lab itself: it comes up whole, several fit side by side, and nothing of one stays behind."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.frontends import PROJECT, Lab, LabSettings, leftovers, start, stop, stop_lab, why_not
from tests.lab.processes import until

pytestmark = pytest.mark.lab


def test_a_frontend_is_a_host_of_its_own(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(2)

    for name, frontend in lab.frontends.items():
        assert lab.on(name, "hostname") == name
        assert lab.on(name, "cat /proc/1/comm") == "dash"
        assert "eth0" in lab.on(name, "ls /sys/class/net")
        assert lab.on(name, "test -b /dev/disk/by-partlabel/cgiA && echo block") == "block"
        assert lab.fetch(name, "/alive") == (200, "alive\n")
        assert lab.on(name, f"ip address show | grep -c {frontend.address}/24") == "1"
    ids = {lab.on(name, "cat /proc/sys/kernel/random/boot_id") for name in lab.frontends}
    assert len(ids) == 2
    assert not Path("/webroot").exists()


def test_root_logs_in_with_the_labs_key_and_no_other(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(1)
    config = ["-F", str(lab.folder / "ssh_config"), "-o", "BatchMode=yes"]

    came = subprocess.run(
        lab.in_admin_box("ssh", *config, "www1", "hostname"), capture_output=True, check=False
    )
    other = lab.folder / "www1/files/etc/ssh/lab_host_key"
    turned_away = subprocess.run(
        lab.in_admin_box(
            "ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-i", str(other), "root@10.77.0.11", "hostname",
        ), capture_output=True, check=False,
    )  # fmt: skip

    assert (came.returncode, came.stdout) == (0, b"www1\n")
    assert turned_away.returncode == 255


def test_a_reboot_keeps_the_state_and_loses_the_rest(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(1)
    lab.on("www1", "ln -s cgi1 /webroot/cgi; echo kept >/var/db/note; echo lost >/etc/note; sync")
    before = lab.on("www1", "cat /proc/sys/kernel/random/boot_id")

    lab.reboot("www1")

    assert lab.on("www1", "cat /var/db/note; readlink /webroot/cgi") == "kept\ncgi1"
    assert lab.on("www1", "test ! -e /etc/note && echo gone") == "gone"
    assert lab.on("www1", "cat /proc/sys/kernel/random/boot_id") != before


def test_an_orphan_is_reaped_at_once(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(1)

    left = lab.on("www1", "sh -c 'sleep 0.1 & echo $!' >/run/orphan; sleep 0.3; cat /run/orphan")

    assert lab.on("www1", f"test ! -e /proc/{left} && echo gone") == "gone"


def test_an_ended_lab_leaves_nothing_and_may_be_ended_again(
    tmp_path: Path, lab_prefixes: Iterator[str]
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    settings = LabSettings(tmp_path / "lab", next(lab_prefixes), frontends=2, slot_bytes=1 << 24)
    lab = start(settings)
    pids = [frontend.pid for frontend in lab.frontends.values()]
    assert leftovers(settings.prefix)

    stop_lab(lab)
    stop(settings)

    assert leftovers(settings.prefix) == []
    assert not settings.folder.exists()
    until("they end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), within_s=5)


def test_a_lab_that_was_killed_is_ended_by_the_next_start(
    tmp_path: Path, lab_prefixes: Iterator[str]
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    settings = LabSettings(tmp_path / "lab", next(lab_prefixes), frontends=1, slot_bytes=1 << 24)
    first = start(settings)
    (settings.folder / "state.json").unlink()

    second = start(settings)

    assert first.frontends["www1"].launcher is not None
    assert first.frontends["www1"].launcher.wait(timeout=10) != 0
    assert second.on("www1", "hostname") == "www1"
    stop_lab(second)


def test_two_labs_run_side_by_side(make_lab: Callable[..., Lab]) -> None:
    one, other = make_lab(1), make_lab(1)

    one.on("www1", "echo one >/var/db/note")
    other.on("www1", "echo other >/var/db/note")

    assert one.frontends["www1"].address == other.frontends["www1"].address
    assert one.on("www1", "cat /var/db/note") == "one"
    assert other.fetch("www1", "/alive") == (200, "alive\n")


def test_an_ordinary_user_is_told_that_the_lab_needs_root() -> None:
    if why_not():
        pytest.skip(why_not())
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         sys.executable, "-m", "tests.lab", "up", "--folder", "/tmp/flipslot-nowhere"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 126 or "ermission" in done.stderr:
        pytest.skip("this Python may not be run by another user")

    assert done.returncode == 2
    assert done.stderr == (
        "lab: the lab needs root: it makes namespaces, mounts and loop devices\n"
    )
