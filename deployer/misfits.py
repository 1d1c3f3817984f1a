"""What in an inventory does not fit together, although each field by itself is right."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from deployer.tables import DevicesTable, FleetFile, HostTable, SetTable
from slots.settings import nearest


def clashes(
    file: FleetFile, set_names: Iterable[str], *, wrong_mirrors: bool = False
) -> Iterator[str]:
    """Yield what is wrong although each field by itself is right.

    Of mirrors that are wrong by themselves it is not said too that there are none.
    """
    for name, one in file.sets.items():
        yield from (f"sets.{name}: {fault}" for fault in _set_faults(one))
    yield from _set_clashes(file.sets)
    yield from _unknown_sets(file, frozenset(set_names))
    yield from _shared_devices(file)
    yield from _shared_places(file)
    if not wrong_mirrors:
        yield from _missing_mirrors(file)


def _missing_mirrors(file: FleetFile) -> Iterator[str]:
    for name, host in file.hosts.items():
        own, fleet = host.transfer, file.transfer
        if (own.source or fleet.source) == "http" and not (own.mirrors or fleet.mirrors):
            where = f"hosts.{name}.transfer" if own.source else "transfer"
            yield f'{where}: source = "http" needs mirrors'


def _set_faults(one: SetTable) -> Iterator[str]:
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


def _set_clashes(sets: Mapping[str, SetTable]) -> Iterator[str]:
    """Yield what two sets may not share: they would overwrite or hide one another."""
    for (name, one), (other_name, other) in combinations(sets.items(), 2):
        for path in (one.link, one.slots.A.mount, one.slots.B.mount):
            for other_path in (other.link, other.slots.A.mount, other.slots.B.mount):
                if _nested(path, other_path):
                    yield f"sets {name} and {other_name} share {other_path}"


def _unknown_sets(file: FleetFile, set_names: frozenset[str]) -> Iterator[str]:
    for name, host in file.hosts.items():
        for set_name in host.slots.keys() - set_names:
            hint = nearest(set_name, set_names)
            meant = f" (did you mean {hint}?)" if hint else ""
            yield f"hosts.{name}.slots.{set_name}: there is no set {set_name}{meant}"


def _shared_devices(file: FleetFile) -> Iterator[str]:
    """Yield each device that two slots have, once for all hosts on which they do."""
    hosts_of: dict[str, list[str]] = {}
    for name, host in file.hosts.items():
        users: dict[str, str] = {}
        for set_name, pair in devices(file, host).items():
            for slot, device in (("A", pair.A), ("B", pair.B)):
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


def _shared_places(file: FleetFile) -> Iterator[str]:
    places: dict[tuple[str, int | None], str] = {}
    for name, host in file.hosts.items():
        place = ((host.address or name).casefold(), host.port or file.ssh.port)
        if place in places:
            yield f"hosts {places[place]} and {name} are both at {place[0]} port {place[1] or 22}"
        places[place] = name


def devices(file: FleetFile, host: HostTable) -> dict[str, DevicesTable]:
    """Return the devices of every set on a host: its own, else the set's."""
    return {
        name: host.slots.get(name) or DevicesTable(A=one.slots.A.device, B=one.slots.B.device)
        for name, one in file.sets.items()
    }
