import json
from dataclasses import replace
from pathlib import Path

import pytest

from builder.build import build
from builder.lint import RULES, Finding, Limits, Severity, Waiver, judge, lint, summaries
from builder.recipe import LintSettings, WaiverSettings
from builder.tree import Kind, Node, Tree
from slots.errors import BuildError
from slots.events import Event, Notice
from tests.builder.command import image
from tests.builder.conftest import order
from tests.builder.trees import make_socket

ROOT = Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 1)
FOLDERS = [Node(path, Kind.DIRECTORY, 0o755, 0, 0, 1) for path in (b"/dev", b"/etc", b"/tmp")]


def _file(path: bytes, **changes: object) -> Node:
    return Node(path, Kind.FILE, 0o644, 0, 0, 1)._replace(**changes)  # type: ignore[arg-type]


def _link(path: bytes, target: bytes) -> Node:
    return Node(path, Kind.SYMLINK, 0o777, 0, 0, 1, target=target)


def _lint(*nodes: Node, **limits: Limits) -> list[Finding]:
    return lint(Tree.of([ROOT, *FOLDERS, *nodes]), limits)


def _found(*nodes: Node, **limits: Limits) -> list[tuple[str, bytes]]:
    return [(one.code, one.path) for one in _lint(*nodes, **limits)]


