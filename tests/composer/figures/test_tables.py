"""Tables at 40 columns: every number of every table is complete."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from composer.benchmark import Metric, Summary
from composer.cli.data.stats import _table
from composer.evaluation.accuracy import Accuracy, TypeAccuracy, accuracy_table
from composer.evaluation.report import result_table
from composer.evaluation.sweep import Point, sweep_table
from composer.figures.tables import print_table

LONG = "a question type with a name that alone needs more than forty columns"
COUNT = 1_642_503_168
CONDITIONS = ("normal", "blind", "shuffled")


def plain() -> tuple[Table, list[str]]:
    table = Table("part", box=None)
    table.add_column("parameters", justify="right")
    table.add_row(LONG, f"{COUNT:,}")
    return table, [LONG, "1,642,503,168"]


def measured() -> tuple[Table, list[str]]:
    row = TypeAccuracy(LONG, COUNT, 0.251, dict(zip(CONDITIONS, (0.987, 0.432, 0.765), strict=True)))
    return accuracy_table(Accuracy(CONDITIONS, (row,), row)), [LONG, str(COUNT), "0.251", "0.987", "0.432", "0.765"]


def evaluated() -> tuple[Table, list[str]]:
    summary = Summary(
        counts={LONG: COUNT}, tasks={LONG: {"accuracy": 0.876}}, averages={"average": 0.654}, unparsed=None
    )
    published = {"a row of a paper": {LONG: 43.2}}
    return result_table(summary, [Metric("accuracy")], published), [LONG, str(COUNT), "43.2"]


def swept() -> tuple[Table, list[str]]:
    orders = [f"order-{n}-of-merged-tokens" for n in range(4)]
    points = [Point("b", "average", order, 0.125, 0.1 + n / 9, 0.9) for n, order in enumerate(orders)]
    return sweep_table(points), ["12.5%", *orders, "10.0 (90.0)", "43.3 (90.0)"]


def counted() -> tuple[Table, list[str]]:
    numbers = {"p50": COUNT, "p95": COUNT + 1, "p99": COUNT + 2, "max": COUNT + 3, "over context": 0.125}
    about = {"read": 2000, "records": COUNT, "text tokens": numbers, "positions": numbers}
    return _table("stage", {LONG: about}), [LONG, "2,000 of 1,642,503,168", "1,642,503,168 / 1,642,503,169", "12.5%"]


@pytest.mark.parametrize("make", [plain, measured, evaluated, swept, counted])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_cell_is_cut_at_40_columns(make: Callable[[], tuple[Table, list[str]]], terminal: bool) -> None:
    table, cells = make()
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=terminal, color_system=None)
    print_table(table, console)
    assert console.width == 40
    assert "…" not in out.getvalue()
    for cell in cells:
        assert cell in out.getvalue()
