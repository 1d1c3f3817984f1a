"""A real chroot made by debootstrap, with a CGI of each language laid over it; cached."""

import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.chroot import IMAGE, BuiltRelease, fcgiwrap_files, recipe_text
from tests.lab.processes import LabError

CACHE = Path("/var/tmp/flipslot-chroot")
ENVIRONMENT = "FLIPSLOT_CHROOT"
SUITE = "bookworm"
INCLUDE = "perl,php-cgi,python3,ruby,fcgiwrap"
DEBOOTSTRAP_TIMEOUT_S = 1500
BUILD_TIMEOUT_S = 900

CGIS = {
    "version": """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "version {version}"
""",
    "version.pl": """\
#!/usr/bin/perl
use strict; use warnings; use Config;
print "Content-Type: text/plain\\r\\n\\r\\n";
print "version {version} by Perl $Config{{version}}\\n";
""",
    "version.php": """\
#!/usr/bin/php-cgi
<?php header('Content-Type: text/plain');
echo 'version {version} by PHP ', PHP_VERSION, "\\n";
""",
    "version.py": """\
#!/usr/bin/python3
import json, platform
print("Content-Type: text/plain\\r\\n\\r")
print("version {version} by Python", platform.python_version())
""",
    "version.rb": """\
#!/usr/bin/ruby
require 'json'
print "Content-Type: text/plain\\r\\n\\r\\n"
puts "version {version} by Ruby #{{RUBY_VERSION}}"
""",
}


@dataclass(frozen=True, slots=True)
class Build:
    """A release of the real chroot and what its build took."""

    release: BuiltRelease
    seconds: float
    peak_mib: float


def real_chroot() -> Path:
    """Return the chroot that the environment names, the cached one, or a new one."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    if not CACHE.is_dir():
        debootstrap(CACHE, INCLUDE)
    return CACHE


def debootstrap(target: Path, include: str) -> None:
    """Make a minimal Debian with these packages."""
    if shutil.which("debootstrap") is None:
        raise LabError("a real chroot needs debootstrap (apt-get install debootstrap)")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(partial)],
        capture_output=True, text=True, check=False, timeout=DEBOOTSTRAP_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 0:
        raise LabError(f"debootstrap: exit {done.returncode}: {done.stdout[-300:].strip()}")
    partial.rename(target)


def site(folder: Path, base: Path, versions: dict[str, str]) -> Path:
    """Make what is laid over the chroot: the CGIs, and fcgiwrap if the chroot has none."""
    cgis = folder / "usr/lib/cgi-bin"
    cgis.mkdir(parents=True)
    for name, text in CGIS.items():
        (cgis / name).write_text(text.format(version=versions[name]))
        (cgis / name).chmod(0o755)
    for source in fcgiwrap_files():
        # /lib may be a symlink in the chroot, as it is here: go to where it leads.
        place = source.parent.resolve().relative_to("/") / source.name
        if not (base / place).exists() and not (base / source.relative_to("/")).exists():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / place)
    return folder


def build_real(work: Path, base: Path, over: Path, version: str, formats: tuple[str, ...]) -> Build:
    """Build a release of the chroot with the site laid over it, in a mount namespace of its own."""
    source = work / "chroot"
    source.mkdir(parents=True, exist_ok=True)
    recipe = work / f"{version}.toml"
    recipe.write_text(recipe_text("cgi", source, version, formats, level=3))
    overlay = 'mount -t overlay -o "ro,lowerdir=$1:$2" overlay "$3" && shift 3 && exec "$@"'
    command = ["unshare", "--mount", "/bin/sh", "-c", overlay, "build",
               str(over), str(base), str(source), str(IMAGE), "build", str(recipe)]  # fmt: skip
    began = time.monotonic()
    log = work / f"{version}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        peak_kib = _wait(process)
    if process.returncode != 0:
        raise LabError(f"image build: exit {process.returncode}: {log.read_text()[-2000:]}")
    release = BuiltRelease(version, work / "images" / "out" / f"cgi-{version}")
    return Build(release, time.monotonic() - began, peak_kib / 1024)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child; return the most memory that it or one of its children had, in KiB."""
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            peak: resource.struct_rusage = usage
            return peak.ru_maxrss
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise LabError(f"the build did not end within {BUILD_TIMEOUT_S} s")
        time.sleep(0.1)
