import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import mtree
from builder.digest import digest_files
from builder.globs import matcher
from builder.normalise import Override
from builder.scan import scan
from builder.tree import Kind, Node, Tree
from slots.errors import ConfigError


@given(st.binary(max_size=40))
def test_escaped_names_come_back(raw: bytes) -> None:
    word = mtree.escaped(raw)
    assert word.isascii()
    assert not set(word) & set(" \t\n#=*?[")
    assert mtree.unescaped(word) == raw


def test_a_specification_names_every_entry_with_its_keywords(chroot: Path, tmp_path: Path) -> None:
    tree = scan(chroot, matcher(())).tree
    digests = digest_files(tree, 2, lambda _event: None)
    path = tmp_path / "tree.mtree"
    assert mtree.write(tree, digests, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    text = path.read_text().splitlines()
    entries = {one.path: one for one in mtree.parse(text, "the specification")}
    assert entries.keys() == {node.path for node in tree}
    assert entries[b"/etc/shadow"].keywords["mode"] == "0600"
    assert entries[b"/bin/sh"].keywords["inode"] == entries[b"/bin/bash"].keywords["inode"]
    numbers = {node.path: number for number, node in enumerate(tree)}
    assert entries[b"/bin/sh"].sha256 == digests[numbers[b"/bin/bash"]].hex()
    bash = hashlib.sha256((chroot / "bin/bash").read_bytes()).hexdigest()
    assert entries[b"/bin/bash"].sha256 == bash
    assert mtree.unescaped(entries[b"/usr/lib/far"].keywords["link"]).endswith(b"/../z")


def test_a_device_is_written_with_its_numbers() -> None:
    nodes = (
        Node(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, links=2),
        Node(b"/null", Kind.CHARACTER, 0o666, 0, 0, 5, major=1, minor=300),
    )
    assert list(mtree.to_lines(Tree(nodes), {}))[2] == (
        "./null type=char mode=0666 uid=0 gid=0 time=5.0 nlink=1 device=native,1,300\n"
    )


METALOG = """#mtree 2.0
. type=dir uname=root gname=wheel mode=0755 tags=package=runtime
./bin type=dir uname=root gname=wheel mode=0755
./bin/cat type=file uname=root gname=wheel mode=0555 size=17 time=1700000000.0 flags=uarch
./bin/link type=link uname=root gname=wheel mode=0755 link=cat
./dev/null type=char mode=0666 uid=0 gid=0 device=native,0x1,3
"""


def test_a_metalog_of_freebsd_is_read() -> None:
    found = mtree.overrides(
        mtree.parse(METALOG.splitlines(), "METALOG"), "METALOG", {"root": 0}, {"wheel": 0}
    )
    assert found[b"/bin/cat"] == Override(Kind.FILE, 0o555, 0, 0, 1_700_000_000)
    assert found[b"/bin/link"].target == b"cat"
    assert found[b"/dev/null"].device == (1, 3)
    assert found[b""].kind is Kind.DIRECTORY


CLASSIC = """
/set type=file uid=0 gid=0 mode=0644
.               type=dir mode=0755
    etc         type=dir mode=0755
        motd    mode=0444 \\
                gid=5
    ..
    bin         type=dir
/unset gid
        sh\\040x mode=0755
    ..
..
"""


def test_a_nested_specification_with_defaults_is_read() -> None:
    entries = mtree.parse(CLASSIC.splitlines()[:-1], "spec")
    found = mtree.overrides(entries, "spec", {}, {})
    assert found[b"/etc/motd"] == Override(Kind.FILE, 0o444, 0, 5)
    assert found[b"/bin/sh x"] == Override(Kind.FILE, 0o755, 0, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("..", "line 1: .. leaves the root"),
        ("./a/../b type=file", "leaves the root"),
        ("/unknown x", "/unknown is not known"),
        ("./a mode=rwx", "/a: mode=rwx is not understood"),
        ("./a uname=nobody-here", "uname=nobody-here is not understood"),
        ("./a type=door", "type=door is not understood"),
        ("./a device=native,1", "not understood"),
    ],
)
def test_a_wrong_line_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mtree.overrides(mtree.parse([text], "spec"), "spec", {}, {})


INSTALLED = """#/usr/obj/usr/src/amd64.amd64/tmp/legacy/bin/mtree 2.0
./usr/bin/chpass type=file uname=root gname=wheel mode=04555 size=9
./usr/bin/chfn type=file mode=0555 size=9
./usr/bin/less type=file uname=root mode=0555
./etc/link type=link mode=0755 link=a\\sb\\M-C\\M-)\\M^A\\^?
./boot type=dir uname=daemon gname=wheel mode=0755
./boot type=dir mode=0700
./var/run/log type=socket mode=0666 uname=root gname=wheel
"""


def test_a_metalog_gives_to_root_what_install_logs_without_an_owner() -> None:
    assert mtree.is_metalog(INSTALLED)
    assert not mtree.is_metalog("#mtree\n. type=dir\n")
    found = mtree.overrides(
        mtree.parse(INSTALLED.splitlines(), "METALOG"),
        "METALOG",
        {"root": 0, "daemon": 1},
        {"wheel": 0},
        root_is_assumed=True,
    )
    assert found[b"/usr/bin/chfn"] == Override(Kind.FILE, 0o555, 0, 0, owner_is_assumed=True)
    assert found[b"/usr/bin/less"] == Override(Kind.FILE, 0o555, 0, None)
    assert found[b"/etc/link"].target == b"a b\xc3\xa9\x81\x7f"
    assert found[b"/etc/link"].uid == 0


def test_of_an_entry_that_is_told_twice_the_later_keywords_win() -> None:
    found = mtree.overrides(
        mtree.parse(INSTALLED.splitlines(), "m"), "m", {"root": 0, "daemon": 1}, {"wheel": 0}
    )
    assert found[b"/boot"] == Override(Kind.DIRECTORY, 0o700, 1, 0)
    assert found[b"/usr/bin/chfn"].uid is None


def test_sockets_of_a_specification_are_passed_over() -> None:
    found = mtree.overrides(
        mtree.parse(INSTALLED.splitlines(), "m"), "m", {"root": 0, "daemon": 1}, {"wheel": 0}
    )
    assert b"/var/run/log" not in found


def test_names_are_divided_at_no_blank_of_another_script() -> None:
    (entry,) = mtree.parse(["./a\u3000b\u00a0c type=file  mode=0444 "], "m")
    assert entry.path == "/a\u3000b\u00a0c".encode()
    assert entry.keywords == {"type": "file", "mode": "0444"}
