"""What a benchmark asks, how it grades an answer, and how it sums up. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from composer.errors import DataError
from composer.sample import Sample


@dataclass(frozen=True)
class Question:
    """One question. id: unique in the benchmark. task: the column of the table that it counts for.

    sample: a conversation that ends with the user's turn, media included. prefill: text that opens the answer.
    options: the choices in the order A, B, ...; () where the answer is open. references: right answers; of a choice
    the letter alone; () if the record has no right option. frames: taken of each video. max_new_tokens: longest answer.
    """

    id: str
    task: str
    sample: Sample
    references: tuple[str, ...]
    options: tuple[str, ...] = ()
    prefill: str = ""
    frames: int = 16
    max_new_tokens: int = 32


class Metric(NamedTuple):
    """A metric as tables show it: its values times `factor`, with so many digits, below `name unit`."""

    name: str
    unit: str = "%"
    factor: float = 100.0
    digits: int = 1


@dataclass(frozen=True)
class Reply:
    """What a judge said, word for word, and the model that said it, by its own account."""

    text: str
    model: str


@dataclass(frozen=True)
class Grade:
    """What an answer is worth. scores: by metric; empty where it could not be graded (`problem` says why).

    Metrics of all answers together, such as CIDEr, are in no grade but in the summary. parsed: the choice that was read
    from the answer, None where there was none (which is wrong, never guessed). replies: all that a judge said about it.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    parsed: str | None = None
    problem: str | None = None
    replies: tuple[Reply, ...] = ()


class Skipped(NamedTuple):
    """A record that is not asked. place: where it is, such as `FILE: record 7`. reason: what is wrong with it."""

    place: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """A benchmark's result. tasks: task -> metric -> mean. counts: questions of each task.

    averages: of the first metric, by name. beside: other metrics of the same averages, name -> metric -> value.
    unparsed: share of choices that could not be read; None where there is nothing to choose. ungraded: questions
    without a grade, in no mean. notes: what a reader of the numbers must know.
    """

    tasks: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    averages: Mapping[str, float]
    unparsed: float | None = 0.0
    ungraded: int = 0
    other_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Benchmark(ABC):
    """A set of questions in its official files.

    metrics: what tables show; averages and published rows are of the first. grading_options: options that change grades
    and no answer. at_once: answers that may be graded at the same time, each in a thread of its own.
    """

    metrics: tuple[Metric, ...] = (Metric("accuracy"),)
    grading_options: ClassVar[frozenset[str]] = frozenset()
    at_once: int = 1

    @cached_property
    def skipped(self) -> list[Skipped]:
        """The records that `questions` did not turn into questions; tables and `results.json` show them."""
        return []

    @contextmanager
    def skipping(self, place: str) -> Iterator[None]:
        """Read one record: a DataError that is raised inside is why `skipped` has it."""
        try:
            yield
        except DataError as error:
            self.skipped.append(Skipped(place, str(error)))

    @property
    def metric(self) -> str:
        """The first metric's name."""
        return self.metrics[0].name

    @abstractmethod
    def questions(self) -> Sequence[Question]:
        """All questions, in the files' order. A record that cannot be asked goes to `skipped` and stops no other.

        Raises DataError if a file is missing or is not what the benchmark publishes.
        """

    @abstractmethod
    def grade(self, question: Question, answer: str) -> Grade:
        """Grade one answer (without the question's `prefill`). Pure, except where a judge is asked."""

    @abstractmethod
    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        """Means per task, and averages over tasks."""

    def judge_id(self) -> Mapping[str, Any] | None:
        """Who grades, with all that changes grades, such as a digest of its prompts; None where this code alone does.

        A judge's grades are kept in `grades.jsonl` as they are given. An answer whose grade has a `problem` is graded
        again by the next `composer evaluate`.
        """
        return None

    def published(self) -> Mapping[str, Mapping[str, float]]:
        """Rows that papers print, in percent: row -> task or average -> value."""
        return {}
