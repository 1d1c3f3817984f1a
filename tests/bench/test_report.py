from tests.bench.report import Line, Part, Verdict, against, below, missing, render


def test_a_figure_that_exceeds_its_aim_is_missed() -> None:
    line = against("CPU", 12, 10, 1.15, show="{:.0f} s", peer_name="mksquashfs")
    assert (line.ratio, line.verdict) == ("1.200 ×", Verdict.MISSED)  # noqa: RUF001
    assert line.peer == "mksquashfs: 10 s"


def test_a_figure_at_its_aim_is_met() -> None:
    assert against("x", 3, 2, 1.5, show="{}", peer_name="y").verdict is Verdict.MET
    assert below("x", 3, 3, show="{} s").verdict is Verdict.MET


def test_a_figure_just_over_its_bound_is_missed_whatever_it_rounds_to() -> None:
    line = below("wall", 3.01, 3, show="{:.0f} s")
    assert (line.ours, line.aim, line.verdict) == ("3 s", "≤ 3 s", Verdict.MISSED)


def test_a_peer_that_cost_nothing_cannot_be_matched() -> None:
    assert against("x", 1, 0, 2, show="{}", peer_name="y").verdict is Verdict.MISSED


def test_the_page_has_every_line_and_says_what_was_not_measured() -> None:
    lines = [Line("a|b", "1", "2", "0.5", "≤ 1", Verdict.MET), missing("update", "rsync missing")]
    page = render({"machine": "2 processors"}, {"all": Part(lines, "today")}, "## How to repeat")
    assert "- machine: 2 processors\n" in page
    assert "| a\\|b | 1 | 2 | 0.5 | ≤ 1 | met |\n" in page
    assert "| rsync missing | not measured |\n" in page
    assert "- all: today\n" in page
    assert page.endswith("## How to repeat\n")
