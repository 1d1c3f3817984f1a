"""A FreeBSD host is set up, and boots."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from slots import hooks, scripts
from slots.hooks import File
from slots.slot import active
from tests.slots.freebsd.frontend import A, B, World, serve, uzip
from tests.slots.hosts import Host
from tests.standins import freebsd as standins


def installed(host: Host, folder: Path) -> tuple[File, File]:
    """Install slotctl and the rc.d script as `deploy provision` does, below a folder of ours."""
    path = f"{folder}/libexec/slotctl"
    script = hooks.rc_script(path, (host.slots,))
    # The one absolute path of it that is not ours: played by a stand-in.
    script = script.replace("/etc/rc.subr", f"{Path(standins.__file__).parent}/rc.subr")
    files = (
        File(path, 0o755, scripts.slotctl(host.platform, (host.slots,))),
        File(f"{folder}/rc.d/flipslot", 0o555, script),
    )
    paths = tuple(one.path for one in files)
    folders = tuple(one.mount_point for one in host.slots.slots)
    asked = hooks.installed_call(host.platform, folders, paths)
    found = hooks.found(host.run(asked), 2, 2)
    assert (found.system, found.enabled, found.files) == ("rc.d", False, ("missing", "missing"))
    with host.lock() as token:
        for one in folders:
            assert host.run(hooks.folder_call(host.platform, token, one)).status == 0
        for file in files:
            done = host.run(hooks.install_call(host.platform, token, file), file.data)
            assert done.status == 0, done
        done = host.run(hooks.enable_call(host.platform, token))
        assert done.status == 0, done
    found = hooks.found(host.run(asked), 2, 2)
    assert found.enabled
    assert found.files == tuple(f"{one.sha256} {one.mode:o}" for one in files)
    assert set(found.folders) == {hooks.PathState.FOLDER}
    return files


def test_provisioning_installs_reads_back_and_has_the_boot_call_slotctl(
    host: Host, world: World, tmp_path: Path
) -> None:
    installed(host, tmp_path / "usr")
    assert (world.folder / "etc/rc.conf").read_text() == 'flipslot_enable="YES"\n'
    assert (world.folder / "boot/loader.conf").read_text() == 'geom_uzip_load="YES"\n'
    for changed, made in (("flipslot_enable", "/etc/rc.conf"), ("geom_uzip_load", "/boot")):
        at = world.log.index(["sysrc", f"{changed}=YES"])
        assert ["fsync", made] in world.log[at:]
    script = f"{tmp_path}/usr/rc.d/flipslot"
    renamed = world.log.index(["rename", script])
    assert ["fsync", f"{tmp_path}/usr/rc.d/.flipslot.partial"] in world.log[:renamed]
    assert ["fsync", f"{tmp_path}/usr/rc.d"] in world.log[renamed:]


def test_a_file_that_comes_cut_changes_nothing(host: Host, tmp_path: Path) -> None:
    slotctl, _ = installed(host, tmp_path / "usr")
    new = replace(slotctl, text="#!/bin/sh\nexit 0\n")
    with host.lock() as token:
        answer = host.run(hooks.install_call(host.platform, token, new), new.data[:-1])
    assert answer.status == 23, answer
    assert Path(slotctl.path).read_text() == slotctl.text
    assert not list(Path(slotctl.path).parent.glob(".*"))


def test_after_a_boot_the_hook_mounts_and_serves_what_the_link_names(
    host: Host, world: World, tmp_path: Path
) -> None:
    _, script = installed(host, tmp_path / "usr")
    with (world.folder / "etc/rc.conf").open("a") as conf:
        conf.write('svcj_all_enable="YES"\n')  # FreeBSD 15: in a jail nothing can be mounted
    with host.lock() as token:
        serve(host, A, uzip(1), token)
        serve(host, B, uzip(2), token)

    def rc(word: str) -> "subprocess.CompletedProcess[bytes]":
        environment = {**host.environment, "PATH": host.platform.path}
        return subprocess.run(
            ("/bin/sh", script.path, word), env=environment, capture_output=True, check=False
        )

    stopped = rc("stop")
    assert stopped.returncode == 0, stopped
    world.sysctl("kern.boottime", "{ sec = 1700009000, usec = 1 } Tue Nov 14 22:13:20 2023")
    world.change(mounts=[])
    for status in host.probe().statuses:
        shutil.rmtree(status.slot.mount_point)
        Path(status.slot.mount_point).mkdir()
    started = rc("start")
    assert started.returncode == 0, started
    state = host.probe()
    assert active(host.slots, state) is B
    assert [one.mounted for one in state.statuses] == [True, True]
