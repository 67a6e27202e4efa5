"""Exact-match accuracy per question type, under each condition in which the questions were asked."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

RESULTS = "results.json"
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Prediction:
    """What the model said to one question. condition: `normal`, or how the media were spoilt (`blind`, `shuffled`)."""

    id: str
    question_type: str
    condition: str
    prediction: str
    answer: str

    @property
    def correct(self) -> bool:
        """Whether the two are the same text, apart from case and the white space around it."""
        return _normal(self.prediction) == _normal(self.answer)


@dataclass(frozen=True)
class TypeAccuracy:
    """One question type. count: questions; chance: one in the distinct answers; accuracy: of each condition."""

    question_type: str
    count: int
    chance: float
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class Accuracy:
    """Every question type in alphabetical order, and `overall`, the unweighted mean over them."""

    conditions: tuple[str, ...]
    types: tuple[TypeAccuracy, ...]
    overall: TypeAccuracy


def measure(answers: Iterable[Prediction]) -> Accuracy:
    """Accuracy of these answers. Where a sampler repeated a question, its last answer counts.

    A question without a type is of the type "untyped". Every type must have been asked under every condition, and at
    least one question asked.
    """
    unique = {(a.condition, a.question_type, a.id): a for a in answers}
    conditions = tuple(dict.fromkeys(a.condition for a in unique.values()))
    by_type: dict[str, dict[str, list[Prediction]]] = defaultdict(lambda: defaultdict(list))
    for a in unique.values():
        by_type[a.question_type or "untyped"][a.condition].append(a)
    types = tuple(_of_type(name, asked, conditions) for name, asked in sorted(by_type.items()))
    overall = TypeAccuracy(
        "overall",
        sum(t.count for t in types),
        fmean(t.chance for t in types),
        {c: fmean(t.accuracy[c] for t in types) for c in conditions},
    )
    return Accuracy(conditions, types, overall)


def accuracy_table(result: Accuracy) -> Table:
    """A row for each question type, one for each condition that spoils the media, and `overall` as the last line.

    Fits 80 columns and needs ASCII only.
    """
    plain, *spoilt = result.conditions
    table = Table(box=box.ASCII2, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("question type")
    for heading in ("n", "accuracy", "chance", *spoilt):
        table.add_column(heading, justify="right")
    for row in result.types:
        table.add_row(*_cells(row, plain, spoilt))
    table.add_section()
    for condition in spoilt:
        mean = result.overall
        table.add_row(condition, str(mean.count), f"{mean.accuracy[condition]:.3f}", f"{mean.chance:.3f}")
    table.add_row(*_cells(result.overall, plain, spoilt), style="bold")
    return table


def write_results(result: Accuracy, answers: Sequence[Prediction], folder: Path, **about: Any) -> None:
    """Write `results.json` (the table, and `about`: where it comes from) and `answers.jsonl` (every answer)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ANSWERS).open("w", encoding="utf-8") as file:
        for a in answers:
            file.write(json.dumps({**asdict(a), "correct": a.correct}, ensure_ascii=False) + "\n")
    record = {
        **about,
        "overall": _record(result.overall),
        "question_types": {t.question_type: _record(t) for t in result.types},
    }
    (folder / RESULTS).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _of_type(name: str, asked: Mapping[str, Sequence[Prediction]], conditions: Sequence[str]) -> TypeAccuracy:
    first = asked[conditions[0]]
    distinct = {_normal(a.answer) for a in first}
    return TypeAccuracy(
        name, len(first), 1 / len(distinct), {c: fmean(a.correct for a in asked[c]) for c in conditions}
    )


def _cells(row: TypeAccuracy, plain: str, spoilt: Sequence[str]) -> list[str]:
    accuracies = [f"{row.accuracy[c]:.3f}" for c in spoilt]
    return [row.question_type, str(row.count), f"{row.accuracy[plain]:.3f}", f"{row.chance:.3f}", *accuracies]


def _record(row: TypeAccuracy) -> dict[str, Any]:
    return {"n": row.count, "chance": row.chance, **row.accuracy}


def _normal(text: str) -> str:
    return text.strip().lower()
