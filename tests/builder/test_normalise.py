from dataclasses import replace

import pytest

from builder.hardlinks import with_links
from builder.normalise import TIME_MAX_S, Override, OwnerRule, Rules, normalise, path_of
from builder.stamps import Stamp
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError, ConfigError
from slots.events import Event, Notice

STAMP = Stamp(1, 2, 3, 4, 5).packed()
ROOT = Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 50, stamp=STAMP)
ETC = Node(b"/etc", Kind.DIRECTORY, 0o755, 3, 4, 60, stamp=STAMP)
MOTD = Node(b"/etc/motd", Kind.FILE, 0o4755, 3, 4, -7, content=b"", stamp=STAMP)
RUN = Node(b"/run", Kind.SYMLINK, 0o777, 0, 0, 2**40, target=b"var/run", stamp=STAMP)
TREE = Tree.of((ROOT, ETC, MOTD, RUN))


def _normal(
    rules: Rules, overrides: dict[bytes, Override] | None = None
) -> tuple[dict[bytes, Node], list[Event]]:
    events: list[Event] = []
    tree = normalise(TREE, rules, overrides or {}, events.append)
    return {node.path: node for node in tree}, events


def test_times_are_clamped_to_what_all_formats_know_with_one_notice() -> None:
    nodes, events = _normal(Rules())
    assert nodes[b"/etc/motd"].mtime_s == 0
    assert nodes[b"/run"].mtime_s == TIME_MAX_S
    assert events == [Notice("times outside 1970 to 2038 are clamped: /etc/motd, /run")]


def test_an_epoch_clamps_later_times_and_leaves_earlier_ones() -> None:
    nodes, _ = _normal(Rules(epoch_s=55))
    assert [nodes[path].mtime_s for path in (b"", b"/etc", b"/etc/motd", b"/run")] == [
        50, 55, 0, 55,
    ]  # fmt: skip
    nodes, _ = _normal(Rules(epoch_s=2**33))
    assert nodes[b"/run"].mtime_s == TIME_MAX_S


