"""The whole path on real input: a Debian with four languages, four frontends, two versions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.admin import Admin, artefact, linked, slot_digest
from tests.lab.disks import MIB
from tests.lab.frontends import Lab, why_not
from tests.lab.processes import LabError
from tests.lab.real_chroot import CGIS, Build, build_real, real_chroot, site

pytestmark = pytest.mark.lab

LANGUAGES = {
    "version.pl": "Perl",
    "version.php": "PHP",
    "version.py": "Python",
    "version.rb": "Ruby",
}


def test_a_debian_chroot_is_built_deployed_changed_and_rolled_back(
    tmp_path: Path, make_lab: Callable[..., Lab], make_admin: Callable[[Lab], Admin]
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    try:
        base = real_chroot()
    except LabError as error:
        pytest.skip(f"no real chroot: {error}")
    old = dict.fromkeys(CGIS, "1.0")
    new = old | {"version.pl": "2.0"}
    first = build_real(tmp_path, base, site(tmp_path / "site1", base, old), "1.0",
                       ("squashfs", "uzip"))  # fmt: skip
    second = build_real(tmp_path, base, site(tmp_path / "site2", base, new), "2.0", ("squashfs",))
    for build in (first, second):
        tell(build)
    lab = make_lab(4, slot_bytes=512 * MIB, in_memory=False)
    admin = make_admin(lab)

    deploy(admin, "--slot", "B", "--yes", "--image", str(first.release.folder))
    served_everywhere(lab, "B", old)
    image = artefact(first.release)
    for name in lab.frontends:
        assert slot_digest(lab, name, "B", image.size_bytes) == image.sha256

    deploy(admin, "--slot", "A", "--yes", "--image", str(second.release.folder))
    served_everywhere(lab, "A", new)

    deploy(admin, "rollback", "--yes")
    served_everywhere(lab, "B", old)
    print(admin.deploy_well("status").stdout)


def served_everywhere(lab: Lab, slot: str, versions: dict[str, str]) -> None:
    """Every frontend answers in each language, from this slot."""
    for name in lab.frontends:
        assert linked(lab, name) == slot
        for cgi, language in LANGUAGES.items():
            status, body = lab.fetch(name, f"/cgi-bin/{cgi}", timeout_s=20)
            assert status == 200, f"{name} {cgi}: {status} {body}"
            assert body.startswith(f"version {versions[cgi]} by {language} "), body


def deploy(admin: Admin, *arguments: str) -> None:
    """Run a deploy that has to succeed and tell how long its steps took."""
    running = admin.start(*arguments)
    answer = running.end(within_s=400)
    assert answer.code == 0, answer
    steps = (f"{step} {seconds:.2f} s" for step, seconds in running.step_seconds().items())
    print(f"deploy {' '.join(arguments)}: {', '.join(steps)}")


def tell(build: Build) -> None:
    """Tell what a build took and made."""
    manifest = json.loads((build.release.folder / "release.json").read_text())
    images = ", ".join(
        f"{one['format']} {one['size_bytes'] / MIB:.0f} MiB ({one['codec']} {one['level']})"
        for one in manifest["artefacts"]
    )
    print(
        f"release {build.release.version}: {manifest['entries']} entries, "
        f"{manifest['content_bytes'] / MIB:.0f} MiB -> {images}; "
        f"{build.seconds:.1f} s, at most {build.peak_mib:.0f} MiB of memory"
    )
