"""Linux: block devices, mounted by the kernel as erofs, squashfs or iso9660."""

from dataclasses import dataclass

from slots.slot import DeviceKind


@dataclass(frozen=True, slots=True)
class Linux:
    """The row of Linux; its library is templates/linux/."""

    name: str = "Linux"
    uname: str = "Linux"
    formats: tuple[str, ...] = ("erofs", "squashfs", "iso9660")
    slot_kind: DeviceKind = DeviceKind.DEVICE
    restart: tuple[str, ...] = ("systemctl", "restart", "{name}")
    graceful: tuple[str, ...] = ("systemctl", "reload", "{name}")
    path: str = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
    slotctl: str = "/usr/local/libexec/slotctl"
    facts: tuple[str, ...] = ("linux/kernel.sh", "linux/facts.sh")
    verbs: tuple[str, ...] = (
        "linux/files.sh",
        "linux/host.sh",
        "linux/processes.sh",
        "linux/users.sh",
        "linux/preflight.sh",
    )
