import json
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.builder.command import image

COMMANDS = ("build", "info", "ls", "cat", "extract", "verify", "diff", "lint")


@pytest.fixture
def built(chroot: Path, tmp_path: Path) -> Path:
    made = tmp_path / "image"
    done = image("build", "--source", chroot, "--output", made)
    assert done.exit_code == 0, done.output
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = image(command, "--help")
    assert done.exit_code == 0
    assert f"\n  image {command} " in done.output


def test_the_list_of_commands_is_of_whole_sentences_and_the_version_is_told() -> None:
    assert "..." not in image("--help").output.partition("Commands:")[2]
    done = image("--version")
    assert (done.exit_code, done.stdout) == (0, f"flipslot {version('flipslot')}\n")


def test_a_build_answers_in_json(chroot: Path, tmp_path: Path) -> None:
    done = image("build", "--source", chroot, "--output", f"{tmp_path}/out/", "--json")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "flipslot.build/1"
    assert answer["new"] is True
    assert Path(answer["manifest"]).read_text()
    assert answer["release"]["artefacts"][0]["format"] == "uzip"
    for line in done.stderr.splitlines():
        assert json.loads(line)["event"] in {"started", "progress", "finished", "notice"}


def test_errors_are_one_line_and_a_hint_and_json_if_asked_for(tmp_path: Path) -> None:
    done = image("build", "--source", tmp_path / "nothing", "--output", tmp_path / "x", "--json")
    assert done.exit_code == 2
    assert f"image: no such source: {tmp_path}/nothing\n    name it" in done.stderr
    assert done.stderr.count("no such source") == 1
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["exit_code"]) == ("flipslot.error/1", 2)


def test_wrong_options_are_all_named(tmp_path: Path) -> None:
    done = image(
        "build", "--source", tmp_path, "--format", "uzp", "--codec", "zst", "--cluster", "1"
    )
    assert done.exit_code == 2
    for words in ("3 settings are wrong", "did you mean uzip?", "did you mean zstd?", "cluster"):
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "see"), [(["build", "--no-such"], "image build"), (["x"], "image"), ([], "image")]
)
def test_wrong_usage_is_one_line_and_where_to_look(arguments: list[str], see: str) -> None:
    done = image(*arguments)
    assert done.exit_code == 2
    first, hint = done.stderr.splitlines()
    assert first.startswith("image: ")
    assert hint == f"    see `{see} --help`"


def test_a_missing_default_recipe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = image("build")
    assert done.exit_code == 2
    assert "no such recipe: images/cgi.toml" in done.stderr


def test_the_environment_gives_the_epoch(
    chroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert image("build", "--source", chroot, "--output", tmp_path / "i").exit_code == 0
    answer = json.loads(image("ls", "--json", tmp_path / "i").stdout)
    assert {entry["mtime_s"] for entry in answer["entries"]} == {1_000_000_000}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    done = image("build", "--source", chroot, "--output", tmp_path / "i")
    assert done.exit_code == 2
    assert "SOURCE_DATE_EPOCH is 'today'" in done.stderr


def test_an_image_is_listed_shown_and_described(built: Path) -> None:
    names = image("ls", built, "bin").stdout.splitlines()
    assert names == ["/bin", "/bin/also", "/bin/bash", "/bin/sh"]
    assert "-rwsr-xr-x   2" in image("ls", "-l", built, "/bin/sh").stdout
    assert "/usr/lib/new\\nline" in image("ls", built).stdout.splitlines()
    assert image("cat", built, "/etc/shadow").stdout == "secret"
    assert "uzip, zstd" in image("info", built).stdout
    assert json.loads(image("info", "--json", built).stdout)["release"]["name"] == "chroot"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cat", "{}", "/gone"], "no such entry in the image: /gone"),
        (["cat", "{}", "/etc"], "/etc is no file but of type dir"),
        (["cat", "{}", "/bin/also"], "/bin/also is a symlink to sh"),
        (["ls", "{}", "/gone"], "no such entry"),
        (["extract", "{}", "{}"], "name a new folder elsewhere"),
        (["info", "/nothing"], "there is no image or release /nothing"),
        (["info", "/bin/sh"], "is no image that is known"),
    ],
)
def test_what_cannot_be_answered_is_refused(built: Path, arguments: list[str], says: str) -> None:
    done = image(*(one.format(built) for one in arguments))
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_folder_that_holds_something_is_not_extracted_into(built: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    done = image("extract", built, tmp_path / "full")
    assert done.exit_code == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_damaged_image_is_8(built: Path) -> None:
    built.write_bytes(built.read_bytes()[:-4096] + bytes(4095) + b"x")
    assert image("verify", built).exit_code == 8


def test_what_verify_is_given_may_be_the_description_and_must_exist(
    chroot: Path, tmp_path: Path
) -> None:
    assert image("build", "--source", chroot, "--output", f"{tmp_path}/out/").exit_code == 0
    (release,) = (tmp_path / "out").iterdir()
    assert image("verify", release / "release.json").exit_code == 0
    done = image("verify", tmp_path / "gone")
    assert (done.exit_code, f"there is no image or release {tmp_path}/gone" in done.stderr) == (
        2,
        True,
    )
    assert image("lint", release / "release.json").exit_code == 0


def test_one_of_a_thing_is_no_plural(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    assert "1 finding, 0 waived" in image("lint", tmp_path).stdout
