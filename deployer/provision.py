"""What a new frontend is set up with, decided from what it says of itself. Pure.

Partitions are looked at and never made or changed. What is as it should be is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import dirname

from deployer.refusals import unfit
from deployer.wording import megabytes
from slots.errors import LockedError, Refused
from slots.hooks import File, Found, Hook, PathState
from slots.slot import FrontendState, SlotName, SlotSet


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that must be there."""

    path: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Program:
    """A file that must be there, to the bit."""

    file: File
    purpose: str


@dataclass(frozen=True, slots=True)
class Enabled:
    """The hook is called at boot."""

    system: str


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is wanted, and whether it is so already."""

    wanted: Folder | Program | Enabled
    done: bool
    why: str = ""  # what is wrong with what lies there, where that is worth telling


@dataclass(frozen=True, slots=True)
class Setup:
    """All that is wanted on a frontend, in the order in which it is made."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]  # what provisioning leaves to the admin

    @property
    def to_do(self) -> tuple[Item, ...]:
        """What is to be made."""
        return tuple(item for item in self.items if not item.done)


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that may be wanted on a platform, before it is known what starts things at boot there."""

    folders: tuple[Folder, ...]
    slotctl: Program
    hooks: tuple[tuple[str, Program], ...]  # by system
    beside: tuple[tuple[str, str], ...] = ()  # of each other set: its name, a mount point

    @property
    def paths(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The folders and the files of which a host is asked."""
        programs = (self.slotctl, *(program for _, program in self.hooks))
        folders = (*(one.path for one in self.folders), *(path for _, path in self.beside))
        return folders, tuple(one.file.path for one in programs)


def wanted(slots: SlotSet, sets: Sequence[SlotSet], known: Sequence[Hook], slotctl: File) -> Wanted:
    """Return what may be wanted for this set; slotctl and the hook are for all sets of the host."""
    mounts = [Folder(one.mount_point, f"mount point of slot {one.name}") for one in slots.slots]
    hooks = [
        (one.system, Program(File(one.path, one.mode, one.render(slotctl.path, sets)), "boot hook"))
        for one in known
    ]
    return Wanted(
        (
            Folder(slots.records, "records"),
            Folder(dirname(slots.link), "folder of the link"),
            *mounts,
        ),
        Program(slotctl, "slotctl"),
        tuple(hooks),
        tuple(
            (one.name, slot.mount_point)
            for one in sets
            if one.name != slots.name
            for slot in one.slots
        ),
    )


def plan_setup(
    slots: SlotSet, state: FrontendState, ours: Wanted, found: Found
) -> Setup | Refused | LockedError:
    """Return what is to be made, or why nothing can be."""
    refusal = _no_partition(state) or unfit(slots, state, SlotName.A) or _in_the_way(ours, found)
    if refusal is not None:
        return refusal
    folders = [
        Item(one, is_ is PathState.FOLDER)
        for one, is_ in zip(ours.folders, found.folders, strict=False)
    ]
    slotctl, *hooks = found.files
    hook = _hook(ours, found, hooks)
    items = (*folders, _program(ours.slotctl, slotctl), *hook)
    notes = () if hook else (_no_hook(ours),)
    return Setup(tuple(items), (*notes, *_unlike(state), *_not_yet(ours, found)))


def too_small(state: FrontendState, size_bytes: int) -> Refused | None:
    """Return why an image does not fit into both slots: the next rollout takes the other one."""
    for status in state.statuses:
        if status.size_bytes < size_bytes:
            return Refused(
                f"slot {status.slot.name}: {status.slot.device} has "
                f"{megabytes(status.size_bytes)}, the image {megabytes(size_bytes)}",
                hint="make the partition larger: provisioning changes none",
            )
    return None


def describe(item: Item) -> str:
    """Return an item as a line of a plan."""
    match item.wanted:
        case Folder(path, purpose):
            what, verb = f"{path} ({purpose})", "make"
        case Program(file, purpose):
            what, verb = f"{file.path} ({purpose})", "install"
        case Enabled(system):
            what, verb = f"boot hook, called by {system}", "enable"
    why = f" ({item.why})" if item.why else ""
    return f"{what}: {'already so' if item.done else verb}{why}"


def _no_partition(state: FrontendState) -> Refused | None:
    """Name every partition that is missing at once: they are made by hand."""
    missing = [one.slot for one in state.statuses if one.device_kind == "missing"]
    if not missing:
        return None
    named = " and ".join(f"{one.device} of slot {one.name}" for one in missing)
    return Refused(
        f"there is no {named}",
        hint="make the partitions, each larger than an image: provisioning makes and changes none",
    )


def _in_the_way(ours: Wanted, found: Found) -> Refused | None:
    _, files = ours.paths
    folders = [one.path for one in ours.folders]
    states = [*found.folders[: len(folders)], *found.files]
    for path, state in zip((*folders, *files), states, strict=True):
        if state == PathState.OTHER:
            return Refused(f"{path} is there, but is something else", hint="move it away")
    return None


def _not_yet(ours: Wanted, found: Found) -> tuple[str, ...]:
    """Name the sets of the host that a run of their own is still to set up."""
    beside = zip(ours.beside, found.folders[len(ours.folders) :], strict=True)
    names = dict.fromkeys(name for (name, _), is_ in beside if is_ is not PathState.FOLDER)
    return tuple(
        f"the set {name} is not set up here yet: deploy provision --set {name}" for name in names
    )


def _as_wanted(file: File, found: str) -> bool:
    return found == f"{file.sha256} {file.mode:o}"


def _program(program: Program, found: str) -> Item:
    """Return a file that is wanted; a mode that lets others read what is secret is told."""
    _, _, mode = found.partition(" ")
    open_to_others = mode != "" and int(mode, 8) & ~program.file.mode & 0o077
    why = f"its mode is {int(mode, 8):04o}: others may read it" if open_to_others else ""
    return Item(program, _as_wanted(program.file, found), why)


def _hook(ours: Wanted, found: Found, files: Sequence[str]) -> tuple[Item, ...]:
    """Return the hook of this machine: changed, it is enabled anew."""
    for (system, program), is_ in zip(ours.hooks, files, strict=True):
        if system == found.system:
            same = _as_wanted(program.file, is_)
            return Item(program, same), Item(Enabled(system), same and found.enabled)
    return ()


def _no_hook(ours: Wanted) -> str:
    path = ours.slotctl.file.path
    if not ours.hooks:
        return f"a sandbox has no boot: `{path} boot` mounts and serves by hand"
    return (
        "nothing known starts services at boot here: have the machine's own start call "
        f"`{path} boot` before the services, and its end `{path} stop` after them"
    )


def _unlike(state: FrontendState) -> tuple[str, ...]:
    first, second = state.statuses
    if first.size_bytes == second.size_bytes:
        return ()
    sizes = f"{megabytes(first.size_bytes)} and {megabytes(second.size_bytes)}"
    return (f"the slots differ in size ({sizes}): the smaller one is what an image must fit into",)
