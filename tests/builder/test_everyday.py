"""What an admin does on an ordinary day: odd names, wrong files, closed streams."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builder import ending
from tests.builder.command import image

RECIPE = 'name = "cgi"\nsource = "chroot"\n'
RUN = (
    sys.executable,
    "-c",
    "import sys; from builder.cli import main; sys.argv[0] = 'image'; main()",
)

STRICT = {"PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is not C


@pytest.fixture
def here(chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert chroot.name == "chroot"
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def _run(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `image` with streams as a shell redirects them."""
    shell = ["sh", "-c", f'exec "$@" {redirected}', "sh", *RUN, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | STRICT
    return subprocess.run(shell, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_build(here: Path, closed: str) -> None:
    done = _run(closed, "build", "r.toml", "--no-cache", "--format", "squashfs", "--output", "i")
    assert done.returncode == 0, done.stderr
    assert image("verify", here / "i").exit_code == 0


def test_a_full_stdout_is_told_in_one_line(here: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert image("build", "r.toml", "--output", "i").exit_code == 0
    for command in (["ls", "i"], ["cat", "i", "/etc/shadow"], ["info", "i", "--json"]):
        done = _run(">/dev/full", *command)
        assert done.returncode == 1
        assert done.stderr == "image: the output cannot be written: No space left on device\n"
    assert (here / "i").exists()


def test_a_chroot_whose_name_is_not_utf_8_is_built(here: Path, chroot: Path) -> None:
    odd = here / os.fsdecode(b"n\xffu")
    try:
        chroot.rename(odd)
    except OSError:
        pytest.skip("names are UTF-8 here")
    done = image("build", "--source", odd, "--output", "i", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["release"]["name"] == "n-u"
    strict = _run("", "build", "--source", str(odd), "--output", f"{odd}.d/")
    assert strict.returncode == 0, strict.stderr
    assert "n\\udcffu.d/" in strict.stdout


@pytest.mark.parametrize("name", [os.fsdecode(b"i\xff"), "i\nj", "i" * 250])
def test_a_file_that_a_description_cannot_name_is_refused(here: Path, name: str) -> None:
    before = sorted(here.iterdir())
    done = image("build", "r.toml", "--output", name)
    assert done.exit_code == 2, done.output
    assert "an image cannot be named" in done.stderr
    assert sorted(here.iterdir()) == before


def test_an_output_that_is_a_symlink_is_left_alone(here: Path) -> None:
    (here / "old").write_text("mine")
    (here / "link").symlink_to("old")
    done = image("build", "r.toml", "--output", "link")
    assert done.exit_code == 2
    assert "link is a symlink to old" in done.stderr
    assert (here / "link").is_symlink()
    assert (here / "old").read_text() == "mine"


@pytest.mark.parametrize("version", ["x" * 300, "a b"])
def test_a_version_that_is_no_name_is_refused(here: Path, version: str) -> None:
    done = image("build", "r.toml", "--output", f"{here}/out/", "--version", version)
    assert done.exit_code == 2, done.output
    assert "version: " in done.stderr


def test_a_chroot_with_a_very_long_name_is_built(here: Path, chroot: Path) -> None:
    (here / ("n" * 250)).symlink_to(chroot)
    done = image("build", "--source", here / ("n" * 250), "--output", f"{here}/out/")
    assert done.exit_code == 0, done.output


def test_a_cache_inside_the_chroot_is_not_used(here: Path) -> None:
    source = here / "mine"
    source.mkdir()
    (source / "file").touch()
    done = image("build", "--source", source, "--cache", source / "c", "--output", here / "i")
    assert done.exit_code == 0, done.output
    assert "it lies inside the source" in done.stderr
    assert [one.name for one in source.iterdir()] == ["file"]


@pytest.mark.parametrize("empty", ["--source", "--output", "--mtree", "--cache", "--exclude"])
def test_an_empty_name_is_not_where_we_are(here: Path, empty: str) -> None:
    before = sorted(here.iterdir())
    done = image("build", "r.toml", empty, "")
    assert done.exit_code == 2
    assert f"empty argument behind {empty}" in done.stderr
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'name = "a"\nsource = ""\n', "source: is empty"),
        (b'sources = [""]\n', "is empty"),
        (RECIPE.encode("utf-16"), "r2.toml is not UTF-8 (byte 0)"),
        (b'name = "a b"\nsource = "c"\n', "name: must match ^$|^[A-Za-z0-9]"),
        (b'source = "c"\nlevel = "3"\n', "level: must be a whole number, not '3'"),
        (b'source = "c"\nepoch = true\n', "epoch: must be a whole number, not true"),
        (b'source = "c\\u0000"\n', "source: holds a NUL character"),
        (b'source = "c"\nmtree = "m\\u0000"\n', "mtree: holds a NUL character"),
        (b'source = "c"\nlinks = { a = "b\\u0000" }\n', "links.a: holds a NUL character"),
        (b'source = "c"\nmount_points = ["a\\u0000"]\n', "is not a path inside the image"),
    ],
)
def test_a_wrong_recipe_is_refused(here: Path, data: bytes, says: str) -> None:
    (here / "r2.toml").write_bytes(data)
    done = image("build", "r2.toml", "--output", "i")
    assert done.exit_code == 2, done.output
    assert says in done.stderr


def test_a_recipe_of_another_editor_is_read(here: Path) -> None:
    (here / "r2.toml").write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    assert image("build", "r2.toml", "--output", "i").exit_code == 0


@pytest.mark.usefixtures("here")
def test_a_chroot_given_as_the_recipe_is_understood() -> None:
    done = image("build", "chroot")
    assert done.exit_code == 2
    assert "the recipe chroot is a folder" in done.stderr
    assert "--source chroot" in done.stderr


def test_an_exclude_that_leaves_nothing_out_is_told_each_time_unless_it_is_the_recipe_s(
    here: Path,
) -> None:
    (here / "r.toml").write_text(RECIPE + 'exclude = ["var/absent/**"]\n')
    slips = ("--exclude", "usr/libs/**", "--exclude", "*.pyc", "--exclude", "usr/libs/**")
    for _ in range(2):  # the second time nothing is looked into
        done = image("build", "r.toml", "--exclude", "usr/lib/big", *slips, "--cache", "known")
        assert done.exit_code == 0, done.output
        (told,) = (one for one in done.stderr.splitlines() if "leaves nothing out" in one)
        assert '--exclude leaves nothing out: usr/libs/**, *.pyc"' in told
    assert "leaves nothing out" not in image("build", "r.toml").stderr


@pytest.fixture
def two_releases(here: Path) -> Path:
    for version in ("1", "2"):
        formats = ("--format", "uzip", "--format", "iso9660")
        assert image("build", "r.toml", *formats, "--version", version).exit_code == 0
    return here


@pytest.mark.usefixtures("two_releases")
@pytest.mark.parametrize("wanted", ["images/out/cgi-2", "cgi-2", "cgi", "ID"])
def test_a_release_is_named_as_deploy_names_it(wanted: str) -> None:
    described = json.loads(Path("images/out/cgi-2/release.json").read_text())
    name = described["id"] if wanted == "ID" else wanted
    first = image("info", "images/out/cgi-2/cgi-2.uzip").stdout
    assert image("info", name).stdout == first
    assert image("ls", name).stdout == image("ls", "images/out/cgi-2/cgi-2.iso").stdout
    verbs = (["verify", name], ["diff", "cgi-1", name], ["extract", name, "new"], ["lint", name])
    for command in verbs:
        done = image(*command)
        assert done.exit_code == 0, done.output


def test_a_path_that_is_there_wins_over_a_release_of_that_name(two_releases: Path) -> None:
    (two_releases / "cgi-1").write_bytes(b"no image")
    done = image("info", "cgi-1")
    assert (done.exit_code, "cgi-1 is no image that is known" in done.stderr) == (2, True)


@pytest.mark.usefixtures("two_releases")
def test_a_newest_release_that_cannot_be_read_is_named_and_none_stands_in_for_it() -> None:
    Path("images/out/cgi-2/release.json").write_text("{")
    done = image("info", "cgi")
    assert done.exit_code == 2
    assert "images/out/cgi-2/release.json" in done.stderr


@pytest.mark.usefixtures("two_releases")
@pytest.mark.parametrize("wanted", ["cgi-9", "./cgi-1", "elsewhere/cgi-1"])
@pytest.mark.parametrize("command", ["info", "ls", "verify", "diff", "lint"])
def test_what_no_path_and_no_release_is_called_is_told(command: str, wanted: str) -> None:
    done = image(command, wanted, *(["cgi-1"] if command == "diff" else []))
    assert done.exit_code == 2
    assert f"there is no image or release {wanted}\n" in done.stderr
    assert "or its name or id in images/out" in done.stderr


@pytest.mark.parametrize("behind", ["out/cgi-1/cgi-1.uzip", "out/cgi-1"])
def test_a_release_is_found_behind_a_symlink(here: Path, behind: str) -> None:
    assert image("build", "r.toml", "--output", "out/", "--version", "1").exit_code == 0
    (here / "latest").symlink_to(behind)
    for command in (["verify"], ["diff", behind]):
        done = image(*command, "latest")
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", [["verify"], ["info"], ["diff", "out/cgi-1"]])
def test_a_description_that_was_cut_is_told_as_damaged(here: Path, command: list[str]) -> None:
    assert image("build", "r.toml", "--output", "out/", "--version", "1").exit_code == 0
    described = here / "out/cgi-1/release.json"
    described.write_bytes(described.read_bytes()[:100])
    done = image(*command, "out/cgi-1/cgi-1.uzip")
    assert done.exit_code == 2
    assert "out/cgi-1/release.json is damaged: it is no JSON\n" in done.stderr


def test_a_dangling_output_folder_is_told(here: Path) -> None:
    (here / "gone").symlink_to("nowhere")
    done = image("build", "r.toml", "--format", "uzip", "--format", "iso9660", "--output", "gone")
    assert done.exit_code == 2
    assert "it is a symlink to nowhere" in done.stderr


@pytest.mark.parametrize("command", ["info", "ls", "lint"])
def test_a_pipe_is_no_image(here: Path, command: str) -> None:
    os.mkfifo(here / "pipe")
    done = image(command, "pipe")
    assert done.exit_code == 2
    assert "pipe is a pipe" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no Linux /proc")
@pytest.mark.usefixtures("here")
def test_a_folder_that_takes_no_folders_is_told() -> None:
    # What a user who may write there is told by the file system, and root alone gets that far.
    done = image("build", "r.toml", "--output", "/proc/i")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.stderr
    assert "choose --output elsewhere" in done.stderr


@pytest.mark.usefixtures("here")
def test_a_path_that_cannot_be_is_told_in_one_line() -> None:
    done = image("build", "r.toml", "--output", "x" * 300 + "/i")
    assert done.exit_code == 2
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), "/srv/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/srv/x"), "/srv/x: Not a directory"),
    ],
)
def test_what_a_disk_refuses_is_json_too(
    capsys: pytest.CaptureFixture[str], refused: OSError, says: str
) -> None:
    def command() -> int:
        raise refused

    assert ending.run(command, as_json=True) == 2
    told = capsys.readouterr()
    assert told.err == f"image: {says}\n"
    assert json.loads(told.out)["message"] == says


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("builder", ["build", "--source", "/bin"]),
        ("builder", ["build", "--source", "."]),
        ("builder", ["lint", "."]),
        ("builder", ["extract", "MADE", "."]),
        ("deployer", ["publish", "--to", "m"]),
    ],
)
def test_a_working_folder_that_is_gone_is_told(
    chroot: Path, tmp_path: Path, package: str, arguments: list[str]
) -> None:
    made = tmp_path / "made"
    assert image("build", "--source", chroot, "--output", made).exit_code == 0
    arguments = [str(made) if one == "MADE" else one for one in arguments]
    program = f"from {package}.start import main; main()"
    shell = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", program, *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "the folder in which this runs is gone" in done.stderr


def test_what_is_missing_and_has_no_name_is_a_bug_and_not_where_we_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    assert ending.run(command, as_json=False) == 1
    assert "the traceback above is a bug" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["builder", "deployer"])
def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(package: str) -> None:
    code = f"import os, signal, {package}.start; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("package", "redirected"), [("builder", ""), ("deployer", ""), ("builder", "2>&1")]
)
def test_a_reader_who_goes_away_ends_a_command_with_141(package: str, redirected: str) -> None:
    program = f"from {package}.start import main; main()"
    shell = f'{{ "$@" {redirected}; echo "status $?" >&3; }} 3>&2 | :'
    command = [sys.executable, "-c", f"import time; time.sleep(0.3); {program}", "--help"]
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.stderr == "status 141\n"


def test_a_symlink_that_leads_to_itself_is_told_in_one_line(here: Path) -> None:
    (here / "loop").symlink_to("loop")
    for arguments in (
        ["verify", "loop"],
        ["build", "--source", "loop", "--output", "i"],
        ["build", "r.toml", "--output", "loop"],
        ["build", "r.toml", "--output", "loop/i"],
    ):
        done = image(*arguments)
        assert (done.exit_code, "Traceback" in done.stderr) == (2, False), done.stderr
