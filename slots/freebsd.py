"""FreeBSD 13 to 15: GEOM providers, mounted as cd9660 over geom_uzip or as they are."""

from dataclasses import dataclass

from slots.slot import DeviceKind


@dataclass(frozen=True, slots=True)
class FreeBSD:
    """The row of FreeBSD; its library is templates/freebsd/."""

    name: str = "FreeBSD"
    uname: str = "FreeBSD"
    formats: tuple[str, ...] = ("uzip", "iso9660")
    slot_kind: DeviceKind = DeviceKind.DEVICE
    # `restart` alone does nothing and says 0 where rc.conf does not enable the service.
    restart: tuple[str, ...] = ("service", "{name}", "onerestart")
    graceful: tuple[str, ...] = ("service", "{name}", "onereload")
    path: str = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
    slotctl: str = "/usr/local/libexec/slotctl"
    facts: tuple[str, ...] = ("freebsd/facts.sh",)
    verbs: tuple[str, ...] = ("freebsd/host.sh", "freebsd/users.sh", "freebsd/preflight.sh")
