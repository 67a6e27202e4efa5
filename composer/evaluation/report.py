"""A benchmark's result as a file and as a table. No torch here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from composer.atomic import replacing
from composer.benchmark import Summary

RESULTS = "results.json"


def result_record(
    summary: Summary, metric: str, published: Mapping[str, Mapping[str, float]], **about: Any
) -> dict[str, Any]:
    """A result as plain values. Scores are from 0 to 1, published rows in percent. about: what it is the result of."""
    return {
        **about,
        "metric": metric,
        "questions": sum(summary.counts.values()),
        "averages": dict(summary.averages),
        "unparsed": summary.unparsed,
        "ungraded": summary.ungraded,
        "tasks": {task: {"n": count, **summary.tasks.get(task, {})} for task, count in summary.counts.items()},
        "published": {row: dict(values) for row, values in published.items()},
    }


def write_result(record: Mapping[str, Any], folder: Path) -> Path:
    """Write `results.json`, whole or not at all."""
    path = folder / RESULTS
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def result_table(summary: Summary, metric: str, published: Mapping[str, Mapping[str, float]]) -> Table:
    """A line for each task, then the averages and the share of answers without a choice. All in percent."""
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("task")
    for heading in ("n", f"{metric} %", *published):
        table.add_column(heading, justify="right")

    def add(name: str, count: int | None, score: float | None, style: str | None = None) -> None:
        beside = [_percent(row.get(name)) for row in published.values()]
        own = None if score is None else 100 * score
        table.add_row(name, "" if count is None else str(count), _percent(own), *beside, style=style)

    for task, count in summary.counts.items():
        add(task, count, summary.tasks.get(task, {}).get(metric))
    table.add_section()
    for name, average in summary.averages.items():
        add(name, None, average, "bold")
    add("unparsed", round(summary.unparsed * sum(summary.counts.values())), summary.unparsed)
    if summary.ungraded:
        add("ungraded", summary.ungraded, None)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
