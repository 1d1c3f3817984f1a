"""The shape of fleet.toml: a model per table; docs/inventory.md explains each field."""

import re
from math import ceil
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deployer.fields import (
    AbsolutePath,
    Address,
    Bandwidth,
    Command,
    Flag,
    HeaderName,
    HostBudget,
    InsidePath,
    Line,
    Mirrors,
    Mode,
    Model,
    MountSize,
    Name,
    NfsSource,
    OwnFile,
    OwnFiles,
    Payload,
    PlainName,
    PlatformName,
    Port,
    ProcessName,
    Seconds,
    Text,
    Url,
    User,
    VariableName,
)
from deployer.inventory import CheckSpec, HttpCheck
from slots.checks import CommandCheck, Level
from slots.slot import HostFile, InnerMount, MountKind, Service, Treatment, Uncovered
from slots.trials import USER, CgiTrial, CommandTrial, LibrariesTrial, Trial

KILL_S = 10.0  # from TERM to KILL, where the file does not say it


class SshTable(Model):
    """[ssh]: how to reach the hosts, beside ~/.ssh/config."""

    user: User | None = None
    port: Port | None = None
    identity_files: tuple[OwnFile, ...] = ()
    known_hosts: OwnFiles = ()
    config: OwnFile | None = None
    connect_timeout_s: Seconds = 15.0
    command_timeout_s: Seconds = 60.0
    stall_timeout_s: Seconds = 60.0


class HostTransferTable(Model):
    """[hosts.NAME.transfer]: where a host differs from [transfer]."""

    source: Literal["ssh", "http"] | None = None
    mirrors: Mirrors | None = None
    host_bandwidth: Bandwidth | None = None
    fallback_to_ssh: Flag | None = None


class TransferTable(HostTransferTable):
    """[transfer]: which way the bytes of packs and images take."""

    total_bandwidth: Bandwidth | None = None


class RolloutTable(Model):
    """[rollout]."""

    parallel: int = Field(10, ge=1, le=1000, strict=True)
    max_failed: HostBudget = 0


class SlotTable(Model):
    """One slot of a set."""

    device: AbsolutePath
    mount: AbsolutePath


class SlotsTable(Model):
    """[sets.NAME.slots]."""

    A: SlotTable
    B: SlotTable


class DevicesTable(Model):
    """[hosts.NAME.slots.SET]: the devices where they differ on a host."""

    A: AbsolutePath
    B: AbsolutePath


class MountTable(Model):
    """[[sets.NAME.mounts]]: what every kind has."""

    at: InsidePath

    def inner(self) -> InnerMount:
        """Return the mount as a frontend knows it."""
        raise NotImplementedError


class _DevMount(MountTable):
    kind: Literal["devfs"]

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.DEVFS, self.at)


class _TmpfsMount(MountTable):
    kind: Literal["tmpfs"]
    size: MountSize = "64m"
    mode: Mode = "1777"

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.TMPFS, self.at, size=self.size, mode=self.mode)


class _BindMount(MountTable):
    kind: Literal["bind"]
    source: AbsolutePath
    read_only: Flag = False

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.BIND, self.at, source=self.source, read_only=self.read_only)


class _NfsMount(MountTable):
    kind: Literal["nfs"]
    source: NfsSource
    read_only: Flag = False

    def inner(self) -> InnerMount:
        return InnerMount(MountKind.NFS, self.at, source=self.source, read_only=self.read_only)


class _FilesMount(MountTable):
    kind: Literal["files"]
    files: dict[PlainName, AbsolutePath] = Field(min_length=1)
    size: MountSize = "4m"

    def inner(self) -> InnerMount:
        files = tuple(HostFile(name, source) for name, source in self.files.items())
        return InnerMount(MountKind.FILES, self.at, size=self.size, files=files)


_AnyMount = Annotated[
    _DevMount | _TmpfsMount | _BindMount | _NfsMount | _FilesMount, Field(discriminator="kind")
]


