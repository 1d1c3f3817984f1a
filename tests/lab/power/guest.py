"""What the machine boots into: Debian's own commands, the verbs as scripts, images and packs."""

import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from deployer.packs import difference, make
from deployer.releases import FoundRelease
from slots.actions import (
    Arm,
    Confirm,
    Erase,
    Flip,
    HostAction,
    Judge,
    Mount,
    Patch,
    Prove,
    Seal,
    Unmount,
)
from slots.calls import call, fill_call, lock_call, stage_call
from slots.linux import Linux
from slots.manifest import HEAD_BYTES, Artefact, Release
from slots.pack import packed_head
from slots.scripts import guard_payload, library, script, slotctl
from slots.slot import InnerMount, MountKind, Slot, SlotName, SlotSet, Verdict
from tests.lab.chroot import build
from tests.lab.processes import LabError, tool

FORMAT = "squashfs"
VERSIONS = ("1", "2", "3")
TOKEN, NONCE = "0123456789abcdef", "fedcba9876543210"
OF_THE_DISK = ("sh", "dd", "sync", "mv", "ln", "mount", "umount", "wipefs")
OTHERS = ("id", "uname", "head")
GUARD_S = 3600  # it is the power that goes, not the admin
COMMON_BYTES, OWN_BYTES = 1 << 20, 1 << 20
SLOTS = SlotSet(
    name="cgi",
    link="/state/cgi",
    slots=(
        Slot(SlotName.A, "/dev/vda1", "/state/cgi1"),
        Slot(SlotName.B, "/dev/vda2", "/state/cgi2"),
    ),
    records="/state/slots",
    mounts=(InnerMount(MountKind.TMPFS, "tmp", size="1m"),),
)


@dataclass(frozen=True, slots=True)
class Image:
    """One version's image; `name` is what a frontend serves of it."""

    name: str
    found: FoundRelease

    @property
    def artefact(self) -> Artefact:
        """The only artefact of the release."""
        return self.found.artefacts[0]


def images(folder: Path) -> dict[str, Image]:
    """Build the versions: half of each is in all of them."""
    made = {}
    for version in VERSIONS:
        tree = folder / f"tree-{version}"
        (tree / "usr/share").mkdir(parents=True)
        noise = random.Random(0).randbytes(COMMON_BYTES) + random.Random(version).randbytes(
            OWN_BYTES
        )
        (tree / "usr/share/payload").write_bytes(noise)
        (tree / "version").write_text(f"{version}\n")
        built = build(folder, tree, version, formats=(FORMAT,))
        release = Release.from_json((built.folder / "release.json").read_text())
        made[version] = Image(version, FoundRelease(release, built.folder))
    return made


def initramfs(folder: Path, made: dict[str, Image], modules: tuple[Path, ...]) -> Path:
    """Write the initramfs; return its file."""
    root = folder / "root"
    for name in (
        "proc",
        "sys",
        "dev",
        "tmp",
        "state",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "modules",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to("usr/" + {"sbin": "bin"}.get(name, name))
    (root / "usr/sbin").symlink_to("bin")
    _add_commands(root)
    for module in modules:
        shutil.copy(module, root / "modules")
    _add_scripts(root, made)
    shutil.copy(Path(__file__).with_name("init.sh"), root / "init")
    (root / "init").chmod(0o755)
    archive = folder / "initramfs"
    tool(
        "sh",
        "-c",
        'cd "$0" && find . | busybox cpio -o -H newc >"$1" 2>&-',
        str(root),
        str(archive),
    )
    return archive


def _add_commands(root: Path) -> None:
    """Copy the commands that the verbs use.

    Those that touch the disk are this machine's own, with their libraries, as a frontend's are; for
    the others busybox will do, which starts faster.
    """
    needed = re.search(r'^NEEDED="([^"]*)"', library(Linux()).replace("\\\n", ""), re.MULTILINE)
    if needed is None:
        raise LabError("the library does not say which commands it needs")
    bin_ = root / "usr/bin"
    for name in {*needed[1].split(), *OTHERS} - {*OF_THE_DISK}:
        (bin_ / name).symlink_to("busybox")
    for name in ("busybox", *OF_THE_DISK):
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise LabError(f"this machine has no {name} for the frontend")
        shutil.copy(Path(found).resolve(), bin_ / name)
        if name != "busybox":
            _add_libraries(root, found)


def _add_libraries(root: Path, program: str) -> None:
    for name in re.findall(r"(/\S+) \(0x", tool("ldd", program)):
        target = root / "usr" / Path(name.removeprefix("/usr")).relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(Path(name).resolve(), target)


def _add_scripts(root: Path, made: dict[str, Image]) -> None:
    """Write every call that the init may make, and the payloads that follow them."""
    scripts, payloads = root / "scripts", root / "payloads"
    scripts.mkdir()
    payloads.mkdir()

    def add(name: str, text: str) -> None:
        (scripts / name).write_bytes(script(Linux(), SLOTS, text, NONCE))

    def act(name: str, action: HostAction) -> None:
        add(name, call(Linux(), action, TOKEN))

    (root / "slotctl").write_text(slotctl(Linux(), (SLOTS,)))
    act("confirm", Confirm(SlotName.A))
    add("lock", lock_call("the test", TOKEN))
    for slot in SlotName:
        act(f"{slot}-unmount", Unmount(slot))
        act(f"{slot}-erase", Erase(slot))
        act(f"{slot}-mount", Mount(slot, FORMAT))
        armed = Arm(slot, "next", GUARD_S, ())
        act(f"{slot}-arm", armed)
        (payloads / f"{slot}.guard").write_bytes(guard_payload(Linux(), SLOTS, armed, TOKEN))
        act(f"{slot}-flip", Flip(slot))
        act(f"{slot}-judge", Judge(slot, Verdict.GOOD))
    for version, image in made.items():
        artefact, release = image.artefact, image.found.release
        data = image.found.path(artefact).read_bytes()
        (payloads / f"{version}.head").write_bytes(packed_head(data[:HEAD_BYTES]))
        (payloads / f"{version}.body").write_bytes(data[HEAD_BYTES:])
        before = made[VERSIONS[VERSIONS.index(version) - 1]]
        pack = payloads / f"{version}.pack"
        patch = difference(before.found, before.artefact, image.found, artefact)
        facts = make(patch, image.found.path(artefact), pack, lambda _: None).facts
        add(f"stage-{version}", stage_call(TOKEN, facts.sha256, facts.size_bytes, 0))
        size, digest, head = artefact.size_bytes, artefact.sha256, artefact.head_sha256
        for slot in SlotName:
            add(f"{slot}-fill-{version}", fill_call(TOKEN, slot, artefact))
            act(f"{slot}-seal-{version}", Seal(slot, artefact, release.id))
            act(f"{slot}-prove-{version}", Prove(slot, release.id, FORMAT, size, digest, head))
            act(
                f"{slot}-patch-{version}",
                Patch(slot, artefact, facts.sha256, before.artefact.sha256),
            )
