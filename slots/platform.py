"""The platforms that a frontend may be: what differs is a row here and a folder of templates/."""

from typing import Protocol

from slots.freebsd import FreeBSD
from slots.linux import Linux
from slots.sandbox import Sandbox
from slots.slot import DeviceKind, Service


class Platform(Protocol):
    """What the rest needs to know of a platform; how it does things is in its sh library."""

    @property
    def name(self) -> str:
        """What `FrontendState.platform` and an inventory call it."""

    @property
    def uname(self) -> str:
        """What `uname -s` prints there; empty: never found by asking, only named."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of artefacts that it may mount, best first."""

    @property
    def slot_kind(self) -> DeviceKind:
        """What a slot lies on there: anything else in its place is a mistake."""

    @property
    def restart(self) -> tuple[str, ...]:
        """How a service is restarted that names no command: `{name}` is filled in."""

    @property
    def path(self) -> str:
        """The PATH of its scripts, as the shell's text: the platform's own folders first."""

    @property
    def facts(self) -> tuple[str, ...]:
        """The templates that a probe needs: what the host says, changing nothing."""

    @property
    def verbs(self) -> tuple[str, ...]:
        """The templates of the verbs that change the host; with `facts` the whole library."""


PLATFORMS: dict[str, Platform] = {
    platform.name: platform for platform in (FreeBSD(), Linux(), Sandbox())
}


def restart_command(platform: Platform, service: Service) -> tuple[str, ...]:
    """Return the command that restarts this service here; empty if nobody named one."""
    if service.restart:
        return service.restart
    return tuple(word.replace("{name}", service.name) for word in platform.restart)
