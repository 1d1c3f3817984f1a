"""What each frontend is now, as a table: a line per slot, and what is too long for one. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from deployer.image import identify, same_bytes
from deployer.inventory import Host
from deployer.plan import rollback_hindrance
from deployer.wording import age, percent, told
from slots import hooks
from slots.manifest import Release
from slots.platform import PLATFORMS
from slots.slot import DeviceKind, FrontendState, SlotSet, SlotStatus, active

StatusRow = Mapping[str, str]
STATUS_COLUMNS = (
    "host", "slot", "serves", "state", "rollback",
    "image", "verdict", "mount", "full", "digest", "format",
)  # fmt: skip
LEFT_OUT_FIRST = ("format", "digest", "full", "mount", "verdict", "image")
GAP = "  "
NAMED = 3  # of releases with the same bytes


def status_table(rows: Sequence[StatusRow], width: int | None) -> list[str]:
    """Return the head and a line per row; what a narrow terminal has no room for is left out."""
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows)) if rows else len(name)
        for name in STATUS_COLUMNS
    }
    left_out: list[str] = []
    for name in LEFT_OUT_FIRST:
        if width is None or sum(widths.values()) + len(GAP) * (len(widths) - 1) <= width:
            break
        del widths[name]
        left_out.append(name)
    heads = {name: name for name in widths}
    lines = [
        GAP.join(row[name].ljust(room) for name, room in widths.items()).rstrip()
        for row in (heads, *rows)
    ]
    if left_out:
        lines.append(f"(no room here for {', '.join(reversed(left_out))}; --json has all)")
    return lines


def status_rows(
    host: Host, slots: SlotSet, state: FrontendState, known: Sequence[Release]
) -> Iterator[StatusRow]:
    """Yield a row per slot of a frontend."""
    served = active(slots, state)
    ready = rollback_hindrance(slots, state, known) is None
    for status in state.statuses:
        name = status.slot.name
        image = identify(status, known)
        lost = " (record lost)" if image is not None and status.holds is None else ""
        mount = "mounted" if status.mounted else "not mounted"
        yield {
            "host": host.name,
            "slot": str(name),
            "serves": "active" if name is served else "-",
            "state": "missing" if status.device_kind is DeviceKind.MISSING else str(status.state),
            "rollback": "-" if name is served else "ready" if ready else "no",
            "image": f"{image.release}{lost}" if image else "-",
            "verdict": str(status.verdict or "-"),
            "mount": "wrong" if status.mount_note else mount,
            "full": f"{percent(image.size_bytes, status.size_bytes)} %" if image else "-",
            "digest": f"{image.sha256[:12]}{_proof(status, state)}" if image else "-",
            "format": image.format if image else "-",
        }


def status_notes(
    host: Host, slots: SlotSet, state: FrontendState, known: Sequence[Release]
) -> Iterator[str]:
    """Yield what is too long for the table."""
    if state.boot is not None:
        ago = age(state.clock_epoch_s - state.boot.at_epoch_s)
        yield f"at the boot {ago} ago: {state.boot.text}"
    if slotctl_is_stale(host, slots, state):
        yield (
            "slotctl there is not what this inventory and version would install "
            f"(deploy provision --hosts {host.name} --no-image)"
        )
    if state.guard is not None:
        yield told(state.guard)
    hindrance = rollback_hindrance(slots, state, known)
    if hindrance is not None:
        yield f"no rollback: {hindrance}"
    for status in state.statuses:
        image = identify(status, known)
        if image is not None and (names := same_bytes(image, known)):
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            these = ", ".join(names[:NAMED])
            yield f"slot {status.slot.name}: {image.release} has the same bytes as {these}{more}"
        if status.mount_note:
            yield f"slot {status.slot.name}: {status.mount_note}"
        if status.missing_mounts:
            yield f"slot {status.slot.name} lacks its mount {', '.join(status.missing_mounts)}"


def slotctl_is_stale(host: Host, slots: SlotSet, state: FrontendState) -> bool:
    """Tell whether the installed slotctl, if there is one, differs from what would be installed."""
    if not state.slotctl_sha256:
        return False
    sets = tuple(host.sets.values())
    wanted = hooks.slotctl_file(PLATFORMS[state.platform], slots.records, sets)
    return wanted.sha256 != state.slotctl_sha256


def _proof(status: SlotStatus, state: FrontendState) -> str:
    if status.damaged:
        return " damaged"
    age_s = proof_age_s(status, state)
    return " unproven" if age_s is None else f" proven {age(age_s)} ago"


def proof_age_s(status: SlotStatus, state: FrontendState) -> int | None:
    """Return how long ago the slot was read back, by the host's own clock; None: unproven."""
    if not status.proven or status.proof is None:
        return None
    return max(0, state.clock_epoch_s - status.proof.at_epoch_s)
