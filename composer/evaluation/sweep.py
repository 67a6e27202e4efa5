"""Scores by share of kept tokens and order of merged tokens: numbers and table. Does not import torch."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rich import box
from rich.table import Table

from composer.atomic import replacing
from composer.errors import DataError
from composer.evaluation.report import Results

THRESHOLDS = (0.9, 0.8)
"""Shares of the best score that the figures of AuroraLong's supplement (D2 to D4) mark."""


@dataclass(frozen=True)
class Point:
    """One score of a sweep.

    Attributes:
        benchmark: The benchmark.
        task: A task, or the name of an average over tasks.
        order: Order of the merged tokens.
        keep_ratio: Share of kept tokens.
        score: From 0 to 1.
        share_of_best: Ratio to the task's best score over all ratios and orders; None if that is 0.
    """

    benchmark: str
    task: str
    order: str
    keep_ratio: float
    score: float
    share_of_best: float | None


def sweep_points(benchmark: str, results: Mapping[tuple[float, str], Results]) -> list[Point]:
    """List the scores of a benchmark: averages, then tasks, each in the order of `results`.

    Args:
        benchmark: Name of the benchmark.
        results: Content of `results.json` by ratio and order.

    Raises:
        DataError: No answer was graded.
    """
    scores: dict[str, dict[tuple[float, str], float]] = {}
    for cell, result in results.items():
        tasks = {
            task: values[result["metric"]] for task, values in result["tasks"].items() if result["metric"] in values
        }
        for task, score in {**tasks, **result["averages"]}.items():
            scores.setdefault(task, {})[cell] = score
    if not scores:
        raise DataError(f"{benchmark}: no answer of any evaluation was graded, so there is nothing to compare")
    averages = next(iter(results.values()))["averages"]
    points = []
    for task in dict.fromkeys((*averages, *scores)):
        best = max(scores[task].values())
        points += [
            Point(benchmark, task, order, ratio, score, score / best if best > 0 else None)
            for (ratio, order), score in scores[task].items()
        ]
    return points


def smallest_keep_ratio(points: Sequence[Point], threshold: float) -> float | None:
    """Find the smallest kept ratio whose score is at least this share of the best one; None if there is none."""
    # A share is a quotient of rounded numbers: 0.63 / 0.7 is meant to reach 0.9.
    reached = [p.keep_ratio for p in points if p.share_of_best is not None and p.share_of_best >= threshold - 1e-9]
    return min(reached, default=None)


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write the scores as CSV, atomically; an unknown share is empty."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Point)])
        writer.writerows(astuple(point) for point in points)


def sweep_table(points: Sequence[Point]) -> Table:
    """Make a table of a benchmark's first average: score (and share of the best) in percent by ratio and order.

    The last lines are the smallest kept ratios that reach each of `THRESHOLDS`.
    """
    average = [point for point in points if point.task == points[0].task]
    orders = list(dict.fromkeys(point.order for point in average))
    scores = {(point.keep_ratio, point.order): point for point in average}
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("kept")
    for order in orders:
        table.add_column(order, justify="right")
    for ratio in sorted({point.keep_ratio for point in average}):
        table.add_row(_percent(ratio), *(_cell(scores.get((ratio, order))) for order in orders))
    table.add_section()
    for threshold in THRESHOLDS:
        smallest = [smallest_keep_ratio([p for p in average if p.order == order], threshold) for order in orders]
        kept = ["never" if ratio is None else f"kept {_percent(ratio)}" for ratio in smallest]
        table.add_row(f"{_percent(threshold)} of the best", *kept)
    return table


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    share = "" if point.share_of_best is None else f" ({100 * point.share_of_best:.1f})"
    return f"{100 * point.score:.1f}{share}"


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%"
