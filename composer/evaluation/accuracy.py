"""Exact-match accuracy per question type and condition. Does not import torch."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypedDict

from rich import box
from rich.table import Table

from composer.atomic import replacing
from composer.evaluation.answers import Answer
from composer.evaluation.report import RESULTS


@dataclass(frozen=True)
class TypeAccuracy:
    """Accuracy of one question type.

    Attributes:
        question_type: The type.
        count: Number of questions.
        chance: 1 / number of distinct right answers.
        accuracy: Share of right answers by condition.
    """

    question_type: str
    count: int
    chance: float
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of all question types in alphabetical order, and `overall`, their unweighted mean."""

    conditions: tuple[str, ...]
    types: tuple[TypeAccuracy, ...]
    overall: TypeAccuracy


class Results(TypedDict):
    """The content of `results.json` of `composer test`. A row has `n`, `chance` and the accuracy of each condition."""

    checkpoint: str | None
    overall: dict[str, float]
    question_types: dict[str, dict[str, float]]


def is_correct(answer: Answer) -> bool:
    """Whether the answer is one of its references, apart from case and surrounding white space."""
    return _normal(answer.answer) in map(_normal, answer.references)


def measure(answers: Iterable[Answer]) -> Accuracy:
    """Compute the accuracy of answers.

    Args:
        answers: At least one answer, and of each question type some under every condition. A question without a type
            has the type "untyped".
    """
    by_type: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    conditions: dict[str, None] = {}
    for answer in answers:
        conditions[answer.condition] = None
        by_type[answer.task or "untyped"][answer.condition].append(answer)
    types = tuple(_of_type(name, members, tuple(conditions)) for name, members in sorted(by_type.items()))
    overall = TypeAccuracy(
        "overall",
        sum(t.count for t in types),
        fmean(t.chance for t in types),
        {c: fmean(t.accuracy[c] for t in types) for c in conditions},
    )
    return Accuracy(tuple(conditions), types, overall)


def accuracy_table(result: Accuracy) -> Table:
    """Make a table of a row for each question type, one for each condition but the first, and `overall` at the end.

    It fits 80 columns and is plain ASCII.
    """
    plain, *ablated = result.conditions
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("question type")
    for heading in ("n", "accuracy", "chance", *ablated):
        table.add_column(heading, justify="right")
    for row in result.types:
        table.add_row(*_cells(row, plain, ablated))
    table.add_section()
    for condition in ablated:
        mean = result.overall
        table.add_row(condition, str(mean.count), f"{mean.accuracy[condition]:.3f}", f"{mean.chance:.3f}")
    table.add_row(*_cells(result.overall, plain, ablated), style="bold")
    return table


def write_results(result: Accuracy, folder: Path, checkpoint: Path | None) -> Path:
    """Write the table and the tested checkpoint to `results.json`, atomically. Returns its path."""
    results: Results = {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "overall": _record(result.overall),
        "question_types": {t.question_type: _record(t) for t in result.types},
    }
    path = folder / RESULTS
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _of_type(name: str, members: Mapping[str, Sequence[Answer]], conditions: Sequence[str]) -> TypeAccuracy:
    first = members[conditions[0]]
    distinct = {_normal(reference) for answer in first for reference in answer.references}
    accuracy = {condition: fmean(map(is_correct, members[condition])) for condition in conditions}
    return TypeAccuracy(name, len(first), 1 / len(distinct), accuracy)


def _cells(row: TypeAccuracy, plain: str, ablated: Sequence[str]) -> list[str]:
    accuracies = [f"{row.accuracy[c]:.3f}" for c in ablated]
    return [row.question_type, str(row.count), f"{row.accuracy[plain]:.3f}", f"{row.chance:.3f}", *accuracies]


def _record(row: TypeAccuracy) -> dict[str, float]:
    return {"n": row.count, "chance": row.chance, **row.accuracy}


def _normal(text: str) -> str:
    return text.strip().lower()
