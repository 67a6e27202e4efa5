"""Result of a benchmark as a value, a file and a table. Does not import torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from rich import box
from rich.table import Table
from rich.text import Text

from composer.atomic import replacing
from composer.benchmark import Metric, Skipped, Summary
from composer.errors import DataError

RESULTS = "results.json"


@dataclass(frozen=True)
class Result:
    """A benchmark's result.

    Attributes:
        summary: Means per task, averages over tasks, and counts. Scores are from 0 to 1.
        metrics: The benchmark's metrics; the averages are of the first.
        published: Published rows in percent: row -> task or average -> value.
        skipped: Skipped records, with their reasons.
        path: Path of `results.json`.
    """

    summary: Summary
    metrics: tuple[Metric, ...]
    published: Mapping[str, Mapping[str, float]]
    skipped: tuple[Skipped, ...]
    path: Path

    @property
    def metric(self) -> str:
        """The name of the metric that the averages are of."""
        return self.metrics[0].name

    @property
    def averages(self) -> Mapping[str, float]:
        """Averages over tasks, by name."""
        return self.summary.averages

    @property
    def tasks(self) -> Mapping[str, Mapping[str, float]]:
        """Task -> metric -> mean."""
        return self.summary.tasks


class EvaluatedCheckpoint(TypedDict):
    """The checkpoint in `results.json`."""

    file: str
    fingerprint: str


class About(TypedDict):
    """Benchmark, model and options of a result in `results.json`."""

    benchmark: str
    options: dict[str, object]
    condition: str
    checkpoint: EvaluatedCheckpoint
    model: dict[str, object]
    limit: int | None
    judge: NotRequired[dict[str, object]]


class Scores(TypedDict):
    """The result itself in `results.json`. Scores are from 0 to 1, published rows as papers print them."""

    metric: str
    questions: int
    averages: dict[str, float]
    unparsed: float | None
    ungraded: int
    tasks: dict[str, dict[str, float]]
    published: dict[str, dict[str, float]]
    other_metrics: NotRequired[dict[str, dict[str, float]]]
    notes: NotRequired[list[str]]
    skipped: NotRequired[list[dict[str, str]]]


class Results(About, Scores):
    """The content of `results.json`."""


def result_record(
    summary: Summary,
    metric: str,
    published: Mapping[str, Mapping[str, float]],
    skipped: Sequence[Skipped],
    about: About,
) -> Results:
    """Convert a result to plain values.

    Args:
        summary: Means per task, averages and counts.
        metric: Metric of the averages.
        published: Published rows in percent.
        skipped: Skipped records.
        about: Benchmark, model and options.
    """
    scores: Scores = {
        "metric": metric,
        "questions": sum(summary.counts.values()),
        "averages": dict(summary.averages),
        "unparsed": summary.unparsed,
        "ungraded": summary.ungraded,
        "tasks": {task: {"n": count, **summary.tasks.get(task, {})} for task, count in summary.counts.items()},
        "published": {row: dict(values) for row, values in published.items()},
    }
    if summary.other_metrics:
        scores["other_metrics"] = {name: dict(values) for name, values in summary.other_metrics.items()}
    if summary.notes:
        scores["notes"] = list(summary.notes)
    if skipped:
        scores["skipped"] = [item._asdict() for item in skipped]
    return {**about, **scores}


def refuse_to_shrink(folder: Path, questions: int) -> None:
    """Raise DataError if the folder has a result of more questions than these, which would replace it."""
    path = folder / RESULTS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["questions"] if path.exists() else 0
    except (ValueError, KeyError, TypeError):
        return  # not a result of ours
    if questions < before:
        raise DataError(
            f"{path} is the result of {before} questions, and --limit would replace it with that of {questions}: give "
            "another --output, or no --limit"
        )


def write_result(record: Results, folder: Path) -> Path:
    """Write `results.json` atomically. Returns its path."""
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
    """Make a table of a line per task, the averages, the counts of what was not parsed, graded or asked, and the notes.

    Args:
        summary: Means per task, averages and counts.
        metrics: Metrics, a column each.
        published: Published rows in percent, a column each.
        skipped: Skipped records.
    """
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("task")
    for heading in ("n", *(f"{m.name} {m.unit}" for m in metrics), *published):
        table.add_column(heading, justify="right")

    def add(name: str, count: int | None, scores: Mapping[str, float], style: str | None = None) -> None:
        own = [_metric(scores.get(m.name), m) for m in metrics]
        theirs = [_number(row.get(name), 1) for row in published.values()]
        table.add_row(name, "" if count is None else str(count), *own, *theirs, style=style)

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


def _metric(value: float | None, metric: Metric) -> str:
    return _number(None if value is None else value * metric.factor, metric.digits)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
