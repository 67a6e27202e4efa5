"""A benchmark's result as a file and as a table. No torch here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from composer.atomic import replacing
from composer.benchmark import Metric, Skipped, Summary
from composer.errors import DataError

RESULTS = "results.json"


def result_record(
    summary: Summary,
    metric: str,
    published: Mapping[str, Mapping[str, float]],
    skipped: Sequence[Skipped] = (),
    **about: Any,
) -> dict[str, Any]:
    """A result as plain values. Shares are from 0 to 1, published rows as papers print them.

    metric: the one of the averages. skipped: records that were not asked. about: what it is the result of.
    """
    extra: dict[str, Any] = {}
    if summary.other_metrics:
        extra["other_metrics"] = {name: dict(values) for name, values in summary.other_metrics.items()}
    if summary.notes:
        extra["notes"] = list(summary.notes)
    if skipped:
        extra["skipped"] = [record._asdict() for record in skipped]
    return {
        **about,
        "metric": metric,
        "questions": sum(summary.counts.values()),
        "averages": dict(summary.averages),
        "unparsed": summary.unparsed,
        "ungraded": summary.ungraded,
        "tasks": {task: {"n": count, **summary.tasks.get(task, {})} for task, count in summary.counts.items()},
        "published": {row: dict(values) for row, values in published.items()},
        **extra,
    }


def refuse_to_shrink(folder: Path, questions: int) -> None:
    """Raise DataError where the folder's result is of more questions than these, which would take its place."""
    path = folder / RESULTS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["questions"] if path.exists() else 0
    except (ValueError, KeyError, TypeError):
        return  # no result of ours
    if questions < before:
        raise DataError(
            f"{path} is the result of {before} questions, and with --limit {questions} would take their place: give "
            "another --output, or leave --limit away."
        )


def write_result(record: Mapping[str, Any], folder: Path) -> Path:
    """Write `results.json`, whole or not at all."""
    path = folder / RESULTS
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def result_table(
    summary: Summary,
    metrics: Sequence[Metric],
    published: Mapping[str, Mapping[str, float]],
    skipped: Sequence[Skipped] = (),
) -> Table:
    """A line for each task, then the averages, what was not read, graded or asked, and the notes below.

    metrics: a column each; published rows stand beside the first.
    """
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("task")
    for heading in ("n", *(f"{m.name} {m.unit}" for m in metrics), *published):
        table.add_column(heading, justify="right")

    def add(name: str, count: int | None, scores: Mapping[str, float], style: str | None = None) -> None:
        own = [_shown(scores.get(m.name), m) for m in metrics]
        beside = [_number(row.get(name), 1) for row in published.values()]
        table.add_row(name, "" if count is None else str(count), *own, *beside, style=style)

    for task, count in summary.counts.items():
        add(task, count, summary.tasks.get(task, {}))
    table.add_section()
    first = metrics[0].name
    for name, average in summary.averages.items():
        add(name, None, {first: average, **summary.other_metrics.get(name, {})}, "bold")
    if summary.unparsed is not None:
        add("unparsed", round(summary.unparsed * sum(summary.counts.values())), {first: summary.unparsed})
    if summary.ungraded:
        add("ungraded", summary.ungraded, {})
    if skipped:
        add("skipped", len(skipped), {})
    if summary.notes:
        table.caption = Text("\n".join(summary.notes))
    return table


def _shown(value: float | None, metric: Metric) -> str:
    return _number(None if value is None else value * metric.factor, metric.digits)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
