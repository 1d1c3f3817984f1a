"""A scanned tree → the tree that goes into every format. Pure: the same input, the same tree."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from builder.globs import Matcher, matcher
from builder.hardlinks import with_links
from builder.names import listed, shown
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError, ConfigError
from slots.events import Emit, Notice

TIME_MAX_S = 2**31 - 1
"""cd9660 and squashfs 4 have no later second; a time before 1970 reads as 0."""

MOUNT_POINT_MODE = 0o755
FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class OwnerRule:
    """Owner and mode of the entries that match; None leaves them as they are."""

    match: str
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that the recipe adds; None of owner and mode: of what it replaces, else usual ones."""

    path: bytes
    content: str | bytes
    size: int
    stamp: bytes | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None

    def holding(self, content: str | bytes, size: int, stamp: bytes | None = None) -> "NewFile":
        """Return the same file with this content."""
        return replace(self, content=content, size=size, stamp=stamp)


@dataclass(frozen=True, slots=True)
class Override:
    """What an mtree(5) file says of one entry; None leaves it as it is."""

    kind: Kind | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_s: int | None = None
    target: bytes | None = None
    device: tuple[int, int] | None = None
    inode: int | None = None  # shared by the names of one hard-linked entry
    is_optional: bool = False  # may be missing
    owner_is_assumed: bool = False  # it says nothing of an owner: root's


