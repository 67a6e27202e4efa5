"""Numbers, thresholds and lines of a sweep."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from composer.errors import DataError
from composer.evaluation.sweep import Point, draw_sweep, smallest_ratio, sweep_figure, sweep_points, write_points

RATIOS = (0.1, 0.5, 1.0)
EGO = {"none": (0.4, 0.63, 0.6), "ascending": (0.56, 0.7, 0.6)}


def result(ego: float, count: float) -> dict[str, Any]:
    tasks = {"ego": {"n": 10, "accuracy": ego}, "count": {"n": 10, "accuracy": count}, "order": {"n": 3}}
    return {"metric": "accuracy", "averages": {"all tasks": (ego + count) / 2}, "tasks": tasks}


@pytest.fixture
def points() -> list[Point]:
    """Of `count` no answer is right."""
    cells = {(ratio, order): result(EGO[order][place], 0.0) for place, ratio in enumerate(RATIOS) for order in EGO}
    return sweep_points("mlvu", cells)


def of(points: list[Point], task: str, order: str) -> list[Point]:
    return [point for point in points if (point.task, point.order) == (task, order)]


def test_shares_are_of_the_best_over_all_orders(points: list[Point]) -> None:
    assert list(dict.fromkeys(point.task for point in points)) == ["all tasks", "ego", "count"]
    assert [point.ratio for point in of(points, "ego", "none")] == list(RATIOS)
    shares = [point.share_of_best for point in of(points, "ego", "none")]
    assert shares == pytest.approx([0.4 / 0.7, 0.9, 0.6 / 0.7])
    assert {point.share_of_best for point in points if point.task == "count"} == {None}


def test_smallest_ratios(points: list[Point]) -> None:
    assert smallest_ratio(of(points, "ego", "none"), 0.9) == 0.5
    assert smallest_ratio(of(points, "ego", "ascending"), 0.8) == 0.1
    assert smallest_ratio(of(points, "ego", "none"), 0.95) is None
    assert smallest_ratio(of(points, "count", "none"), 0.8) is None


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The lines that have a name."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def test_a_panel_for_each_task_a_line_for_each_order(points: list[Point]) -> None:
    figure = sweep_figure(points)
    average, ego, count = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["all tasks", "ego", "count"]
    lines = curves(ego)
    assert list(lines) == ["none", "ascending"]
    expected = [(10, 100 * 0.56 / 0.7), (50, 100), (100, 100 * 0.6 / 0.7)]
    assert lines["ascending"] == [pytest.approx(point) for point in expected]
    assert curves(average) == {order: [pytest.approx(p) for p in line] for order, line in lines.items()}
    assert curves(count) == {"none": [], "ascending": []}


def test_thresholds_are_lines_with_their_names(points: list[Point]) -> None:
    for axes in sweep_figure(points).axes:
        level = [line.get_ydata()[0] for line in axes.get_lines() if str(line.get_label()).startswith("_")]
        assert level == [90, 80]
        assert [text.get_text() for text in axes.texts] == ["90%", "80%"]


def test_many_tasks_leave_no_empty_panel() -> None:
    tasks = {f"task {number}": {"n": 1, "accuracy": 0.5} for number in range(20)}
    cells = {(0.5, "none"): {"metric": "accuracy", "averages": {"all tasks": 0.5}, "tasks": tasks}}
    assert len(sweep_figure(sweep_points("mvbench", cells)).axes) == 21


def test_without_a_grade_there_is_nothing_to_compare() -> None:
    ungraded = {"metric": "accuracy", "averages": {}, "tasks": {"ego": {"n": 10}}}
    with pytest.raises(DataError, match="mlvu: no answer of any evaluation was graded"):
        sweep_points("mlvu", {(0.5, "none"): ungraded})


def test_files(points: list[Point], tmp_path: Path) -> None:
    draw_sweep(points, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    write_points(points, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "benchmark,task,order,ratio,score,share_of_best"
    assert "mlvu,ego,ascending,0.5,0.7,1.0" in lines
    assert "mlvu,count,none,0.1,0.0," in lines
