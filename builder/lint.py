"""What is wrong, or worth a look, in a tree: rules with codes. Pure.

An error cannot be built: it fails the build. A warning is most likely a mistake, a notice is worth
knowing; both are told and stop nothing. A waiver of the recipe silences a warning or a notice
where it matches, and says why.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from builder.globs import matcher
from builder.names import listed, text
from builder.tree import Kind, Node, Tree

_SET_ID = 0o6000
_WORLD_WRITABLE, _STICKY = 0o002, 0o1000
_HOPS = 40
_UNBOUNDED = 2**64
_RUNTIME = (b"/dev", b"/proc", b"/run", b"/sys", b"/tmp", b"/var/run")
"""Where something is mounted on a frontend: what a link to there finds is not in the image."""
_WANTED_MOUNT_POINTS = (b"/dev", b"/tmp")

Waivable = Literal[
    "case-twins",
    "dangling-link",
    "device-outside-dev",
    "link-escape",
    "mount-point-missing",
    "mounted-inside",
    "set-id",
    "socket",
    "world-writable",
]
Code = Literal[
    Waivable,
    "device-number",
    "file-size",
    "links",
    "name-length",
    "owners",
    "target-length",
    "unreadable",
]


class Severity(StrEnum):
    """What a finding means for a build."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