@dataclass(frozen=True, slots=True)
class Rules:
    """What a recipe changes of a tree."""

    mount_points: tuple[str, ...] = ()
    files: tuple[NewFile, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    owners: tuple[OwnerRule, ...] = ()
    epoch_s: int | None = None


def normalise(tree: Tree, rules: Rules, overrides: Mapping[bytes, Override], emit: Emit) -> Tree:
    """Add what the frontends need, set owners, clamp times; the result is in tree order.

    The links of the given tree are counted already.
    """
    given = tree
    tree = _with_mount_points(tree, rules.mount_points, emit)
    if rules.files:
        tree = _with_files(tree, rules.files, emit)
    if rules.links:
        tree = _with_symlinks(tree, rules.links, emit)
    if rules.owners:
        tree = _each(tree, _owners(rules.owners, tree))
    if overrides:
        tree = _with_overrides(tree, overrides)
    tree = _with_clamped_times(tree, rules.epoch_s, emit)
    return given if tree is given else with_links(tree)


def path_of(text: str) -> bytes:
    """Return a path of a recipe as a path of a tree."""
    parts = [part for part in text.encode("utf-8", "surrogateescape").split(b"/") if part]
    if not parts or b".." in parts or b"." in parts or "\0" in text:
        raise ConfigError(f"{text!r} is not a path inside the image")
    return b"".join(b"/" + part for part in parts)


def _each(tree: Tree, change: Callable[[Node], Node]) -> Tree:
    return Tree(tuple(change(node) for node in tree))


def _with_mount_points(tree: Tree, wanted: Iterable[str], emit: Emit) -> Tree:
    nodes = {node.path: node for node in tree}
    made: list[bytes] = []
    for path in map(path_of, wanted):
        parts = path.split(b"/")
        for end in range(2, len(parts) + 1):
            made += _directory(nodes, b"/".join(parts[:end]))
    if not made:
        return tree
    emit(Notice(f"mount points made: {listed(made)}"))
    return Tree.of(nodes.values())


def _directory(nodes: dict[bytes, Node], path: bytes, what: str = "mount point") -> list[bytes]:
    """Make a directory if it is missing, owned and dated like its parent; return what was made."""
    found = nodes.get(path)
    if found is None:
        parent = nodes[path.rpartition(b"/")[0]]
        nodes[path] = Node(
            path, Kind.DIRECTORY, MOUNT_POINT_MODE, parent.uid, parent.gid, parent.mtime_s
        )
        return [path]
    if found.kind is not Kind.DIRECTORY:
        target = f" to {shown(found.target)}" if found.kind is Kind.SYMLINK else ""
        raise BuildError(
            f"{what} {shown(path)} is a {found.kind}{target}, not a directory",
            hint="name the directory behind it",
        )
    return []


def _with_files(tree: Tree, files: Iterable[NewFile], emit: Emit) -> Tree:
    nodes = {node.path: node for node in tree}
    replaced: list[bytes] = []
    for file in files:
        folder = file.path.rpartition(b"/")[0]
        parts = folder.split(b"/")
        for end in range(2, len(parts) + 1):
            _directory(nodes, b"/".join(parts[:end]), "the directory of an added file")
        found = nodes.get(file.path)
        if found is not None and found.kind is Kind.DIRECTORY:
            raise BuildError(f"file {shown(file.path)}: a directory of this name is in the image")
        if found is not None:
            replaced.append(file.path)
        nodes[file.path] = _added(file, found, nodes[folder])
    if replaced:
        emit(Notice(f"replaced by files of the recipe: {listed(replaced)}"))
    return Tree.of(nodes.values())


def _added(file: NewFile, found: Node | None, parent: Node) -> Node:
    """Return a new file: owned as what it replaces, else as its directory, and dated like it."""
    like = parent if found is None else found
    usual = found.mode if found is not None and found.kind is Kind.FILE else FILE_MODE
    return Node(
        path=file.path,
        kind=Kind.FILE,
        mode=usual if file.mode is None else file.mode,
        uid=like.uid if file.uid is None else file.uid,
        gid=like.gid if file.gid is None else file.gid,
        mtime_s=like.mtime_s,
        size=file.size,
        content=file.content,
        stamp=file.stamp,
    )


def _with_symlinks(tree: Tree, wanted: Iterable[tuple[str, str]], emit: Emit) -> Tree:
    nodes = {node.path: node for node in tree}
    replaced: list[bytes] = []
    for name, target_text in wanted:
        path, target = path_of(name), target_text.encode("utf-8", "surrogateescape")
        parent = nodes.get(path.rpartition(b"/")[0])
        found = nodes.get(path)
        if parent is None or parent.kind is not Kind.DIRECTORY:
            raise BuildError(f"link {name}: its directory is not in the image")
        if found is not None and found.kind is Kind.DIRECTORY:
            raise BuildError(f"link {name}: a directory of this name is in the image")
        if found is not None and found.target != target:
            replaced.append(path)
        nodes[path] = Node(
            path, Kind.SYMLINK, 0o777, parent.uid, parent.gid, parent.mtime_s, target=target
        )
    if replaced:
        emit(Notice(f"replaced by links: {listed(replaced)}"))
    return Tree.of(nodes.values())


def _owners(rules: Iterable[OwnerRule], tree: Tree) -> Callable[[Node], Node]:
    """Return what sets owners: later rules win. One for a name of a file is for all its names."""
    linked = [node for node in tree if node.group is not None]
    compiled = [(_rule_matcher(rule), rule) for rule in rules]
    told = [({one.group for one in linked if hit(one.path)}, hit, rule) for hit, rule in compiled]

    def change(node: Node) -> Node:
        for groups, matches, rule in told:
            if node.group in groups or matches(node.path):
                node = node._replace(
                    uid=node.uid if rule.uid is None else rule.uid,
                    gid=node.gid if rule.gid is None else rule.gid,
                    mode=_mode(node, rule.mode),
                )
        return node

    return change


def _rule_matcher(rule: OwnerRule) -> Matcher:
    matches, is_of_root = matcher([rule.match]), rule.match in {"/", "**"}
    return lambda path: matches(path) if path else is_of_root or matches(b"/")


def _mode(node: Node, wanted: int | None) -> int:
    return node.mode if wanted is None or node.kind is Kind.SYMLINK else wanted


def _with_overrides(tree: Tree, overrides: Mapping[bytes, Override]) -> Tree:
    nodes = {node.path: node for node in tree}
    missing: list[bytes] = []
    for path, override in sorted(_agreeing(nodes, overrides).items()):
        found = nodes.get(path)
        if found is not None:
            nodes[path] = _overridden(found, override)
        elif override.kind is Kind.FILE and not override.is_optional:
            missing.append(path)
        elif override.kind is not None and override.kind is not Kind.FILE:
            nodes[path] = _overridden(_new(nodes, path), override)
    if missing:
        raise BuildError(
            f"the mtree file names what is not in the source: {listed(missing)}",
            hint="a file that may be missing has the keyword `optional`",
        )
    return Tree.of(nodes.values())


def _agreeing(
    nodes: Mapping[bytes, Node], overrides: Mapping[bytes, Override]
) -> dict[bytes, Override]:
    """Return overrides that say the same of all names of one file, of which there is one owner.

    A METALOG tells the owner and the set-id bits of a file with one of its names alone. What names
    an owner goes before what does not; else the later name's word holds.
    """
    groups: dict[int, list[bytes]] = {}
    for path in sorted(nodes.keys() | overrides.keys()):
        if (group := _group(nodes.get(path), overrides.get(path))) is not None:
            groups.setdefault(group, []).append(path)
    agreeing = dict(overrides)
    for paths in groups.values():
        said = [overrides[path] for path in paths if path in overrides]
        told = Override()
        for one in sorted(said, key=lambda one: not one.owner_is_assumed):
            told = _with_attributes(told, one)
        if said:
            agreeing |= {
                path: _with_attributes(overrides.get(path, Override()), told) for path in paths
            }
    return agreeing


def _group(node: Node | None, override: Override | None) -> int | None:
    if node is not None:
        return node.group
    return None if override is None or override.inode is None else -1 - override.inode


def _with_attributes(below: Override, above: Override) -> Override:
    """Return the lower override with what the upper one says of owner, mode and time."""
    return replace(
        below,
        mode=below.mode if above.mode is None else above.mode,
        uid=below.uid if above.uid is None else above.uid,
        gid=below.gid if above.gid is None else above.gid,
        mtime_s=below.mtime_s if above.mtime_s is None else above.mtime_s,
    )


def _new(nodes: Mapping[bytes, Node], path: bytes) -> Node:
    """Return an entry that only the mtree file knows: a directory, a symlink, a device, a fifo."""
    parent = nodes.get(path.rpartition(b"/")[0])
    if parent is None or parent.kind is not Kind.DIRECTORY:
        raise BuildError(f"the mtree file names {shown(path)}, whose directory is not in the tree")
    return Node(path, Kind.DIRECTORY, 0o755, parent.uid, parent.gid, parent.mtime_s)


def _overridden(node: Node, override: Override) -> Node:
    kind, node_kind = override.kind or node.kind, node.kind
    if kind is not node.kind:
        if Kind.DIRECTORY in {kind, node.kind} and node.stamp is not None:
            raise BuildError(f"the mtree file makes {shown(node.path)} a {kind}: it is {node.kind}")
        if kind is Kind.FILE:
            raise BuildError(f"the mtree file makes {shown(node.path)} a file: it is {node.kind}")
        group = _group(None, override)  # apart from the scan's
        node = node._replace(kind=kind, size=0, content=None, group=group)
    is_device = kind in {Kind.CHARACTER, Kind.BLOCK}
    if is_device and kind is not node_kind and override.device is None:
        raise BuildError(f"the mtree file makes {shown(node.path)} a {kind} without `device`")
    major, minor = override.device or (node.major, node.minor)
    return node._replace(
        mode=_mode(node, override.mode) if kind is not Kind.SYMLINK else 0o777,
        uid=node.uid if override.uid is None else override.uid,
        gid=node.gid if override.gid is None else override.gid,
        mtime_s=node.mtime_s if override.mtime_s is None else override.mtime_s,
        target=node.target if override.target is None else override.target,
        major=major,
        minor=minor,
    )


def _with_clamped_times(tree: Tree, epoch_s: int | None, emit: Emit) -> Tree:
    """Keep every time between 1970 and the epoch, or the last second that all formats know."""
    latest_s = TIME_MAX_S if epoch_s is None else min(epoch_s, TIME_MAX_S)
    if all(0 <= node.mtime_s <= latest_s for node in tree):
        return tree
    strange = [node.path for node in tree if not 0 <= node.mtime_s <= TIME_MAX_S]
    if strange:
        emit(Notice(f"times outside 1970 to 2038 are clamped: {listed(strange)}"))
    return _each(
        tree,
        lambda node: (
            node
            if 0 <= node.mtime_s <= latest_s
            else node._replace(mtime_s=max(0, min(node.mtime_s, latest_s)))
        ),
    )
