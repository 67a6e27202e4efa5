"""What a benchmark asks, how it grades an answer, and how it sums up. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from composer.sample import Sample


@dataclass(frozen=True)
class Question:
    """One question. id: unique in the benchmark. task: the column of the table that it counts for.

    sample: a conversation that ends with the user's turn, media included. prefill: text that opens the answer.
    options: the choices in the order A, B, ...; () where the answer is open. references: right answers; of a choice
    the letter alone. frames: taken of each video. max_new_tokens: longest answer.
    """

    id: str
    task: str
    sample: Sample
    references: tuple[str, ...]
    options: tuple[str, ...] = ()
    prefill: str = ""
    frames: int = 16
    max_new_tokens: int = 32


@dataclass(frozen=True)
class Grade:
    """What an answer is worth. scores: by metric, 0 to 1; empty where it could not be graded (`problem` says why).

    parsed: the choice that was read from the answer, None where there was none (which is wrong, never guessed).
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    parsed: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Summary:
    """A benchmark's result. tasks: task -> metric -> mean. counts: questions of each task. averages: by name.

    unparsed: share of choices that could not be read. ungraded: questions without a grade, in no mean.
    """

    tasks: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    averages: Mapping[str, float]
    unparsed: float = 0.0
    ungraded: int = 0


class Benchmark(ABC):
    """A set of questions in its official files. `metric`: the one that tables show."""

    metric: ClassVar[str] = "accuracy"

    @abstractmethod
    def questions(self) -> Sequence[Question]:
        """All questions, in the files' order. Raises DataError, with file and record, for what cannot be read."""

    @abstractmethod
    def grade(self, question: Question, answer: str) -> Grade:
        """Grade one answer (without the question's `prefill`). Pure, except where a judge is asked."""

    @abstractmethod
    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        """Means per task, and averages over tasks."""

    def published(self) -> Mapping[str, Mapping[str, float]]:
        """Rows that papers print, in percent: row -> task or average -> value."""
        return {}
