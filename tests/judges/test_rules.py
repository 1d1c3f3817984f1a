"""Rules of the kernels that no judge can see in one image: which test holds each of them.

All others are named by the judges: test_iso_judge.py and test_uzip_judge.py break each by hand.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ELSEWHERE = {
    "a last cluster of zeros is stored": (
        "builder/uzip/test_writer.py::"
        "test_the_last_cluster_is_stored_even_if_it_holds_zeros"
    ),
    "a cluster that cannot be padded within the bound stays unpadded": (
        "builder/uzip/test_writer.py::"
        "test_behind_an_unpadded_cluster_the_next_one_meets_the_sectors_again"
    ),
    "tasting the references takes no long search": (
        "builder/uzip/test_writer.py::"
        "test_references_stop_when_their_search_would_take_too_long"
    ),
    "no reference leads to the cluster just before": (
        "builder/uzip/test_writer.py::"
        "test_repeated_clusters_are_references_but_never_to_the_one_stored_last"
    ),
    "cluster sizes are those the kernel takes": (
        "builder/uzip/test_writer.py::"
        "test_cluster_sizes_that_the_kernel_refuses_are_refused"
    ),
    "what lies behind the image in its partition does not matter": (
        "builder/uzip/test_reader.py::test_what_lies_behind_the_image_does_not_matter"
    ),
    "files above 4 GiB - 1 are refused": (
        "builder/test_lint.py::"
        "test_a_file_too_large_for_cd9660_is_refused_by_name_before_it_is_read"
    ),
    "names, targets, links and numbers are within their limits": (
        "builder/iso9660/test_layout.py::"
        "test_everything_that_cannot_be_written_is_named_at_once"
    ),
    "deep directories are not relocated": (
        "builder/iso9660/test_volume.py::"
        "test_directories_are_never_relocated_however_deep"
    ),
    "a symlink to the root alone is ROOT and CURRENT": (
        "builder/iso9660/test_rockridge.py::"
        "test_the_root_alone_is_written_as_root_and_current"
    ),
    "times are clamped": (
        "builder/test_normalise.py::"
        "test_times_are_clamped_to_what_all_formats_know_with_one_notice"
    ),
    "mount points are made": (
        "builder/test_build.py::test_recipes_give_owners_mount_points_and_links"
    ),
    "the same tree is the same image, so the same inode numbers": (
        "builder/test_build.py::test_two_builds_give_the_same_bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", ELSEWHERE)
def test_each_rule_has_the_test_that_is_named_here(rule: str) -> None:
    file, _, name = ELSEWHERE[rule].partition("::")
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
