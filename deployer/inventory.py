"""The inventory: which frontends there are, what their sets of slots are, and how to reach them.

The TOML file is checked as a whole (every wrong field at once) and becomes one `Host` per frontend
with nothing left to look up; docs/inventory.md explains each field.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from posixpath import normpath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from slots.errors import ConfigError
from slots.platform import PLATFORMS
from slots.settings import SettingsError, faults, nearest
from slots.slot import HostFile, InnerMount, MountKind, Service, Slot, SlotName, SlotSet

REST_PASSES = 8  # so often what is left of a wrong file is looked at again
KNOWN_SHOWN = 5  # so many hosts are named in the hint of a pattern that matches none


# --- what the rest of the deployer works with ---


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Ask for a URL from the admin box until it answers as it should, or the deadline passes."""

    url: str
    status: int = 200
    contains: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    deadline_s: float = 30.0


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """Run a command on the host until it ends with status 0, or the deadline passes."""

    command: tuple[str, ...]
    deadline_s: float = 30.0


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
class Host:
    """A frontend of the inventory, with all that holds for it."""

    name: str
    address: str
    ssh: SshSettings
    tags: frozenset[str]
    platform: str | None  # None: found by the probe
    sets: Mapping[str, SlotSet]
    checks: Mapping[str, tuple[CheckSpec, ...]]


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


# --- the file's own shape ---


def _absolute(value: str) -> str:
    if (
        not value.startswith("/")
        or ".." in value.split("/")
        or re.search(r"[\x00-\x1f\x7f]", value)
    ):
        raise ValueError(f"{value!r} is not an absolute path without '..'")
    return normpath(value)


def _inside(value: str) -> str:
    parts = value.split("/")
    if value.startswith("/") or ".." in parts or not value.strip("/."):
        raise ValueError(f"{value!r} is not a path inside the slot (relative, without '..')")
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{value!r} holds a control character")
    return normpath(value)


def _plain_name(value: str) -> str:
    if "/" in value or value in {"", ".", ".."} or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{value!r} is not a plain file name")
    return value


def _address(value: str) -> str:
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if ":" in bare or re.fullmatch(r"[0-9.]+", bare):
        ip_address(bare)  # its ValueError says what is wrong
    elif not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?", bare):
        raise ValueError(f"{value!r} is neither a host name nor an IP address")
    return bare


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0]:
        raise ValueError("a command needs at least its name")
    if any("\x00" in word for word in value):
        raise ValueError("a command cannot hold a NUL byte")
    return value


