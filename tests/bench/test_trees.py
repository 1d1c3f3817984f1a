import fcntl
from pathlib import Path

import pytest

from tests.bench import rows, trees
from tests.bench.__main__ import main


def tree_with(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


def test_given_trees_are_taken_as_they_are(tmp_path: Path) -> None:
    tree_with(tmp_path, ["v1", "v2"])
    found = trees.given({"FLIPSLOT_BENCH_TREES": str(tmp_path)})
    assert found is not None
    assert (found.v1, found.v2) == (tmp_path / "v1", tmp_path / "v2")


def test_without_the_variable_no_trees_are_given() -> None:
    assert trees.given({}) is None


def test_a_folder_without_the_second_version_is_refused(tmp_path: Path) -> None:
    tree_with(tmp_path, ["v1"])
    with pytest.raises(SystemExit, match="has no v2"):
        trees.given({"FLIPSLOT_BENCH_TREES": str(tmp_path)})


def test_trees_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    tree_with(tmp_path, ["v1", "v2"])
    assert trees.made(tmp_path).v2 == tmp_path / "v2"


def test_small_trees_differ(tmp_path: Path) -> None:
    source = tree_with(tmp_path / "source", ["usr/lib"])
    for number in range(100):
        (source / f"file{number}").write_text(f"text {number}")
    found = trees.small(tmp_path / "small", source)
    changed = [n for n in range(100) if read(found.v1, n) != read(found.v2, n)]
    assert 20 <= len(changed) <= 40
    assert len(list((found.v2 / "usr/lib/added").iterdir())) == 20
    assert not (found.v1 / "usr/lib/added").exists()


def read(tree: Path, number: int) -> str:
    return (tree / f"file{number}").read_text()


def test_a_tree_is_counted_with_a_hard_linked_file_once(tmp_path: Path) -> None:
    tree_with(tmp_path, ["d"])
    (tmp_path / "d/a").write_bytes(bytes(10_000_000))
    (tmp_path / "d/b").hardlink_to(tmp_path / "d/a")
    assert trees.counted(tmp_path) == "2 files and 2 directories, 0.01 GB"


def test_small_files_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows.write_small_files(tmp_path / name, 250)
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.txt")}
        for root in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 250
    assert all(100 <= len(data) <= 2010 for data in contents[0].values())


def test_a_second_bench_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPSLOT_BENCH_WORK", str(tmp_path))
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="another bench"):
            main([])


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
