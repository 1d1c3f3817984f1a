"""The link of a sandbox, and what is mounted inside its slots."""

from dataclasses import replace
from pathlib import Path

from slots.actions import Flip, Mount, Unmount
from slots.slot import HostFile, InnerMount, LinkKind, MountKind
from tests.slots import images
from tests.slots.hosts import Host, write
from tests.slots.sandbox.frontend import A


def test_a_link_that_is_a_folder_is_never_replaced(host: Host, tmp_path: Path) -> None:
    Path(host.slots.link).mkdir()
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Mount(A, "squashfs"), token)
        answer = host.do(Flip(A), token)
    assert answer.status == 20
    assert host.probe().link_kind is LinkKind.OTHER
    assert Path(host.slots.link).is_dir()


def test_a_slot_that_is_not_mounted_is_not_flipped_to(host: Host, tmp_path: Path) -> None:
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Flip(A), token)
    assert answer.status == 20
    assert not Path(host.slots.link).is_symlink()


def test_links_that_a_killed_flip_left_are_cleaned(host: Host, tmp_path: Path) -> None:
    folder = Path(host.slots.link).parent
    (folder / ".cgi.flip.4711").symlink_to("cgi2")
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        host.do(Mount(A, "squashfs"), token)
        assert host.do(Flip(A), token).status == 0
    assert not list(folder.glob(".cgi.*"))


def test_what_a_chroot_needs_is_made_inside_and_said(host: Host, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "homes").mkdir()
    host.slots = replace(
        host.slots,
        mounts=(
            InnerMount(MountKind.DEVFS, "dev"),
            InnerMount(MountKind.TMPFS, "tmp", size="4m", mode="1777"),
            InnerMount(MountKind.BIND, "data", source=str(tmp_path / "homes")),
            InnerMount(
                MountKind.FILES,
                "etc/host",
                files=(HostFile("resolv.conf", str(tmp_path / "resolv.conf")),),
            ),
        ),
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
        assert answer.status == 0, answer
        assert len(answer.all("notice")) == 5  # the mount point was made too
        root = Path(host.slots.slot(A).mount_point)
        assert (root / "etc/host/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
        assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
        assert (root / "data").resolve() == tmp_path / "homes"
        assert (root / "version").stat().st_mode & 0o222 == 0
        assert host.do(Unmount(A), token).status == 0
    assert (tmp_path / "homes").is_dir()
    assert list(root.iterdir()) == []


def test_a_missing_mount_point_in_the_image_is_named_and_all_is_undone(
    host: Host, tmp_path: Path
) -> None:
    host.slots = replace(
        host.slots,
        mounts=(InnerMount(MountKind.TMPFS, "tmp"), InnerMount(MountKind.TMPFS, "var/sessions")),
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 21
    assert "no directory /var/sessions" in answer.first("error")
    assert not host.probe().status(A).mounted
    assert list(Path(host.slots.slot(A).mount_point).iterdir()) == []


def test_a_symlink_in_the_image_does_not_lead_a_mount_out_of_the_slot(
    host: Host, tmp_path: Path
) -> None:
    host.slots = replace(host.slots, mounts=(InnerMount(MountKind.TMPFS, "escape"),))
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 21
    assert "symlink" in answer.first("error")


def test_a_file_of_the_host_that_is_missing_is_refused_before_anything(
    host: Host, tmp_path: Path
) -> None:
    file = HostFile("hosts", str(tmp_path / "absent"))
    host.slots = replace(
        host.slots, mounts=(InnerMount(MountKind.FILES, "etc/host", files=(file,)),)
    )
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        answer = host.do(Mount(A, "squashfs"), token)
    assert answer.status == 20
    assert str(tmp_path / "absent") in answer.first("error")


def test_a_folder_that_no_mount_made_is_not_removed(host: Host, tmp_path: Path) -> None:
    home = Path(host.slots.slot(A).mount_point)
    home.mkdir()
    (home / "precious").touch()
    with host.lock() as token:
        write(host, A, images.squashfs(tmp_path, "one"), token)
        assert host.do(Mount(A, "squashfs"), token).status == 20
    assert (home / "precious").exists()
