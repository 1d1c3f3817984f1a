import sys
from pathlib import Path

import pytest

from tests.bench.measure import Command, CommandError, Usage, alternate, in_row, median, run

MB = 1_000_000
PYTHON = (sys.executable, "-I", "-S", "-c")


def test_the_cost_of_a_child_of_the_command_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    usage = run(Command([*PYTHON, code]))
    assert 0.2 <= usage.cpu_s < 5
    assert usage.wall_s >= 0.2


def test_memory_is_that_of_the_command_and_not_of_the_bench() -> None:
    ballast = bytearray(200 * MB)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert run(Command([*PYTHON, "pass"])).peak_bytes < 100 * MB
    assert run(Command([*PYTHON, "bytearray(b'x' * 150_000_000)"])).peak_bytes > 150 * MB


def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(CommandError, match=r"(?s): 3\n.*no such tree"):
        run(Command([*PYTHON, "import sys; print('no such tree', file=sys.stderr); sys.exit(3)"]))


def test_output_of_a_command_is_not_taken_for_its_cost() -> None:
    assert run(Command([*PYTHON, "print('[1, 2, 3]')"])).peak_bytes > MB


def test_what_an_earlier_run_wrote_is_removed_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    run(Command([*PYTHON, f"open({str(out)!r}, 'x')"], out))
    assert out.read_text() == ""


def test_things_run_in_turn() -> None:
    order: list[str] = []

    def cost(command: Command) -> Usage:
        order.append(command.arguments[0])
        return Usage(len(order), len(order), len(order))

    ours, peer = alternate([[Command(["a"])], [Command(["b"]), Command(["c"])]], 3, cost)
    assert order == ["a", "b", "c"] * 3
    assert ours == Usage(4, 4, 4)
    assert peer == Usage(5 + 6, 5 + 6, 6)


def test_steps_in_a_row_add_up_and_the_largest_counts() -> None:
    steps = [Usage(1.0, 2.0, 30), Usage(4.0, 5.0, 20)]
    assert in_row(steps) == Usage(5.0, 7.0, 30)


def test_the_median_forgives_one_bad_run() -> None:
    assert median([Usage(1, 1, 1), Usage(2, 2, 2), Usage(99, 99, 99)]) == Usage(2, 2, 2)
