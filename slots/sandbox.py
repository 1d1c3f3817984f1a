"""The sandbox: plain files as slots, unpacked folders as mounts; on any Linux, without root."""

from dataclasses import dataclass

from slots.slot import DeviceKind


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The row of the sandbox; its library is templates/sandbox/ on Linux's /proc and tools."""

    name: str = "sandbox"
    uname: str = ""
    formats: tuple[str, ...] = ("squashfs", "uzip", "iso9660")
    slot_kind: DeviceKind = DeviceKind.FILE
    restart: tuple[str, ...] = ()
    graceful: tuple[str, ...] = ()
    # The caller's PATH first: it is where a sandbox's `image` comes from.
    path: str = "$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    slotctl: str = ""
    facts: tuple[str, ...] = ("linux/kernel.sh", "sandbox/facts.sh")
    verbs: tuple[str, ...] = (
        "linux/files.sh",
        "sandbox/host.sh",
        "linux/processes.sh",
        "sandbox/users.sh",
        "linux/preflight.sh",
    )