def _written_as(pattern: str, rule: str) -> AfterValidator:
    """Return the check of a text that says in words how it must be written."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {rule}")
        return value

    return AfterValidator(check)


def _platform(value: str) -> str:
    if value not in PLATFORMS:
        meant = nearest(value, PLATFORMS)
        suggestion = f" (did you mean {meant}?)" if meant else ""
        raise ValueError(f"{value!r} is not one of {', '.join(PLATFORMS)}{suggestion}")
    return value


def _budget(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,2}%|100%", value):
        return value
    raise ValueError(f"{value!r} is neither a count of hosts nor a share of them such as '10%'")


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
InsidePath = Annotated[str, AfterValidator(_inside)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
Address = Annotated[str, AfterValidator(_address)]
Command = Annotated[tuple[str, ...], AfterValidator(_command)]
Name = Annotated[
    str,
    _written_as(
        r"[A-Za-z0-9][A-Za-z0-9._-]*", "a name of letters, digits, '.', '_', '-', such as web-1"
    ),
]
User = Annotated[str, _written_as(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?", "the name of a user")]
Seconds = Annotated[float, Field(gt=0, le=86_400, strict=True)]
MountSize = Annotated[str, _written_as(r"[0-9]+[kmgKMG]?", "a size such as 512k, 64m or 2g")]
Mode = Annotated[str, _written_as(r"[0-7]{3,4}", "an octal mode such as 1777")]
NfsSource = Annotated[
    str,
    _written_as(
        r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):/[^\x00-\x1f\x7f]*", "written as server:/path"
    ),
]
Url = Annotated[str, _written_as(r"https?://[^\x00-\x20]+", "a URL of http:// or https://")]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_AnyModel = TypeVar("_AnyModel", bound=_Model)


class _Ssh(_Model):
    user: User | None = None
    port: Port | None = None
    identity_files: tuple[str, ...] = ()
    known_hosts: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    config: str | None = None
    connect_timeout_s: Seconds = 15.0
    command_timeout_s: Seconds = 60.0
    stall_timeout_s: Seconds = 60.0


class _Rollout(_Model):
    parallel: int = Field(10, ge=1, le=1000, strict=True)
    max_failed: Annotated[Any, AfterValidator(_budget)] = 0


class _Slot(_Model):
    device: AbsolutePath
    mount: AbsolutePath


class _Slots(_Model):
    A: _Slot
    B: _Slot


class _Devices(_Model):
    A: AbsolutePath
    B: AbsolutePath


class _Mount(_Model):
    at: InsidePath

    def inner(self) -> InnerMount:
        raise NotImplementedError


class _DevMount(_Mount):
    kind: Literal["devfs"]

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.DEVFS, self.at)


class _TmpfsMount(_Mount):
    kind: Literal["tmpfs"]
    size: MountSize = "64m"
    mode: Mode = "1777"

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.TMPFS, self.at, size=self.size, mode=self.mode)


class _BindMount(_Mount):
    kind: Literal["bind"]
    source: AbsolutePath
    read_only: Flag = False

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.BIND, self.at, source=self.source, read_only=self.read_only)


class _NfsMount(_Mount):
    kind: Literal["nfs"]
    source: NfsSource
    read_only: Flag = False

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.NFS, self.at, source=self.source, read_only=self.read_only)


class _FilesMount(_Mount):
    kind: Literal["files"]
    files: dict[PlainName, AbsolutePath] = Field(min_length=1)
    size: MountSize = "4m"

    def inner(self) -> InnerMount:
        files = tuple(HostFile(name, source) for name, source in self.files.items())
        return InnerMount(MountKind.FILES, self.at, size=self.size, files=files)


_AnyMount = Annotated[
    _DevMount | _TmpfsMount | _BindMount | _NfsMount | _FilesMount, Field(discriminator="kind")
]


class _Service(_Model):
    name: Name
    processes: tuple[PlainName, ...] = ()
    restart: Command | None = None
    always: Flag = False

    def service(self) -> Service:
        return Service(
            self.name, self.processes or (self.name,), self.restart or (), always=self.always
        )


class _HttpCheck(_Model):
    kind: Literal["http"]
    url: Url
    status: int = Field(200, ge=100, le=599, strict=True)
    contains: str = ""
    headers: dict[str, str] = {}
    deadline_s: Seconds = 30.0

    @model_validator(mode="after")
    def _known_places(self) -> Self:
        unknown = set(re.findall(r"\{([^}]*)\}", self.url)) - {"address", "name"}
        if unknown:
            raise ValueError(
                f"url: only {{address}} and {{name}} are filled in, not {min(unknown)}"
            )
        return self

    def spec(self, name: str, address: str) -> CheckSpec:
        literal = f"[{address}]" if ":" in address else address
        url = self.url.replace("{address}", literal).replace("{name}", name)
        headers = tuple(self.headers.items())
        return HttpCheck(url, self.status, self.contains, headers, self.deadline_s)


class _CommandCheck(_Model):
    kind: Literal["command"]
    command: Command
    deadline_s: Seconds = 30.0

    def spec(self, name: str, address: str) -> CheckSpec:
        words = tuple(
            word.replace("{address}", address).replace("{name}", name) for word in self.command
        )
        return CommandCheck(words, self.deadline_s)


_AnyCheck = Annotated[_HttpCheck | _CommandCheck, Field(discriminator="kind")]


class _Set(_Model):
    link: AbsolutePath
    slots: _Slots
    records: AbsolutePath = "/var/db/slots"
    mounts: tuple[_AnyMount, ...] = ()
    services: tuple[_Service, ...] = ()
    checks: tuple[_AnyCheck, ...] = ()
    image: Name | None = None


class _Host(_Model):
    address: Address | None = None
    port: Port | None = None
    user: User | None = None
    identity_files: tuple[str, ...] = ()
    tags: tuple[Name, ...] = ()
    platform: Annotated[str, AfterValidator(_platform)] | None = None
    slots: dict[Name, _Devices] = {}


class _File(_Model):
    ssh: _Ssh = _Ssh()
    rollout: _Rollout = _Rollout()
    sets: dict[Name, _Set] = Field(min_length=1)
    hosts: dict[Name, _Host] = Field(min_length=1)


# --- what does not fit together ---


def _clashes(file: _File, set_names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong although each field by itself is right."""
    for name, one in file.sets.items():
        yield from (f"sets.{name}: {fault}" for fault in _set_faults(one))
    yield from _set_clashes(file.sets)
    yield from _unknown_sets(file, frozenset(set_names))
    yield from _shared_devices(file)
    yield from _shared_places(file)


