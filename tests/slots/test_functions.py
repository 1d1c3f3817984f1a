"""A library taken apart: functions of each form, and which of them a call reaches."""

from slots.functions import joined, parts, reached

SOURCE = """\
# for readers
LIMIT=5

first() { # ONE
    # for readers
    second "$1"
    while read -r line; do
        echo "$line"
    done <<END
$lines
END
}
second() { third; } # on one line
third() (
    cd / && echo "}"
)
fourth() { :; }
last=fifth
fifth() {
    first
}
"""


def test_a_library_is_its_parts_without_what_is_for_readers() -> None:
    told = [line.strip() for line in SOURCE.splitlines()]
    kept = [line for line in told if line and not line.startswith("#")]
    assert joined(parts(SOURCE)).splitlines() == kept
    names = [part.name for part in parts(SOURCE)]
    assert names == ["", "first", "second", "third", "fourth", "", "fifth"]


def test_what_a_call_names_is_reached_and_what_that_names() -> None:
    library = parts(SOURCE.replace("last=fifth", "last=3"))
    assert reached(library, "fourth").splitlines() == ["LIMIT=5", "fourth() { :; }", "last=3"]
    assert "third() (" in reached(library, "flow 'first'")
    assert "fourth" not in reached(library, "first")
    assert "fifth" not in reached(library, "first")


def test_a_name_that_is_put_together_reaches_all_that_begin_so() -> None:
    library = parts('go() { "by_$1"; }\nby_air() { :; }\nby_sea() { :; }\nbytes() { :; }\n')
    assert reached(library, "go").count("\n") == 3
    assert "bytes" not in reached(library, "go")


def test_what_stands_between_functions_reaches_for_every_call() -> None:
    assert reached(parts(SOURCE), "fourth") == joined(parts(SOURCE))


def test_functions_of_one_name_go_together() -> None:
    library = (*parts("a() { b; }\nb() { :; }\n"), *parts("a() { c; }\nc() { :; }\nd() { :; }\n"))
    assert [part.name for part in library if part.text in reached(library, "a")] == list("abac")
