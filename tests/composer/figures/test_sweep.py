"""Panels and lines of a sweep's figure."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes

from composer.evaluation.sweep import Point, sweep_points
from composer.figures.sweep import draw_sweep, sweep_figure
from tests.composer.evaluation.test_sweep import two_tasks


@pytest.fixture
def points() -> list[Point]:
    return two_tasks()


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
    assert [text.get_text() for axes in (ego, count) for text in axes.texts if "%" not in text.get_text()] == [
        "no answer is right"
    ]


def test_thresholds_are_lines_with_their_names(points: list[Point]) -> None:
    for axes in sweep_figure(points).axes:
        level = [line.get_ydata()[0] for line in axes.get_lines() if str(line.get_label()).startswith("_")]
        assert level == [90, 80]
        assert [text.get_text() for text in axes.texts][:2] == ["90%", "80%"]


def test_many_tasks_leave_no_empty_panel() -> None:
    tasks = {f"task {number}": {"n": 1, "accuracy": 0.5} for number in range(20)}
    cells = {(0.5, "none"): {"metric": "accuracy", "averages": {"all tasks": 0.5}, "tasks": tasks}}
    assert len(sweep_figure(sweep_points("mvbench", cells)).axes) == 21


def test_the_file_is_a_png(points: list[Point], tmp_path: Path) -> None:
    draw_sweep(points, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
