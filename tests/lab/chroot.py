"""Small chroots for the lab: busybox, fcgiwrap with its libraries, a CGI that says a version."""

import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.frontends import PROJECT
from tests.lab.processes import LabError, tool

IMAGE = PROJECT / ".venv" / "bin" / "image"
APPLETS = ("sh", "cat", "hostname", "sleep", "ls", "test", "sha256sum", "id", "tail", "cut")
PAYLOAD_BYTES = 6 << 20
MOUNT_POINTS = ("dev", "tmp", "home", "var/sessions", "etc/host")
RECIPE = """\
name = "{name}"
source = "{source}"
version = "{version}"
formats = {formats}
mount_points = {mount_points}
level = {level}

[links]
"etc/resolv.conf" = "host/resolv.conf"
"etc/hosts" = "host/hosts"
"""
WELL = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "version {version}"
"""
# Says its version, and once more when it may end.
SLOW = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
tail -n 1 /usr/lib/cgi-bin/version | cut -d'"' -f2
until [ -e /tmp/slow.end ]; do sleep 0.1; done
tail -n 1 /usr/lib/cgi-bin/version | cut -d'"' -f2
"""
SICK = """\
#!/bin/sh
printf 'Status: 500 Internal Server Error\\r\\nContent-Type: text/plain\\r\\n\\r\\n'
echo "version {version} is sick"
"""


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """A release that `image build` made, and what the lab wants to know of it."""

    version: str
    folder: Path


def small_chroot(folder: Path, version: str, *, cgi: str = WELL) -> Path:
    """Make a chroot that serves its version at /cgi-bin/version."""
    for part in ("bin", "usr/sbin", "usr/lib/cgi-bin", "etc", "usr/share"):
        (folder / part).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise LabError("the lab's images need busybox (apt-get install busybox-static)")
    shutil.copy(busybox, folder / "bin" / "busybox")
    for name in APPLETS:
        (folder / "bin" / name).symlink_to("busybox")
    add_fcgiwrap(folder)
    (folder / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n")
    for name, text in (("version", cgi.format(version=version)), ("slow", SLOW)):
        script = folder / "usr/lib/cgi-bin" / name
        script.write_text(text)
        script.chmod(0o755)
    # What does not compress: an image that takes a moment to travel.
    noise = random.Random(version).randbytes(PAYLOAD_BYTES)
    (folder / "usr/share/payload").write_bytes(noise)
    return folder


def add_fcgiwrap(folder: Path) -> None:
    """Copy this machine's fcgiwrap and the libraries that it names into a chroot."""
    for source in fcgiwrap_files():
        target = folder / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def fcgiwrap_files() -> list[Path]:
    """Return this machine's fcgiwrap and what it needs to run."""
    program = "/usr/sbin/fcgiwrap"
    return [Path(name) for name in (program, *re.findall(r"(/\S+) \(0x", tool("ldd", program)))]


def recipe_text(name: str, source: Path, version: str, formats: tuple[str, ...], level: int) -> str:
    """Return a recipe for the lab's frontends."""
    quoted, points = (", ".join(f'"{one}"' for one in many) for many in (formats, MOUNT_POINTS))
    return RECIPE.format(
        name=name,
        source=source,
        version=version,
        formats=f"[{quoted}]",
        mount_points=f"[{points}]",
        level=level,
    )


def build(
    work: Path,
    source: Path,
    version: str,
    *,
    formats: tuple[str, ...] = ("squashfs",),
    level: int = 1,
    timeout_s: float = 300,
) -> BuiltRelease:
    """Build a release as an admin would; `work` gets the recipe and images/out."""
    work.mkdir(parents=True, exist_ok=True)
    recipe = work / f"{version}.toml"
    recipe.write_text(recipe_text("cgi", source, version, formats, level))
    done = subprocess.run(
        [str(IMAGE), "build", str(recipe)],
        cwd=work, capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip
    if done.returncode != 0:
        raise LabError(f"image build {recipe}: exit {done.returncode}: {done.stderr[-2000:]}")
    return BuiltRelease(version, work / "images" / "out" / f"cgi-{version}")
