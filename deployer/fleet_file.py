"""fleet.toml → Inventory: every wrong field is told at once, then each host is filled in."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from deployer import me
from deployer.fields import Model
from deployer.inventory import (
    CheckSpec,
    Host,
    Inventory,
    RolloutSettings,
    SshSettings,
    TransferSettings,
)
from deployer.misfits import clashes, devices
from deployer.tables import (
    DevicesTable,
    FleetFile,
    HostTable,
    HostTransferTable,
    SetTable,
    SshTable,
    TransferTable,
)
from slots.checks import CommandCheck
from slots.errors import ConfigError
from slots.settings import SettingsError, faults
from slots.slot import Slot, SlotName, SlotSet

REST_PASSES = 8  # so often what is left of a wrong file is looked at again

_AnyModel = TypeVar("_AnyModel", bound=Model)


def load(path: Path) -> Inventory:
    """Read and check an inventory."""
    try:
        text = path.read_text(encoding="utf-8-sig")
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
    total = file.transfer.total_bandwidth
    return Inventory(path, hosts, tuple(file.sets), rollout, images, total)


def _checked(data: dict[str, Any], path: Path) -> FleetFile:
    """Return the file's content, or raise all that is wrong with it, as far as that can be told."""
    wrong: tuple[str, ...] = ()
    wrong_mirrors = False
    file: FleetFile | None
    try:
        file = FleetFile.model_validate(data)
    except ValidationError as error:
        wrong = faults(error, FleetFile)
        wrong_mirrors = any("mirrors" in one["loc"] for one in error.errors(include_url=False))
        file = _rest(data, error)
    sets = data.get("sets")
    if file is not None:
        names = sets if isinstance(sets, dict) else ()
        unfit = clashes(file, names, wrong_mirrors=wrong_mirrors)
        wrong = (*wrong, *dict.fromkeys(unfit))
    if wrong or file is None:
        raise SettingsError(str(path), wrong)
    return file


def _rest(data: dict[str, Any], error: ValidationError) -> FleetFile | None:
    """Return what is left without the wrong fields: what does not fit together is told as well."""
    rest: Any = data
    for _ in range(REST_PASSES):
        for detail in error.errors(include_url=False):
            rest = _without(rest, detail["loc"], whole=detail["type"] == "missing")
        rest = _closed_up(rest)
        try:
            return FleetFile.model_validate(rest)
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


def _host(file: FleetFile, name: str, folder: Path) -> Host:
    host = file.hosts[name]
    address = host.address or name
    pairs = devices(file, host)
    checks = {
        key: tuple(check.spec(name, address) for check in one.checks)
        for key, one in file.sets.items()
    }
    return Host(
        name=name,
        address=address,
        ssh=_ssh(file.ssh, host, folder),
        tags=frozenset(host.tags),
        platform=host.platform,
        sets={
            key: _slot_set(key, _named(one, name), _named(pairs[key], name), checks[key])
            for key, one in file.sets.items()
        },
        transfer=_transfer(file.transfer, host.transfer),
        checks=checks,
    )


def _named(model: _AnyModel, name: str) -> _AnyModel:
    """Fill the host's name into every path and command that holds {name}."""
    return type(model).model_validate_json(model.model_dump_json().replace("{name}", name))


def _ssh(ssh: SshTable, host: HostTable, folder: Path) -> SshSettings:
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


def _transfer(fleet: TransferTable, host: HostTransferTable) -> TransferSettings:
    """Return what holds for a host: its own table first, then the fleet's."""
    chosen = fleet.model_dump(exclude_none=True) | host.model_dump(exclude_none=True)
    chosen.pop("total_bandwidth", None)
    return TransferSettings(**chosen)


def _paths(values: Iterable[str], folder: Path) -> tuple[Path, ...]:
    return tuple(folder / me.expanded(value) for value in values)


def _slot_set(
    name: str, one: SetTable, devices: DevicesTable, checks: tuple[CheckSpec, ...]
) -> SlotSet:
    return SlotSet(
        name=name,
        link=one.link,
        slots=(
            Slot(SlotName.A, devices.A, one.slots.A.mount),
            Slot(SlotName.B, devices.B, one.slots.B.mount),
        ),
        records=one.records,
        staging=one.staging or "",
        mounts=tuple(mount.inner() for mount in one.mounts),
        services=tuple(service.service(one.drain_s) for service in one.services),
        uncovered=one.uncovered,
        drain_s=one.drain_s,
        confirm_s=one.guard_s,
        preflight=tuple(each.trial() for each in one.preflight),
        checks=tuple(check for check in checks if isinstance(check, CommandCheck)),
    )
