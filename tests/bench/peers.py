"""The programs that the bench holds us against, and our own command."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import Command

IMAGE = Path(sys.executable).with_name("image")
DEPLOY = Path(sys.executable).with_name("deploy")
BLOCK_BYTES = 131_072
LEVEL = "9"
RECIPE = Path("images/cgi.toml")
_VERSIONS = {
    "mksquashfs": ("mksquashfs", "-version"),
    "xorriso": ("xorriso", "-version"),
    "rsync": ("rsync", "--version"),
}


def image_build(
    source: Path,
    out: Path,
    *options: str,
    cache: Path | None = None,
    recipe: Path | None = None,
) -> Command:
    """Return our build into one file; without a folder for a cache it starts from nothing."""
    known = ("--no-cache",) if cache is None else ("--cache", str(cache))
    whole = [str(IMAGE), "build", *([str(recipe)] if recipe else [])]
    return Command([*whole, "--source", str(source), "--output", str(out), *known, *options], out)


def left_out() -> list[str]:
    """Return what the recipe of the mission leaves out of a chroot."""
    found: list[str] = tomllib.loads(RECIPE.read_text())["exclude"]
    return found


def uzip(cluster_bytes: int) -> tuple[str, ...]:
    """Return the options of a uzip image."""
    return (
        "--format",
        "uzip",
        "--codec",
        "zstd",
        "--level",
        LEVEL,
        "--cluster",
        str(cluster_bytes),
    )


def mksquashfs(source: Path, out: Path) -> Command:
    """Return the peer of a whole image."""
    options = f"-comp zstd -Xcompression-level {LEVEL} -b {BLOCK_BYTES}"
    quiet = "-noappend -no-progress -no-xattrs"
    return Command(["mksquashfs", str(source), str(out), *options.split(), *quiet.split()], out)


def xorriso(source: Path, out: Path) -> Command:
    """Return the first half of the peer of a uzip image."""
    return Command(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", str(out), str(source)], out)


def uzip_of_file(image: Path, out: Path) -> Command:
    """Return its second half."""
    return Command([sys.executable, "-m", "tests.bench.uzip_of_file", str(image), str(out)], out)


def compile_modules() -> None:
    """Let our commands start as installed ones do, from compiled modules, also out of a checkout
    in an environment that leaves none behind.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for program in (IMAGE, DEPLOY):
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)


def lacking(tools: Sequence[str]) -> list[str]:
    """Return the tools that are not there."""
    return [tool for tool in tools if shutil.which(tool) is None]


def versions() -> str:
    """Return the versions of all that is measured."""
    found = [f"flipslot {version('flipslot')}", f"Python {platform.python_version()}"]
    found.append(f"zstandard {version('zstandard')}")
    for name, command in _VERSIONS.items():
        if lacking([name]):
            found.append(f"{name} is missing")
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        number = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
        found.append(f"{name} {number.group() if number else 'of unknown version'}")
    return ", ".join(found)


def commit() -> str:
    """Return the commit that is measured, if the bench runs in a checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "no commit"
