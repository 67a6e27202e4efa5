"""Interface of benchmarks: questions, grades and summaries. Does not import torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

from composer.errors import DataError
from composer.sample import Sample


@dataclass(frozen=True)
class Question:
    """One question of a benchmark.

    Attributes:
        id: Identifier, unique within the benchmark.
        task: Task of the question, a column of the result table.
        sample: Conversation with its media, ending with a user turn.
        references: Correct answers; letters for multiple choice; () if no option is correct.
        options: Options A, B, ... of multiple choice; () for an open question.
        prefill: Text that the answer starts with; the model continues it.
        frames: Frames per video.
        max_new_tokens: Maximum length of the answer in tokens.
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
    """Display format of a metric: values times `factor` with `digits` decimals, in the column `name unit`."""

    name: str
    unit: str = "%"
    factor: float = 100.0
    digits: int = 1


@dataclass(frozen=True)
class Reply:
    """Unmodified reply of a judge, and the model name that the judge reports."""

    text: str
    model: str


@dataclass(frozen=True)
class Grade:
    """Grade of one answer. Corpus metrics, for example CIDEr, are part of the summary instead.

    Attributes:
        scores: Value of each metric; empty if the answer could not be graded.
        parsed: Option that was parsed from the answer; None if there is none, which is wrong (never guessed).
        problem: Reason why the answer could not be graded.
        replies: All replies of the judge about the answer.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    parsed: str | None = None
    problem: str | None = None
    replies: tuple[Reply, ...] = ()


class Skipped(NamedTuple):
    """A record that is skipped. place: its location, for example `FILE: record 7`. reason: the problem with it."""

    place: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """Result of a benchmark.

    Attributes:
        tasks: Mean by task and metric.
        counts: Number of questions by task.
        averages: Averages of the first metric over tasks or questions, by name.
        unparsed: Fraction of answers without a parsed option; None if the benchmark has no options.
        ungraded: Number of questions without a grade; they are excluded from all means.
        other_metrics: The same averages of the other metrics, by name and metric.
        notes: Remarks that are needed to interpret the numbers.
    """

    tasks: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    averages: Mapping[str, float]
    unparsed: float | None = 0.0
    ungraded: int = 0
    other_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Benchmark(ABC):
    """A set of questions, read from its official files.

    Attributes:
        metrics: Metrics of the result table; averages and published rows use the first one.
        grading_options: Names of the options that change grades but not answers.
        at_once: Maximum number of answers that are graded concurrently, in threads.
    """

    metrics: tuple[Metric, ...] = (Metric("accuracy"),)
    grading_options: ClassVar[frozenset[str]] = frozenset()
    at_once: int = 1

    @cached_property
    def skipped(self) -> list[Skipped]:
        """Records that `questions` skipped; the table and `results.json` list them."""
        return []

    @contextmanager
    def skipping(self, place: str) -> Iterator[None]:
        """Read one record in the block; a DataError in the block adds it to `skipped`.

        Args:
            place: Location of the record, for messages.
        """
        try:
            yield
        except DataError as error:
            self.skipped.append(Skipped(place, str(error)))

    @property
    def metric(self) -> str:
        """Name of the first metric."""
        return self.metrics[0].name

    @abstractmethod
    def questions(self) -> Sequence[Question]:
        """Read all questions, in the order of the files. Invalid records are added to `skipped`.

        Raises:
            DataError: If a file is missing or does not have the benchmark's official format.
        """

    @abstractmethod
    def grade(self, question: Question, answer: str) -> Grade:
        """Grade one answer. Deterministic, except if a judge is asked.

        Args:
            question: The question.
            answer: The answer, without the question's `prefill`.
        """

    @abstractmethod
    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        """Compute means by task, and averages over them.

        Args:
            questions: The questions that were asked.
            answers: Their answers, in the same order.
            grades: Their grades, in the same order.
        """

    def judge_id(self) -> Mapping[str, object] | None:
        """Return the identity of the judge: all values that change its grades, for example a hash of its prompts.

        A judge's grades are appended to `grades.jsonl` one by one. The next `composer evaluate` grades answers again
        whose grade has a `problem`.

        Returns:
            JSON-compatible values; None if no judge is needed.
        """
        return None

    def published(self) -> Mapping[str, Mapping[str, float]]:
        """Return published results in percent, by row and by task or average."""
        return {}