def _set_faults(one: _Set) -> Iterator[str]:
    for first, second in combinations((one.link, one.slots.A.mount, one.slots.B.mount), 2):
        if _nested(first, second):
            yield f"link and mount points must lie beside one another, not {first} and {second}"
    yield from (f"two mounts are at {at}" for at in _twice(mount.at for mount in one.mounts))
    yield from (
        f"two services are named {name}"
        for name in _twice(service.name for service in one.services)
    )


def _nested(first: str, second: str) -> bool:
    return f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")


def _twice(values: Iterable[str]) -> Iterator[str]:
    counts = Counter(values)
    return (value for value, count in counts.items() if count > 1)


def _set_clashes(sets: Mapping[str, _Set]) -> Iterator[str]:
    """Yield what two sets may not share: they would overwrite or hide one another."""
    for (name, one), (other_name, other) in combinations(sets.items(), 2):
        for path in (one.link, one.slots.A.mount, one.slots.B.mount):
            for other_path in (other.link, other.slots.A.mount, other.slots.B.mount):
                if _nested(path, other_path):
                    yield f"sets {name} and {other_name} share {other_path}"


def _unknown_sets(file: _File, set_names: frozenset[str]) -> Iterator[str]:
    for name, host in file.hosts.items():
        for set_name in host.slots.keys() - set_names:
            hint = nearest(set_name, set_names)
            meant = f" (did you mean {hint}?)" if hint else ""
            yield f"hosts.{name}.slots.{set_name}: there is no set {set_name}{meant}"


def _shared_devices(file: _File) -> Iterator[str]:
    """Yield each device that two slots have, once for all hosts on which they do."""
    hosts_of: dict[str, list[str]] = {}
    for name, host in file.hosts.items():
        users: dict[str, str] = {}
        for set_name, devices in _devices(file, host).items():
            for slot, device in (("A", devices.A), ("B", devices.B)):
                user = f"{set_name}.{slot}"
                if device in users:
                    fault = f"slots {users[device]} and {user} are both {device}"
                    hosts_of.setdefault(fault, []).append(name)
                users[device] = user
    for fault, names in hosts_of.items():
        if len(names) == len(file.hosts):
            yield f"sets: {fault}"
        else:
            yield f"{_listed(names)}: {fault}"


def _listed(names: Sequence[str]) -> str:
    return f"hosts.{names[0]}" if len(names) == 1 else f"hosts {', '.join(names)}"


def _shared_places(file: _File) -> Iterator[str]:
    places: dict[tuple[str, int | None], str] = {}
    for name, host in file.hosts.items():
        place = ((host.address or name).casefold(), host.port or file.ssh.port)
        if place in places:
            yield f"hosts {places[place]} and {name} are both at {place[0]} port {place[1] or 22}"
        places[place] = name


def _devices(file: _File, host: _Host) -> dict[str, _Devices]:
    return {
        name: host.slots.get(name) or _Devices(A=one.slots.A.device, B=one.slots.B.device)
        for name, one in file.sets.items()
    }


# --- from the file to hosts ---


def load(path: Path) -> Inventory:
    """Read and check an inventory."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no inventory {path}",
            hint="copy fleet.example.toml to fleet.toml, or name one with --inventory",
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"inventory {path} is a folder", hint="name the file with --inventory"
        ) from error
    except OSError as error:
        raise ConfigError(f"inventory {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"inventory {path} is not UTF-8 (byte {error.start})") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Inventory:
    """Check the text of an inventory; relative files in it are relative to `path`'s folder."""
    try:
        file = _checked(tomllib.loads(text), path)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    hosts = tuple(_host(file, name, path.parent) for name in file.hosts)
    rollout = RolloutSettings(file.rollout.parallel, file.rollout.max_failed)
    images = {name: one.image for name, one in file.sets.items() if one.image is not None}
    return Inventory(path, hosts, tuple(file.sets), rollout, images)


