"""The platforms that a frontend may be: what differs is a row here and a folder of templates/."""

from typing import Protocol

from slots.freebsd import FreeBSD
from slots.linux import Linux
from slots.rules import acts_by_command
from slots.sandbox import Sandbox
from slots.slot import DeviceKind, Service, Treatment


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
    def graceful(self) -> tuple[str, ...]:
        """How a service is told to let go of what it has open, by the same program as `restart`."""

    @property
    def path(self) -> str:
        """The PATH of its scripts, as the shell's text: the platform's own folders first."""

    @property
    def slotctl(self) -> str:
        """Where slotctl is installed; empty: beside the records of the set."""

    @property
    def facts(self) -> tuple[str, ...]:
        """The templates that a probe needs: what the host says, changing nothing."""

    @property
    def verbs(self) -> tuple[str, ...]:
        """The templates of the verbs that change the host; with `facts` the whole library."""


PLATFORMS: dict[str, Platform] = {
    platform.name: platform for platform in (FreeBSD(), Linux(), Sandbox())
}


def rule_command(platform: Platform, service: Service) -> tuple[str, ...]:
    """Return the command by which this rule acts here; empty if nobody named one."""
    if service.command or not acts_by_command(service):
        return service.command
    graceful = service.treatment is Treatment.GRACEFUL
    words = platform.graceful if graceful else platform.restart
    return tuple(word.replace("{name}", service.name) for word in words)