RULES: Mapping[Code, tuple[Severity, str]] = {
    "unreadable": (Severity.ERROR, "cannot be read by who builds"),
    "file-size": (Severity.ERROR, "larger than the format holds"),
    "name-length": (Severity.ERROR, "name longer than the format holds"),
    "target-length": (Severity.ERROR, "symlink target longer than the format holds, or empty"),
    "links": (Severity.ERROR, "more hard links than the format counts"),
    "device-number": (Severity.ERROR, "device number beyond the format"),
    "owners": (Severity.ERROR, "owner beyond 32 bits, or more owners than the format lists"),
    "socket": (Severity.WARNING, "sockets are left out"),
    "dangling-link": (Severity.WARNING, "absolute symlinks to nothing in the image"),
    "link-escape": (Severity.WARNING, "symlinks that leave the chroot by `..`"),
    "world-writable": (Severity.WARNING, "writable by everybody, without the sticky bit"),
    "device-outside-dev": (Severity.WARNING, "device nodes outside /dev"),
    "mount-point-missing": (Severity.WARNING, "no directory to mount on"),
    "mounted-inside": (Severity.NOTICE, "mounted inside, kept as empty mount points"),
    "set-id": (Severity.NOTICE, "run with the rights of their owner or group"),
    "case-twins": (Severity.NOTICE, "names that differ in case alone"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a format holds; None where it has no such limit."""

    file_bytes: int | None = None
    name_bytes: int = 255
    target_bytes: int = 4095
    links: int | None = None
    major: int = 2**32 - 1
    minor: int = 2**32 - 1
    owners: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry that breaks one rule; `detail` is what makes it so."""

    code: Code
    path: bytes
    detail: str = ""

    @property
    def severity(self) -> Severity:
        """What it means for a build."""
        return RULES[self.code][0]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A rule that a recipe silences where it matches, and why."""

    code: Waivable
    match: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Findings by what became of them; `unused` are waivers that match nothing."""

    findings: tuple[Finding, ...]
    waived: tuple[Finding, ...]
    unused: tuple[Waiver, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that no build survives."""
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)


def lint(
    tree: Tree,
    limits: Mapping[str, Limits],
    *,
    left_out: Mapping[Code, Sequence[bytes]] | None = None,
    mount_points: Iterable[bytes] = (),
) -> list[Finding]:
    """Apply every rule. `limits` are those of the formats to be built, by their names.

    `left_out` is what the scan met and the tree does not hold; `mount_points` are places where
    something lies on a frontend.
    """
    found = [Finding(code, path) for code, paths in (left_out or {}).items() for path in paths]
    for node in _standing_out(tree):
        for rule in _NODE_RULES:
            found += rule(node)
    found += _limits(tree, limits)
    found += _links(tree, (*_RUNTIME, *mount_points))
    found += _case_twins(tree)
    found += _mount_points(tree)
    order = list(RULES)
    return sorted(found, key=lambda one: (order.index(one.code), one.path, one.detail))


def judge(findings: Iterable[Finding], waivers: Sequence[Waiver]) -> Judged:
    """Take out what is waived."""
    compiled = [(waiver, matcher([waiver.match])) for waiver in waivers]
    kept: list[Finding] = []
    waived: list[Finding] = []
    used: set[Waiver] = set()
    for one in findings:
        by = [
            waiver for waiver, hit in compiled if waiver.code == one.code and hit(one.path or b"/")
        ]
        used |= set(by)
        (waived if by else kept).append(one)
    unused = tuple(waiver for waiver in waivers if waiver not in used)
    return Judged(tuple(kept), tuple(waived), unused)


def summaries(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each rule that was broken: what it is, the first names, its code."""
    by_code: dict[Code, list[Finding]] = {}
    for one in findings:
        by_code.setdefault(one.code, []).append(one)
    return [f"{RULES[code][1]}: {_named(ones)} [{code}]" for code, ones in by_code.items()]


def _named(findings: Sequence[Finding]) -> str:
    if len(findings) == 1 and findings[0].detail:
        return f"{listed([findings[0].path])} ({findings[0].detail})"
    return listed(list(dict.fromkeys(one.path for one in findings)))


# --- rules that look at one entry ----------------------------------------------------------


def _standing_out(tree: Tree) -> list[Node]:
    """Return what is worth a look: of a hundred thousand entries hardly any."""
    file, folder, bits = Kind.FILE, Kind.DIRECTORY, _SET_ID | _WORLD_WRITABLE
    return [
        node for node in tree if node.mode & bits or not (node.kind is file or node.kind is folder)
    ]


def _set_id(node: Node) -> Iterator[Finding]:
    if node.kind is Kind.FILE and node.mode & _SET_ID:
        yield Finding("set-id", node.path, f"mode {node.mode:04o}, owner {node.uid}:{node.gid}")


def _world_writable(node: Node) -> Iterator[Finding]:
    open_to_all = node.mode & _WORLD_WRITABLE and not node.mode & _STICKY
    if open_to_all and node.kind in {Kind.FILE, Kind.DIRECTORY}:
        yield Finding("world-writable", node.path, f"mode {node.mode:04o}")


def _device_outside_dev(node: Node) -> Iterator[Finding]:
    is_device = node.kind is Kind.CHARACTER or node.kind is Kind.BLOCK
    if is_device and not node.path.startswith(b"/dev/"):
        yield Finding("device-outside-dev", node.path, f"{node.kind} {node.major},{node.minor}")


_NODE_RULES: tuple[Callable[[Node], Iterator[Finding]], ...] = (
    _set_id,
    _world_writable,
    _device_outside_dev,
)


# --- limits of formats ---------------------------------------------------------------------


def _limits(tree: Tree, limits: Mapping[str, Limits]) -> Iterator[Finding]:
    for name, limit in limits.items():
        if not _surely_holds(limit, tree):
            for node in tree:
                yield from _node_limits(node, name, limit)
        owners = {number for node in tree for number in (node.uid, node.gid)}
        if limit.owners is not None and len(owners) > limit.owners:
            yield Finding("owners", b"", f"{name} lists {limit.owners:,}, not {len(owners):,}")


def _surely_holds(limit: Limits, tree: Tree) -> bool:
    """Tell whether no entry can be beyond a limit; a path is as long as its name at least."""
    symlink = Kind.SYMLINK
    targets = [len(node.target) for node in tree if node.kind is symlink]
    owners = {number for node in tree for number in (node.uid, node.gid)}
    return (
        _most(tree, "size") <= (limit.file_bytes or _UNBOUNDED)
        and _most(tree, "links") <= (limit.links or _UNBOUNDED)
        and _most(tree, "major") <= limit.major
        and _most(tree, "minor") <= limit.minor
        and max((len(node.path) for node in tree), default=0) <= limit.name_bytes
        and 0 < min(targets, default=1) <= max(targets, default=1) <= limit.target_bytes
        and 0 <= min(owners, default=0) <= max(owners, default=0) < 2**32
    )


def _most(tree: Tree, field: str) -> int:
    return max(map(attrgetter(field), tree), default=0)


def _node_limits(node: Node, name: str, limit: Limits) -> Iterator[Finding]:
    if limit.file_bytes is not None and node.size > limit.file_bytes:
        detail = f"{node.size:,} bytes, {name} holds {limit.file_bytes:,}"
        yield Finding("file-size", node.path, detail)
    if node.kind is Kind.SYMLINK and not 0 < len(node.target) <= limit.target_bytes:
        detail = f"{len(node.target):,} bytes, {name} holds 1 to {limit.target_bytes:,}"
        yield Finding("target-length", node.path, detail)
    if limit.links is not None and node.links > limit.links:
        yield Finding("links", node.path, f"{node.links:,}, {name} counts {limit.links:,}")
    if node.major > limit.major or node.minor > limit.minor:
        yield Finding(
            "device-number",
            node.path,
            f"{node.major},{node.minor}, {name} holds {limit.major},{limit.minor}",
        )
    if len(node.path) > limit.name_bytes and len(node.name) > limit.name_bytes:
        detail = f"{len(node.name)} bytes, {name} holds {limit.name_bytes}"
        yield Finding("name-length", node.path, detail)
    if not (0 <= node.uid < 2**32 and 0 <= node.gid < 2**32):
        yield Finding("owners", node.path, f"{node.uid}:{node.gid}")


# --- symlinks ------------------------------------------------------------------------------


def _links(tree: Tree, mount_points: Iterable[bytes]) -> Iterator[Finding]:
    mounted, symlink = frozenset(mount_points), Kind.SYMLINK
    links = [node for node in tree if node.kind is symlink]
    nodes = {node.path: node for node in tree} if links else {}
    for node in links:
        is_absolute = node.target.startswith(b"/")
        if not is_absolute and b".." not in node.target:
            continue
        walk = _Walk(nodes, mounted)
        reached = walk.follow(node.parent, node.target)
        if walk.escaped:
            yield Finding("link-escape", node.path, f"to {text(node.target)}")
        elif is_absolute and not reached:
            yield Finding("dangling-link", node.path, f"to {text(node.target)}")


class _Walk:
    """The way of a symlink through a tree, as a kernel goes it inside the chroot."""

    def __init__(self, nodes: Mapping[bytes, Node], mounted: frozenset[bytes]) -> None:
        self._nodes, self._mounted = nodes, mounted
        self.escaped = False

    def follow(self, here: bytes, target: bytes) -> bool:
        """Tell whether something is found; what lies on a mount counts as found."""
        at, hops = (b"" if target.startswith(b"/") else here), 0
        waiting = _parts(target)
        while waiting:
            part = waiting.pop()
            if part == b"..":
                self.escaped = self.escaped or not at
                at = at.rpartition(b"/")[0]
                continue
            path = at + b"/" + part
            node = self._nodes.get(path)
            if path in self._mounted or node is None:
                return path in self._mounted
            if node.kind is Kind.SYMLINK:
                hops += 1
                if hops > _HOPS:
                    return False
                at = b"" if node.target.startswith(b"/") else at
                waiting += _parts(node.target)
            else:
                at = path
        return True


def _parts(target: bytes) -> list[bytes]:
    """Return the names of a target, the first one last."""
    return [part for part in reversed(target.split(b"/")) if part not in {b"", b"."}]


# --- rules that look at the whole ----------------------------------------------------------


def _case_twins(tree: Tree) -> Iterator[Finding]:
    folded = {low for node in tree if (low := node.path.lower()) != node.path}
    alike = [node for node in tree if node.path.lower() in folded]  # of twins, one is not folded
    count = Counter(node.path.lower() for node in alike)
    seen: dict[bytes, bytes] = {}
    for node in alike:  # twins fold to one path, and hardly any other
        if count[node.path.lower()] > 1:
            twin = seen.setdefault(node.parent + b"/" + node.name.lower(), node.path)
            if twin != node.path:
                yield Finding("case-twins", node.path, f"and {text(twin.rpartition(b'/')[2])}")


def _mount_points(tree: Tree) -> Iterator[Finding]:
    file = Kind.FILE
    directories = {node.path for node in tree if node.kind is not file}
    for path in _WANTED_MOUNT_POINTS:
        if path not in directories:
            yield Finding("mount-point-missing", path)
