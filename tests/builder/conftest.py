import os
from pathlib import Path

import pytest

from builder.build import Order
from builder.recipe import recipe_of
from slots.manifest import Format

WHEN_S = 1_700_000_000


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    """A directory with most of what a tree can hold and an ordinary user may make."""
    root = tmp_path / "chroot"
    for folder in ("bin", "etc", "usr/lib", "empty dir", "deep/" * 12 + "end"):
        (root / folder).mkdir(parents=True)
    (root / "bin/sh").write_bytes(os.urandom(300_000))
    (root / "bin/sh").chmod(0o4755)
    os.link(root / "bin/sh", root / "bin/bash")
    (root / "bin/also").symlink_to("sh")
    (root / "etc/passwd").write_text("root:*:0:0::/root:/bin/sh\nwww:*:80:80::/:/bin/false\n")
    (root / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    (root / "usr/lib/big").write_bytes(b"text that repeats\n" * 60_000)
    (root / "usr/lib/empty").touch()
    (root / "usr/lib/sixteen").write_bytes(bytes(65_536))
    Path(os.fsdecode(os.fsencode(root) + b"/etc/caf\xe9 \\ \"quoted\" 'n'")).write_text("latin 1")
    (root / "usr/lib/new\nline").write_text("n")
    (root / "usr/lib" / ("n" * 250)).write_text("long")
    (root / "usr/lib/far").symlink_to("x" * 200 + "/" + "y" * 200 + "/../z")
    os.mkfifo(root / "etc/fifo", 0o640)
    (root / "etc/shadow").write_text("secret")
    (root / "etc/shadow").chmod(0o600)
    (root / "etc").chmod(0o750)
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, (WHEN_S + number, WHEN_S + number), follow_symlinks=False)
    os.utime(root, (WHEN_S - 5, WHEN_S - 5))
    return root


def order(source: Path, output: Path, *formats: Format) -> Order:
    """An order of an image without a recipe."""
    return Order(recipe_of(source), formats or ("uzip",), output, threads=2)


@pytest.fixture(autouse=True)
def _own_user_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the cache of commands that tests run out of the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