def _checked(data: dict[str, Any], path: Path) -> _File:
    """Return the file's content, or raise all that is wrong with it, as far as that can be told."""
    wrong: tuple[str, ...] = ()
    file: _File | None
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        wrong = faults(error, _File)
        file = _rest(data, error)
    sets = data.get("sets")
    if file is not None:
        names = sets if isinstance(sets, dict) else ()
        wrong = (*wrong, *dict.fromkeys(_clashes(file, names)))
    if wrong or file is None:
        raise SettingsError(str(path), wrong)
    return file


def _rest(data: dict[str, Any], error: ValidationError) -> _File | None:
    """Return what is left without the wrong fields: what does not fit together is told as well."""
    rest: Any = data
    for _ in range(REST_PASSES):
        for detail in error.errors(include_url=False):
            rest = _without(rest, detail["loc"], whole=detail["type"] == "missing")
        rest = _closed_up(rest)
        try:
            return _File.model_validate(rest)
        except ValidationError as next_error:
            error = next_error
    return None


def _without(value: Any, loc: tuple[int | str, ...], *, whole: bool) -> Any:
    """Return a copy without what stands at a place; `whole`: without the table around it.

    A list's entry becomes None, so that the places behind it stay right, until `_closed_up`. A
    step that leads nowhere is the name of a union's type.
    """
    if not loc or (whole and len(loc) == 1):
        return None
    head, *rest = loc
    if isinstance(value, dict) and head in value:
        below = _without(value[head], tuple(rest), whole=whole)
        changed_table = {name: below if name == head else one for name, one in value.items()}
        return {name: one for name, one in changed_table.items() if one is not None}
    if isinstance(value, list) and isinstance(head, int) and head < len(value):
        changed = [*value]
        changed[head] = _without(value[head], tuple(rest), whole=whole)
        return changed
    return _without(value, tuple(rest), whole=whole)


def _closed_up(value: Any) -> Any:
    """Return a copy whose lists have no gaps."""
    if isinstance(value, dict):
        return {name: _closed_up(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_closed_up(one) for one in value if one is not None]
    return value


def _host(file: _File, name: str, folder: Path) -> Host:
    host = file.hosts[name]
    address = host.address or name
    devices = _devices(file, host)
    return Host(
        name=name,
        address=address,
        ssh=_ssh(file.ssh, host, folder),
        tags=frozenset(host.tags),
        platform=host.platform,
        sets={
            key: _slot_set(key, _named(one, name), _named(devices[key], name))
            for key, one in file.sets.items()
        },
        checks={
            key: tuple(check.spec(name, address) for check in one.checks)
            for key, one in file.sets.items()
        },
    )


def _named(model: _AnyModel, name: str) -> _AnyModel:
    """Fill the host's name into every path and command that holds {name}."""
    return type(model).model_validate_json(model.model_dump_json().replace("{name}", name))


def _ssh(ssh: _Ssh, host: _Host, folder: Path) -> SshSettings:
    return SshSettings(
        user=host.user or ssh.user,
        port=host.port or ssh.port,
        identity_files=_paths(host.identity_files or ssh.identity_files, folder),
        known_hosts=_paths(ssh.known_hosts, folder),
        config=next(iter(_paths((ssh.config,), folder)), None) if ssh.config else None,
        connect_timeout_s=ssh.connect_timeout_s,
        command_timeout_s=ssh.command_timeout_s,
        stall_timeout_s=ssh.stall_timeout_s,
    )


def _paths(values: Iterable[str], folder: Path) -> tuple[Path, ...]:
    return tuple(folder / Path(value).expanduser() for value in values)


def _slot_set(name: str, one: _Set, devices: _Devices) -> SlotSet:
    return SlotSet(
        name=name,
        link=one.link,
        slots=(
            Slot(SlotName.A, devices.A, one.slots.A.mount),
            Slot(SlotName.B, devices.B, one.slots.B.mount),
        ),
        records=one.records,
        mounts=tuple(mount.inner() for mount in one.mounts),
        services=tuple(service.service() for service in one.services),
    )


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
    if not wanted:
        raise ConfigError("--set is empty", hint="leave it out for the inventory's first")
    if wanted not in inventory.set_names:
        known = ", ".join(inventory.set_names)
        raise ConfigError(f"there is no set {wanted} in {inventory.path}", hint=f"it has {known}")
    return wanted