def test_missing_mount_points_are_made_with_their_parents_and_said() -> None:
    nodes, events = _normal(Rules(mount_points=("etc/host", "etc", "a/b")))
    assert Notice("mount points made: /etc/host, /a, /a/b") in events
    assert nodes[b"/etc/host"].uid == 3
    assert nodes[b"/etc"].links == 3
    assert nodes[b""].links == 4
    assert list(nodes) == [b"", b"/a", b"/a/b", b"/etc", b"/etc/host", b"/etc/motd", b"/run"]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (Rules(mount_points=("run",)), "mount point /run is a link to var/run"),
        (Rules(mount_points=("etc/motd/x",)), "mount point /etc/motd is a file"),
        (Rules(links=(("no/resolv.conf", "x"),)), "its directory is not in the image"),
        (Rules(links=(("etc", "x"),)), "a directory of this name"),
    ],
)
def test_what_cannot_be_added_is_named(rules: Rules, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        _normal(rules)


@pytest.mark.parametrize("text", ["", "/", "a/../b", ".", "a/."])
def test_a_path_outside_the_image_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a path inside"):
        path_of(text)


def test_later_owner_rules_win_and_links_keep_their_mode() -> None:
    rules = (
        OwnerRule("**", uid=1, gid=1, mode=0o600),
        OwnerRule("motd", gid=2, mode=0o4711),
        OwnerRule("/", uid=9),
    )
    nodes, _ = _normal(Rules(owners=rules))
    assert (nodes[b"/etc/motd"].uid, nodes[b"/etc/motd"].gid) == (1, 2)
    assert nodes[b"/etc/motd"].mode == 0o4711
    assert (nodes[b""].uid, nodes[b""].gid) == (9, 1)
    assert nodes[b"/run"].mode == 0o777


def test_an_override_adds_devices_and_directories_but_no_files() -> None:
    nodes, _ = _normal(
        Rules(),
        {
            b"/dev": Override(Kind.DIRECTORY, 0o555, 0, 0),
            b"/dev/null": Override(Kind.CHARACTER, 0o666, 0, 0, 9, None, (1, 3)),
            b"/etc/motd": Override(mode=0o444),
        },
    )
    assert (nodes[b"/dev/null"].major, nodes[b"/dev/null"].kind) == (1, Kind.CHARACTER)
    assert nodes[b"/etc/motd"].mode == 0o444
    with pytest.raises(BuildError, match="names what is not in the source: /gone"):
        _normal(Rules(), {b"/gone": Override(Kind.FILE)})
    with pytest.raises(BuildError, match="makes /etc a link"):
        _normal(Rules(), {b"/etc": Override(Kind.SYMLINK)})


def test_names_of_one_device_that_only_an_mtree_file_knows_are_one() -> None:
    device = Override(kind=Kind.BLOCK, device=(8, 1), inode=4)
    lone = replace(device, inode=5)
    nodes, _ = _normal(Rules(), {b"/a": device, b"/b": device, b"/c": lone})
    assert [nodes[path].links for path in (b"/a", b"/b", b"/c")] == [2, 2, 1]
    assert nodes[b"/a"].group == nodes[b"/b"].group is not None


def _linked(rules: Rules, overrides: dict[bytes, Override] | None = None) -> set[tuple[int, ...]]:
    """What the three names of one file say of it: one thing, if they are one file still."""
    names = [Node(path, Kind.FILE, 0o555, 5, 6, 7, group=0) for path in (b"/a", b"/b", b"/c")]
    tree = with_links(Tree.of([Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 0), *names]))
    found = normalise(tree, rules, overrides or {}, lambda _event: None)
    assert [node.links for node in found.nodes[1:]] == [3, 3, 3]
    return {(node.mode, node.uid, node.gid, node.mtime_s) for node in found.nodes[1:]}


def test_a_rule_for_one_name_of_a_file_is_for_all_its_names_and_later_ones_win() -> None:
    rules = (OwnerRule("a", uid=1, gid=1), OwnerRule("c", uid=3), OwnerRule("b", mode=0o4755))
    assert _linked(Rules(owners=rules)) == {(0o4755, 3, 1, 7)}
    assert _linked(Rules(owners=tuple(reversed(rules)))) == {(0o4755, 1, 1, 7)}


def test_what_an_mtree_file_says_of_one_name_of_a_file_it_says_of_all() -> None:
    assert _linked(Rules(), {b"/b": Override(uid=70_000)}) == {(0o555, 70_000, 6, 7)}
    said = {b"/a": Override(mode=0o400, uid=1), b"/c": Override(uid=2, mtime_s=9)}
    assert _linked(Rules(), said) == {(0o400, 2, 6, 9)}


def test_names_of_a_metalog_without_an_owner_do_not_hide_the_set_id_bits_of_the_one_that_has() -> (
    None
):
    whole = Override(Kind.FILE, 0o4555, 0, 0)
    assumed = Override(Kind.FILE, 0o555, 0, 0, owner_is_assumed=True)
    told = {b"/a": replace(whole, gid=5), b"/b": assumed, b"/c": assumed}
    assert _linked(Rules(), told) == {(0o4555, 0, 5, 7)}
    assert _linked(Rules(), {b"/a": assumed, b"/b": replace(whole, gid=5)}) == {(0o4555, 0, 5, 7)}


def test_names_of_a_device_that_an_mtree_file_adds_agree() -> None:
    device = Override(kind=Kind.BLOCK, device=(8, 1), inode=4, uid=3)
    nodes, _ = _normal(Rules(), {b"/a": device, b"/b": replace(device, uid=None, mode=0o640)})
    assert {(nodes[path].uid, nodes[path].mode) for path in (b"/a", b"/b")} == {(3, 0o640)}
