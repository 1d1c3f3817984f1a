import subprocess
import sys
from pathlib import Path

import pytest

from builder.busy import LOCKS, refuse_busy
from slots.errors import Refused

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_that_a_package_manager_holds_is_named_with_its_holder(
    tmp_path: Path, name: str
) -> None:
    lock = tmp_path / name
    lock.parent.mkdir(parents=True)
    lock.touch()
    refuse_busy(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match=rf"{LOCKS[name]}.*process {holder.pid} holds {name}"):
            refuse_busy(tmp_path)
        holder.kill()
    refuse_busy(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("var/lib/dpkg/updates/0001", "Package: x\n", "dpkg is at work"),
        ("var/db/pkg/local.sqlite-journal", "hot", "pkg is at work"),
        ("var/db/pkg/local.sqlite-wal", "hot", "pkg is at work"),
        (
            "var/lib/dpkg/status",
            "Package: php\nStatus: install ok half-configured\n\n",
            "half done: php$",
        ),
        ("var/lib/dpkg/status", "Package: p\nStatus: install reinstreq installed\n", "done: p$"),
    ],
)
def test_what_a_package_manager_leaves_while_it_works_is_refused(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(Refused) as caught:
        refuse_busy(tmp_path)
    assert caught.match(says.removesuffix("$"))
    assert caught.value.hint


def test_a_chroot_at_rest_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg/updates").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/updates/tmp.i").touch()
    (tmp_path / "var/lib/dpkg/lock").touch()
    (tmp_path / "var/lib/dpkg/status").write_text("Package: p\nStatus: deinstall ok config-files\n")
    (tmp_path / "var/db/pkg").mkdir(parents=True)
    (tmp_path / "var/db/pkg/local.sqlite-journal").touch()
    refuse_busy(tmp_path)
