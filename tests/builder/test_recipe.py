from pathlib import Path

import pytest

from builder.recipe import Packing, image_name, read_recipe, recipe_of
from slots.errors import ConfigError

PROJECT = Path(__file__).parents[2]


def _recipe(folder: Path, text: str) -> Path:
    path = folder / "web.toml"
    path.write_text(text)
    return path


def test_paths_of_a_recipe_are_relative_to_it(tmp_path: Path) -> None:
    recipe = read_recipe(_recipe(tmp_path, 'source = "chroot"\nmtree = "METALOG"\n'))
    assert recipe.source == tmp_path / "chroot"
    assert recipe.mtree == tmp_path / "METALOG"
    assert recipe.name == "web"


def test_all_wrong_settings_are_named_at_once_with_the_nearest_right_one(tmp_path: Path) -> None:
    path = _recipe(
        tmp_path,
        'sorce = "x"\nformats = ["uzp"]\nmount_points = ["../dev"]\n'
        'owners = [{ match = "*", mode = 755 }, { match = "x", uuid = 1 }]\n[packing.squashf]\n',
    )
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    message = caught.value.message
    assert message.startswith(f"{path}: 7 settings are wrong:\n  ")
    for words in (
        "sorce is unknown (did you mean source?)",
        "sources: give source, or several as sources",
        "formats[0] is 'uzp'",
        "mount_points[0]: '../dev' is not a path inside the image",
        'owners[0].mode: a mode is octal text such as "0755"',
        "owners[1].uuid is unknown (did you mean uid?)",
        "did you mean squashfs?",
    ):
        assert words in message
    assert len(message.splitlines()) == 8


@pytest.mark.parametrize(("text", "says"), [("source = ", "is not TOML"), (None, "no such recipe")])
def test_a_file_that_is_no_recipe_is_a_clear_error(
    tmp_path: Path, text: str | None, says: str
) -> None:
    path = tmp_path / "web.toml" if text is None else _recipe(tmp_path, text)
    with pytest.raises(ConfigError, match=says):
        read_recipe(path)


def test_the_command_line_goes_before_the_format_and_that_before_the_recipe(
    tmp_path: Path,
) -> None:
    recipe = read_recipe(
        _recipe(
            tmp_path,
            'source = "x"\ncodec = "zstd"\nlevel = 9\n[packing.squashfs]\nlevel = 15\n',
        )
    )
    assert recipe.packing_of("uzip", Packing()) == Packing(codec="zstd", level=9)
    assert recipe.packing_of("squashfs", Packing()).level == 15
    assert recipe.packing_of("squashfs", Packing(level=3)).level == 3


def test_a_directory_without_a_recipe_is_taken_as_it_is(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    assert recipe.rules(None).mount_points == ()
    assert recipe.formats == ("uzip",)
    assert image_name("/ü .x ") == "x"
    assert image_name("..") == "image"


@pytest.mark.parametrize("name", ["cgi", "sample"])
def test_the_recipes_of_the_project_are_right(name: str) -> None:
    recipe = read_recipe(PROJECT / "images" / f"{name}.toml")
    assert recipe.name == name
    assert "dev" in recipe.mount_points