def test_an_ordinary_tree_has_no_finding() -> None:
    assert _found(_file(b"/etc/motd"), _link(b"/etc/m", b"motd"), _link(b"/m", b"/etc/m")) == []


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (_file(b"/su", mode=0o4755), "set-id"),
        (_file(b"/sg", mode=0o2755), "set-id"),
        (_file(b"/open", mode=0o666), "world-writable"),
        (FOLDERS[0]._replace(path=b"/etc/x", mode=0o777), "world-writable"),
        (Node(b"/null", Kind.CHARACTER, 0o600, 0, 0, 1), "device-outside-dev"),
        (Node(b"/etc/sda", Kind.BLOCK, 0o600, 0, 0, 1), "device-outside-dev"),
        (_link(b"/a", b"/gone"), "dangling-link"),
        (_link(b"/a", b"/a"), "dangling-link"),
        (_link(b"/etc/a", b"../../srv/x"), "link-escape"),
        (_link(b"/a", b"/../etc"), "link-escape"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_found_by_its_code(node: Node, code: str) -> None:
    assert _found(node) == [(code, node.path)]


def test_good_neighbours_of_the_rules_are_left_alone() -> None:
    assert (
        _found(
            FOLDERS[0]._replace(path=b"/etc/x", mode=0o1777),
            FOLDERS[0]._replace(path=b"/etc/sgid", mode=0o2755),
            Node(b"/dev/null", Kind.CHARACTER, 0o666, 0, 0, 1),
            _link(b"/etc/mtab", b"/proc/self/mounts"),
            _link(b"/etc/up", b"../etc"),
            _link(b"/relative", b"gone"),
            _link(b"/through", b"/etc/up/up"),
        )
        == []
    )


def test_a_link_to_where_the_recipe_mounts_something_is_no_finding() -> None:
    tree = Tree.of([ROOT, *FOLDERS, _link(b"/a", b"/etc/host/resolv.conf")])
    assert [one.code for one in lint(tree, {})] == ["dangling-link"]
    assert lint(tree, {}, mount_points=[b"/etc/host"]) == []


def test_case_twins_are_told_once_for_each_further_name() -> None:
    nodes = [_file(b"/etc/A"), _file(b"/etc/a"), _file(b"/etc/B"), _file(b"/b")]
    assert _found(*nodes) == [("case-twins", b"/etc/a")]


def test_missing_mount_points_are_found() -> None:
    assert [one.path for one in lint(Tree((ROOT,)), {})] == [b"/dev", b"/tmp"]


@pytest.mark.parametrize(
    ("node", "limits", "code"),
    [
        (_file(b"/f", size=10), Limits(file_bytes=9), "file-size"),
        (_file(b"/" + b"n" * 256), Limits(), "name-length"),
        (_link(b"/l", b"t" * 1024), Limits(target_bytes=1023), "target-length"),
        (_link(b"/l", b""), Limits(), "target-length"),
        (_file(b"/f", links=5), Limits(links=4), "links"),
        (_file(b"/f", uid=2**32), Limits(), "owners"),
        (_file(b"/f", uid=5), Limits(owners=1), "owners"),
        (Node(b"/dev/x", Kind.BLOCK, 0, 0, 0, 1, major=4096), Limits(major=4095), "device-number"),
    ],
)
def test_what_a_format_does_not_hold_is_an_error_that_names_the_format(
    node: Node, limits: Limits, code: str
) -> None:
    findings = _lint(node, squashfs=limits)
    assert [one.code for one in findings] == [code]
    assert findings[0].severity is Severity.ERROR
    assert code == "owners" or "squashfs" in findings[0].detail
    assert code == "target-length" or _found(node) == []


def test_a_waiver_silences_where_it_matches_and_an_unused_one_is_told() -> None:
    findings = _lint(_file(b"/bin", mode=0o4755), _file(b"/su", mode=0o4755))
    used, unused = Waiver("set-id", "/su", "needed"), Waiver("socket", "**", "none here")
    judged = judge(findings, [used, unused])
    assert [one.path for one in judged.findings] == [b"/bin"]
    assert [one.path for one in judged.waived] == [b"/su"]
    assert judged.unused == (unused,)


def test_a_summary_names_the_first_ten_and_the_code() -> None:
    findings = [Finding("set-id", b"/%02d" % number) for number in range(12)]
    (line,) = summaries(findings)
    assert line.endswith("/09 and 2 more [set-id]")


def test_every_rule_has_its_line_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs/image.md").read_text(encoding="utf-8")
    for code, (severity, _) in RULES.items():
        assert f"| `{code}` | {severity} |" in manual


def test_a_build_tells_findings_and_a_waiver_silences_them(
    chroot: Path, tmp_path: Path, events: list[Event]
) -> None:
    plain = order(chroot, tmp_path / "image")
    build(plain, events.append)
    told = [one.message for one in events if isinstance(one, Notice)]
    assert any(line.endswith("/bin/bash, /bin/sh [set-id]") for line in told)
    waiver = WaiverSettings(code="set-id", match="bin/*", reason="the test's own")
    recipe = plain.recipe.model_copy(update={"lint": LintSettings(waive=(waiver,))})
    events.clear()
    build(replace(plain, recipe=recipe), events.append)
    assert not any("[set-id]" in one.message for one in events if isinstance(one, Notice))


def test_a_file_too_large_for_cd9660_is_refused_by_name_before_it_is_read(
    chroot: Path, tmp_path: Path
) -> None:
    with (chroot / "huge").open("wb") as file:
        file.truncate(2**32)
    for format_ in ("uzip", "iso9660"):
        with pytest.raises(BuildError, match=r"/huge \(4,294,967,296 bytes, .* \[file-size\]"):
            build(order(chroot, tmp_path / "out" / "image", format_), lambda _event: None)
        assert list((tmp_path / "out").iterdir()) == []


def test_the_command_tells_findings_of_a_directory_and_of_an_image(
    chroot: Path, tmp_path: Path
) -> None:
    make_socket(chroot, "log")
    done = image("lint", str(chroot))
    assert done.exit_code == 0
    assert "warning: socket: /log\n" in done.stdout
    assert "notice: set-id: /bin/sh (mode 4755, owner " in done.stdout
    build(order(chroot, tmp_path / "image"), lambda _event: None)
    done = image("lint", "--json", str(tmp_path / "image"))
    answer = json.loads(done.stdout)
    assert answer["schema"] == "flipslot.lint/1"
    assert {"set-id", "mount-point-missing"} <= {one["code"] for one in answer["findings"]}
    assert "socket" not in {one["code"] for one in answer["findings"]}


def test_an_error_makes_the_command_fail_with_9(chroot: Path) -> None:
    with (chroot / "huge").open("wb") as file:
        file.truncate(2**32)
    done = image("lint", str(chroot))
    assert done.exit_code == 9
    assert "error: file-size: /huge" in done.stdout
    assert image("lint", "--format", "squashfs", str(chroot)).exit_code == 0
