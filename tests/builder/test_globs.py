import pytest

from builder.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.pyc", b"/usr/lib/a.pyc", True),
        ("*.pyc", b"/a.pyc", True),
        ("*.pyc", b"/a.pyc/b", False),
        ("tmp/*", b"/tmp/x", True),
        ("tmp/*", b"/tmp", False),
        ("tmp/*", b"/tmp/x/y", False),
        ("tmp/*", b"/var/tmp/x", False),
        ("var/cache/**", b"/var/cache/a/b", True),
        ("var/cache/**", b"/var/cache", False),
        ("/tmp", b"/tmp", True),
        ("/tmp", b"/var/tmp", False),
        ("tmp/", b"/var/tmp", True),
        ("**/tmp/x", b"/a/b/tmp/x", True),
        ("a?c", b"/abc", True),
        ("a?c", b"/a/c", False),
        ("[ab]x", b"/bx", True),
        ("[!ab]x", b"/bx", False),
        ("[!a]x", b"/b\nx", False),
        ("a.b", b"/axb", False),
        ("*", b"/caf\xe9\n", True),
    ],
)
def test_a_pattern_matches_names_or_paths(pattern: str, path: bytes, matches: bool) -> None:
    assert matcher([pattern])(path) is matches


def test_no_pattern_matches_nothing() -> None:
    assert not matcher([])(b"/a")
