"""Numbers and thresholds of a sweep."""

from pathlib import Path
from typing import Any

import pytest

from composer.errors import DataError
from composer.evaluation.sweep import Point, smallest_keep_ratio, sweep_points, write_points

RATIOS = (0.1, 0.5, 1.0)
EGO = {"none": (0.4, 0.63, 0.6), "ascending": (0.56, 0.7, 0.6)}


def result(ego: float, count: float) -> dict[str, Any]:
    tasks = {"ego": {"n": 10, "accuracy": ego}, "count": {"n": 10, "accuracy": count}, "order": {"n": 3}}
    return {"metric": "accuracy", "averages": {"all tasks": (ego + count) / 2}, "tasks": tasks}


def two_tasks() -> list[Point]:
    """Of `count` no answer is right."""
    cells = {(ratio, order): result(EGO[order][place], 0.0) for place, ratio in enumerate(RATIOS) for order in EGO}
    return sweep_points("mlvu", cells)


@pytest.fixture
def points() -> list[Point]:
    return two_tasks()


def of(points: list[Point], task: str, order: str) -> list[Point]:
    return [point for point in points if (point.task, point.order) == (task, order)]


def test_shares_are_of_the_best_over_all_orders(points: list[Point]) -> None:
    assert list(dict.fromkeys(point.task for point in points)) == ["all tasks", "ego", "count"]
    assert [point.keep_ratio for point in of(points, "ego", "none")] == list(RATIOS)
    shares = [point.share_of_best for point in of(points, "ego", "none")]
    assert shares == pytest.approx([0.4 / 0.7, 0.9, 0.6 / 0.7])
    assert {point.share_of_best for point in points if point.task == "count"} == {None}


def test_smallest_ratios(points: list[Point]) -> None:
    assert smallest_keep_ratio(of(points, "ego", "none"), 0.9) == 0.5
    assert smallest_keep_ratio(of(points, "ego", "ascending"), 0.8) == 0.1
    assert smallest_keep_ratio(of(points, "ego", "none"), 0.95) is None
    assert smallest_keep_ratio(of(points, "count", "none"), 0.8) is None


def test_without_a_grade_there_is_nothing_to_compare() -> None:
    ungraded = {"metric": "accuracy", "averages": {}, "tasks": {"ego": {"n": 10}}}
    with pytest.raises(DataError, match="mlvu: no answer of any evaluation was graded"):
        sweep_points("mlvu", {(0.5, "none"): ungraded})


def test_files(points: list[Point], tmp_path: Path) -> None:
    write_points(points, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "benchmark,task,order,keep_ratio,score,share_of_best"
    assert "mlvu,ego,ascending,0.5,0.7,1.0" in lines
    assert "mlvu,count,none,0.1,0.0," in lines
