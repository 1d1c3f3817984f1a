"""What FreeBSD mounts: slots behind geom_uzip, and what belongs inside them."""

from dataclasses import replace
from pathlib import Path

from slots.actions import Mount, Unmount
from slots.slot import HostFile, InnerMount, MountKind
from tests.slots.freebsd.frontend import A, World, serve, uzip
from tests.slots.hosts import Host, write


def test_what_a_chroot_needs_is_mounted_in_order_and_undone_in_reverse(
    host: Host, world: World, tmp_path: Path
) -> None:
    (tmp_path / "homes").mkdir()
    (tmp_path / "hosts").write_text("192.0.2.1 www\n")
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(tmp_path / "homes"), read_only=True),
            InnerMount(
                MountKind.FILES, "etc/host", files=(HostFile("hosts", str(tmp_path / "hosts")),)
            ),
        ),
    )
    root = host.slots.slot(A).mount_point
    with host.lock() as token:
        write(host, A, uzip(), token)
        answer = host.do(Mount(A, "uzip"), token)
        assert answer.status == 0, answer
        kinds = [(one["type"], one["opts"]) for one in world.state["mounts"]]
        assert kinds == [
            ("cd9660", "ro"),
            ("devfs", "rw"),
            ("tmpfs", "mode=1777,size=4m"),
            ("nullfs", "ro"),
            ("tmpfs", "mode=755,size=1m"),
        ]
        assert sorted(path.name for path in Path(root, "dev").iterdir()) == ["null"]
        assert Path(root, "etc/host/hosts").read_text() == "192.0.2.1 www\n"
        assert host.do(Mount(A, "uzip"), token).all("mounted") == ()
        assert host.probe().status(A).missing_mounts == ()
        gone = [one for one in world.state["mounts"] if not one["node"].endswith("/data")]
        world.change(mounts=gone)
        assert host.probe().status(A).missing_mounts == ("data",)
        again = host.do(Mount(A, "uzip"), token)
        assert again.all("mounted") == (f"{root}/data",)
        undone = host.do(Unmount(A), token)
    assert set(undone.all("unmounted")) == set(answer.all("mounted"))
    assert undone.all("unmounted")[-1] == root
    assert world.state["mounts"] == []


def test_an_inner_mount_that_fails_undoes_what_this_call_mounted(host: Host, world: World) -> None:
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="no"),
        ),
    )
    with host.lock() as token:
        write(host, A, uzip(), token)
        answer = host.do(Mount(A, "uzip"), token)
    assert answer.status == 21
    assert "Invalid argument" in answer.first("error")
    assert world.state["mounts"] == []


def test_a_raised_securelevel_does_not_keep_an_image_from_being_mounted(
    host: Host, world: World
) -> None:
    world.load_uzip()
    world.sysctl("kern.securelevel", "1")
    with host.lock() as token:
        serve(host, A, uzip(), token)
