"""The inventory: which frontends there are, what their sets of slots are, and how to reach them.

One `Host` per frontend with nothing left to look up; `deployer.fleet_file` makes it of fleet.toml.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from slots.checks import CommandCheck, Level
from slots.errors import ConfigError
from slots.settings import nearest
from slots.slot import SlotSet

KNOWN_SHOWN = 5  # so many hosts are named in the hint of a pattern that matches none


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Ask for a URL from the admin box until it answers as it should, or the deadline passes."""

    url: str
    status: int = 200
    contains: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # sent
    header: tuple[tuple[str, str], ...] = ()  # of the answer: a name, and what it must contain
    deadline_s: float = 30.0
    level: Level = Level.REQUIRED


CheckSpec = HttpCheck | CommandCheck


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How to reach a host, as far as the inventory says it; the rest is ~/.ssh/config's."""

    user: str | None = None
    port: int | None = None
    identity_files: tuple[Path, ...] = ()
    known_hosts: tuple[Path, ...] = ()  # empty: the user's and the system's
    config: Path | None = None  # None: ~/.ssh/config, if there is one
    connect_timeout_s: float = 15.0
    command_timeout_s: float = 60.0
    stall_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Which way the bytes of packs and images take to a host."""

    source: str = "ssh"  # a row of deployer.transfer.WAYS
    mirrors: tuple[str, ...] = ()  # URLs, each of a folder of objects named by their digest
    host_bandwidth: int | None = None  # bytes a second; None: no limit
    fallback_to_ssh: bool = False  # if no mirror gives what is needed


@dataclass(frozen=True, slots=True)
class Host:
    """A frontend of the inventory, with all that holds for it."""

    name: str
    address: str
    ssh: SshSettings
    tags: frozenset[str]
    platform: str | None  # None: found by the probe
    sets: Mapping[str, SlotSet]
    checks: Mapping[str, tuple[CheckSpec, ...]]
    transfer: TransferSettings = TransferSettings()


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How many hosts at a time, and how many may fail before the rest is left alone."""

    parallel: int = 10
    max_failed: int | str = 0  # a count, or a percentage such as "10%"


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts, in the file's order, and the names of the sets, the default one first."""

    path: Path
    hosts: tuple[Host, ...]
    set_names: tuple[str, ...]
    rollout: RolloutSettings
    images: Mapping[str, str] = field(default_factory=dict)  # the name of a set's releases
    total_bandwidth: int | None = None  # bytes a second through ssh to all hosts together


# --- selection ---


def select(inventory: Inventory, patterns: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that the patterns name, in the inventory's order.

    A pattern is a name, a glob or `@tag`; `!` in front excludes. Excludes alone start from all.
    """
    words = [word for pattern in patterns for word in _words(pattern)]
    matched = {word: _matches(inventory, word.removeprefix("!")) for word in words}
    for word, names in matched.items():
        if not names:
            raise ConfigError(
                f"{_unmatched(inventory, word)} in {inventory.path}", hint=_known(inventory, word)
            )
    wanted = [matched[word] for word in words if not word.startswith("!")]
    excluded = {name for word in words if word.startswith("!") for name in matched[word]}
    names = set().union(*wanted) if wanted else {host.name for host in inventory.hosts}
    chosen = tuple(host for host in inventory.hosts if host.name in names - excluded)
    if not chosen:
        raise ConfigError(f"the patterns {' '.join(patterns)} leave no host of {inventory.path}")
    return chosen


def _words(pattern: str) -> Iterator[str]:
    """Yield the words of a pattern; an empty one (of an unset variable) must not mean all hosts."""
    for word in map(str.strip, pattern.split(",")):
        if word.lstrip("!@") == "":
            what = f"{pattern!r} has an empty word" if pattern.strip() else "is empty"
            raise ConfigError(
                f"--hosts {what}: that names no host",
                hint="name hosts, globs or @tags; leave --hosts out for all hosts",
            )
        yield word


def _matches(inventory: Inventory, word: str) -> set[str]:
    if word.startswith("@"):
        return {host.name for host in inventory.hosts if word[1:] in host.tags}
    return {host.name for host in inventory.hosts if fnmatchcase(host.name, word)}


def _unmatched(inventory: Inventory, word: str) -> str:
    tags = {f"@{tag}" for host in inventory.hosts for tag in host.tags}
    names = {host.name for host in inventory.hosts}
    bare = word.removeprefix("!")
    meant = nearest(bare, tags if bare.startswith("@") else names)
    suggestion = f" (did you mean {meant}?)" if meant else ""
    return f"no host matches {bare}{suggestion}"


def _known(inventory: Inventory, word: str) -> str:
    """Return what could have been meant instead, the first few of it."""
    tags = {f"@{tag}": None for host in inventory.hosts for tag in sorted(host.tags)}
    names = [host.name for host in inventory.hosts]
    known = list(tags) if word.removeprefix("!").startswith("@") and tags else names
    more = f" and {len(known) - KNOWN_SHOWN} more" if len(known) > KNOWN_SHOWN else ""
    return f"it has {', '.join(known[:KNOWN_SHOWN])}{more}"


def set_name(inventory: Inventory, wanted: str | None) -> str:
    """Return the set that is asked for, by default the inventory's first."""
    if wanted is None:
        return inventory.set_names[0]
    if wanted not in inventory.set_names:
        known = ", ".join(inventory.set_names)
        raise ConfigError(f"there is no set {wanted} in {inventory.path}", hint=f"it has {known}")
    return wanted
