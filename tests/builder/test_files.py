from pathlib import Path

import pytest

from builder import browse
from builder.build import Order, build
from builder.files import added
from builder.recipe import read_recipe
from builder.tree import Node
from slots.errors import BuildError, ConfigError
from slots.events import Event, Notice


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "chroot"
    (source / "etc").mkdir(parents=True)
    (source / "etc/motd").write_text("old")
    (source / "etc/motd").chmod(0o600)
    (source / "bin").symlink_to("usr/bin")
    return tmp_path


def _built(folder: Path, text: str, events: list[Event] | None = None) -> dict[str, Node]:
    (folder / "web.toml").write_text(f'source = "chroot"\n{text}')
    recipe = read_recipe(folder / "web.toml")
    image = folder / "image"
    build(Order(recipe, ("uzip",), image), (events if events is not None else []).append)
    with browse.opened(image) as one:
        return {node.path.decode(): node for node in one.tree()}


def _cat(folder: Path, path: str) -> bytes:
    with browse.opened(folder / "image") as one:
        nodes = [node for node in one.tree() if node.path == path.encode()]
        return b"".join(b"".join(chunks) for _, chunks in one.contents(nodes))


def test_files_come_from_text_from_a_file_and_from_a_template(folder: Path) -> None:
    (folder / "hosts").write_bytes(b"\xff\x00bytes")
    (folder / "conf.j2").write_text(
        "{{ name }}: {% for h in hosts %}{{ h }} {% endfor %}{{ port }}\n"
    )
    nodes = _built(
        folder,
        """
        [variables]
        hosts = ["a", "b"]
        port = 80
        [[files]]
        path = "etc/motd"
        text = "hello\\n"
        [[files]]
        path = "etc/hosts"
        source = "hosts"
        mode = "0640"
        uid = 7
        gid = 70000
        [[files]]
        path = "srv/deep/conf"
        template = "conf.j2"
        variables = { port = 8080 }
        """,
    )
    assert _cat(folder, "/etc/motd") == b"hello\n"
    assert _cat(folder, "/etc/hosts") == b"\xff\x00bytes"
    assert _cat(folder, "/srv/deep/conf") == b"web: a b 8080\n"
    hosts = nodes["/etc/hosts"]
    assert (hosts.mode, hosts.uid, hosts.gid) == (0o640, 7, 70_000)
    assert nodes["/etc/motd"].mode == 0o600
    assert nodes["/srv/deep/conf"].mode == 0o644
    assert nodes["/srv/deep/conf"].mtime_s == nodes[""].mtime_s


def test_a_replaced_file_is_told(folder: Path, events: list[Event]) -> None:
    _built(folder, '[[files]]\npath = "etc/motd"\ntext = ""\n', events)
    assert Notice("replaced by files of the recipe: /etc/motd") in events


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("etc", "file /etc: a directory of this name is in the image"),
        ("bin/sh", "the directory of an added file /bin is a link to usr/bin"),
        ("etc/motd/x", "the directory of an added file /etc/motd is a file"),
    ],
)
def test_a_file_that_has_no_place_is_refused(folder: Path, path: str, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        _built(folder, f'[[files]]\npath = "{path}"\ntext = ""\n')


def test_all_files_that_cannot_be_made_are_named_at_once(folder: Path) -> None:
    (folder / "bad.j2").write_text("line\n{% if %}")
    (folder / "unknown.j2").write_text("{{ prt }}")
    rows = ['source = "gone"', 'template = "bad.j2"', 'template = "unknown.j2"',
            'template = "none.j2"', 'source = "chroot"']  # fmt: skip
    text = "".join(f'[[files]]\npath = "f{n}"\n{row}\n' for n, row in enumerate(rows))
    (folder / "web.toml").write_text(f'source = "chroot"\n{text}')
    with pytest.raises(ConfigError) as caught:
        added(read_recipe(folder / "web.toml"))
    for words in (
        "files[0] (f0): cannot read",
        "bad.j2, line 2:",
        "'prt' is undefined",
        "none.j2: no such file",
        "is no file",
    ):
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[files]]\npath = "x"\n', "give one of text, source and template"),
        ('[[files]]\npath = "x"\ntext = ""\nsource = "y"\n', "give one of text, source"),
        ('[[files]]\npath = "x"\ntext = ""\nvariables = { a = 1 }\n', "are for a template"),
        ('[[files]]\npath = "../x"\ntext = ""\n', "not a path inside"),
        ('sources = ["a"]\n', "give source, or several as sources"),
        ('[[lint.waive]]\ncode = "setid"\nreason = "x"\n', "did you mean set-id?"),
        ('[[lint.waive]]\ncode = "file-size"\nreason = "x"\n', "is 'file-size', not one of"),
        ('[[lint.waive]]\ncode = "socket"\n', "reason is missing"),
    ],
)
def test_a_recipe_that_says_nothing_sensible_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "web.toml").write_text(f'source = "chroot"\n{text}')
    with pytest.raises(ConfigError) as caught:
        read_recipe(folder / "web.toml")
    assert says in caught.value.message


def test_sources_are_laid_over_one_another_by_a_recipe(folder: Path) -> None:
    over = folder / "over"
    (over / "etc").mkdir(parents=True)
    (over / "etc/motd").write_text("over")
    (over / "etc/skip").write_text("skip")
    (folder / "web.toml").write_text(
        'sources = ["chroot", { path = "over", exclude = ["skip"] }]\n'
    )
    recipe = read_recipe(folder / "web.toml")
    build(Order(recipe, ("uzip",), folder / "image"), lambda _event: None)
    assert _cat(folder, "/etc/motd") == b"over"
    with browse.opened(folder / "image") as one:
        assert b"/etc/skip" not in {node.path for node in one.tree()}