class ServiceTable(Model):
    """[[sets.NAME.services]]: a rule for the processes that use the old slot."""

    name: Name
    processes: tuple[ProcessName, ...] = ()
    user: User | None = None
    action: Treatment | None = None
    graceful: Command | None = None
    restart: Command | None = None
    command: Command | None = None
    deadline_s: Seconds | None = None
    always: Flag = False

    @model_validator(mode="after")
    def _one_command(self) -> Self:
        given = [name for name in ("graceful", "restart", "command") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: a rule has one of them")
        if given and self.action not in {None, given[0]}:
            raise ValueError(f"{given[0]} is never run where the action is {self.action}")
        if self.action is Treatment.COMMAND and not given:
            raise ValueError("the action command needs a `command`")
        return self

    def service(self, drain_s: float) -> Service:
        """Return the rule as a frontend knows it; by default it acts by the command it names."""
        commands = {
            Treatment.GRACEFUL: self.graceful,
            Treatment.RESTART: self.restart,
            Treatment.COMMAND: self.command,
        }
        named = next((one for one, words in commands.items() if words), Treatment.RESTART)
        treatment = self.action or named
        return Service(
            self.name,
            self.processes or (self.name,),
            commands.get(treatment) or (),
            always=self.always,
            treatment=treatment,
            user=self.user or "",
            deadline_s=self.deadline_s or (KILL_S if treatment is Treatment.KILL else drain_s),
        )


class _HttpCheck(Model):
    kind: Literal["http"]
    url: Url
    status: int = Field(200, ge=100, le=599, strict=True)
    contains: str = ""
    headers: dict[str, str] = Field(default={})
    header: dict[HeaderName, str] = Field(default={})
    deadline_s: Seconds = 30.0
    level: Level = Level.REQUIRED

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
        return HttpCheck(
            url,
            self.status,
            self.contains,
            headers=tuple(self.headers.items()),
            header=tuple(self.header.items()),
            deadline_s=self.deadline_s,
            level=self.level,
        )


class _CommandCheck(Model):
    kind: Literal["command"]
    command: Command
    deadline_s: Seconds = 30.0
    level: Level = Level.REQUIRED

    def spec(self, name: str, address: str) -> CheckSpec:
        words = tuple(
            word.replace("{address}", address).replace("{name}", name) for word in self.command
        )
        return CommandCheck(words, self.deadline_s, self.level)


_AnyCheck = Annotated[_HttpCheck | _CommandCheck, Field(discriminator="kind")]


CONFIRM_S = 60.0  # beside what rules, drain and checks may take


class _CgiTrial(Model):
    kind: Literal["cgi"]
    path: AbsolutePath
    arguments: tuple[Text, ...] = ()
    env: dict[VariableName, Text] = Field(default={})
    stdin: Payload = ""
    status: int = Field(200, ge=100, le=599, strict=True)
    exit: int = Field(0, ge=0, le=255, strict=True)
    contains: Line = ""
    user: User = USER
    deadline_s: Seconds = 10.0

    def trial(self) -> Trial:
        return CgiTrial(
            self.path,
            self.arguments,
            tuple(self.env.items()),
            self.stdin,
            status=self.status,
            exit=self.exit,
            contains=self.contains,
            user=self.user,
            deadline_s=self.deadline_s,
        )


class _CommandTrial(Model):
    kind: Literal["command"]
    command: Command
    env: dict[VariableName, Text] = Field(default={})
    exit: int = Field(0, ge=0, le=255, strict=True)
    contains: Line = ""
    user: User = USER
    deadline_s: Seconds = 30.0

    def trial(self) -> Trial:
        return CommandTrial(
            self.command,
            tuple(self.env.items()),
            self.exit,
            self.contains,
            self.user,
            self.deadline_s,
        )


class _LibrariesTrial(Model):
    kind: Literal["ldd"]
    folders: tuple[AbsolutePath, ...] = Field(("/",), min_length=1)
    ignore: tuple[Line, ...] = ()
    user: User = USER
    deadline_s: Seconds = 120.0

    def trial(self) -> Trial:
        return LibrariesTrial(self.folders, self.ignore, self.user, self.deadline_s)


_AnyTrial = Annotated[_CgiTrial | _CommandTrial | _LibrariesTrial, Field(discriminator="kind")]


class SetTable(Model):
    """[sets.NAME]."""

    link: AbsolutePath
    slots: SlotsTable
    records: AbsolutePath = "/var/db/slots"
    staging: AbsolutePath | None = None
    mounts: tuple[_AnyMount, ...] = ()
    services: tuple[ServiceTable, ...] = ()
    uncovered: Uncovered = Uncovered.STOP
    drain_s: Seconds = 30.0
    confirm_s: Seconds | None = None

    preflight: tuple[_AnyTrial, ...] = ()
    checks: tuple[_AnyCheck, ...] = ()
    image: Name | None = None

    @property
    def guard_s(self) -> int:
        """How long the guard waits: unless it is said, for all that may follow the flip."""
        if self.confirm_s is not None:
            return ceil(self.confirm_s)
        rules = sum(service.service(self.drain_s).deadline_s for service in self.services)
        checks = sum(check.deadline_s for check in self.checks)
        return ceil(CONFIRM_S + rules + self.drain_s + checks)


class HostTable(Model):
    """[hosts.NAME]."""

    address: Address | None = None
    port: Port | None = None
    user: User | None = None
    identity_files: tuple[OwnFile, ...] = ()
    tags: tuple[Name, ...] = ()
    platform: PlatformName | None = None
    slots: dict[Name, DevicesTable] = Field(default={})
    transfer: HostTransferTable = HostTransferTable()


class FleetFile(Model):
    """The whole file."""

    ssh: SshTable = SshTable()
    rollout: RolloutTable = RolloutTable()
    transfer: TransferTable = TransferTable()
    sets: dict[Name, SetTable] = Field(min_length=1)
    hosts: dict[Name, HostTable] = Field(min_length=1)
