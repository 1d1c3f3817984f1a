"""A slot is tried in a real chroot before the flip: what fails leaves the old one serving."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.admin import Admin, linked, served
from tests.lab.chroot import BuiltRelease, build, small_chroot
from tests.lab.frontends import Lab

pytestmark = pytest.mark.lab

CGIS = {
    "wrong": "echo 'an older version'",
    "hangs": "echo begun; sleep 300",
    "who": "id",
    "sick": "exit 9",
}
SCRIPT = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n{body}\n"
LIBRARY = "libfcgi.so.0"
DEADLINE_S = 2
# What is tried, and what is said of it.
FAILING = {
    'kind = "ldd"': f"ldd /: /usr/sbin/fcgiwrap lacks {LIBRARY}",
    'kind = "cgi"\npath = "/usr/lib/cgi-bin/wrong"\ncontains = "version 2.0"': (
        "cgi /usr/lib/cgi-bin/wrong: its output does not contain 'version 2.0'"
    ),
    f'kind = "cgi"\npath = "/usr/lib/cgi-bin/hangs"\ndeadline_s = {DEADLINE_S}': (
        f"cgi /usr/lib/cgi-bin/hangs: no end within {DEADLINE_S} s"
    ),
    'kind = "cgi"\npath = "/usr/lib/cgi-bin/who"\ncontains = "uid=0"': (
        "cgi /usr/lib/cgi-bin/who: its output does not contain 'uid=0': uid=65534"
    ),
    'kind = "cgi"\npath = "/usr/lib/cgi-bin/sick"': (
        "cgi /usr/lib/cgi-bin/sick: exit status 9, not 0"
    ),
}
PASSING = """
[[sets.cgi.preflight]]
kind = "command"
command = ["id"]
contains = "uid=65534"
[[sets.cgi.preflight]]
kind = "command"
command = ["id"]
user = "www-data"
contains = "uid=33"
[[sets.cgi.preflight]]
kind = "command"
command = ["sh", "-c", "test ! -e /webroot && cat /etc/passwd && echo x >/tmp/$$"]
contains = "www-data:x:33:33::/:"
"""
WHO_ELSE = 'kind = "command"\ncommand = ["id"]\nuser = "www-data"\ncontains = "uid=0"'


@pytest.fixture
def lacking(tmp_path: Path) -> BuiltRelease:
    """A release in which a library is missing, with CGIs that do all sorts of things."""
    tree = small_chroot(tmp_path / "tree", "2.0")
    (library,) = tree.rglob(LIBRARY)
    library.unlink()
    for name, body in CGIS.items():
        script = tree / "usr/lib/cgi-bin" / name
        script.write_text(SCRIPT.format(body=body))
        script.chmod(0o755)
    return build(tmp_path, tree, "2.0")


@contextmanager
def trying(lab: Lab, *trials: str) -> Iterator[None]:
    """With these trials in the inventory."""
    text = lab.fleet.read_text()
    tables = "".join(
        trial if trial.startswith("\n") else f"[[sets.cgi.preflight]]\n{trial}\n"
        for trial in trials
    )
    checks = "[[sets.cgi.checks]]"
    lab.fleet.write_text(text.replace(checks, tables + checks, 1))
    yield
    lab.fleet.write_text(text)


def test_a_slot_that_fails_what_it_is_tried_with_is_not_flipped_to(
    admin: Admin,
    releases: dict[str, BuiltRelease],
    lacking: BuiltRelease,
) -> None:
    lab = admin.lab
    admin.deploy_well("--yes", "--slot", "A", "--image", str(releases["1.0"].folder))
    services = lab.on("www1", "sv status fcgiwrap worker | sed 's/).*//'")
    deploying = ("--yes", "--slot", "B", "--image", str(lacking.folder))

    for trial, why in FAILING.items():
        with trying(lab, PASSING, trial):
            answer = admin.deploy(*deploying)
        assert answer.code == 4, answer
        assert f"slot B fails its preflight: {why}" in answer.stdout, answer
        nothing_serves_otherwise(lab, services)
    with trying(lab, *FAILING):
        answer = admin.deploy(*deploying)
    for why in FAILING.values():
        assert why in answer.stdout, answer  # one that fails does not spare the others
    nothing_serves_otherwise(lab, services)
    assert lab.on("www1", "pgrep -fc '[s]leep 300'", check=False) == "0"
    assert "bad" not in admin.deploy_well("status").stdout

    with trying(lab, PASSING):
        admin.deploy_well("--yes", "--slot", "B", "--image", str(releases["3.0"].folder))
    assert (linked(lab, "www1"), served(lab, "www1")) == ("B", "3.0")
    with trying(lab, WHO_ELSE):
        answer = admin.deploy("rollback", "--yes")
    assert answer.code == 4, answer
    assert "its output does not contain 'uid=0': uid=33" in answer.stdout, answer
    assert (linked(lab, "www1"), served(lab, "www1")) == ("B", "3.0")


def nothing_serves_otherwise(lab: Lab, services: str) -> None:
    """The link, the services' processes and what they answer are what they were; no guard waits."""
    assert (linked(lab, "www1"), served(lab, "www1")) == ("A", "1.0")
    assert lab.on("www1", "sv status fcgiwrap worker | sed 's/).*//'") == services
    assert lab.on("www1", "ls /var/db/slots | grep -c 'armed\\|firing\\|fired' || :") == "0"
