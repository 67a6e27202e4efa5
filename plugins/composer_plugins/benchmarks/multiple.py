"""Base class of multiple-choice benchmarks: questions, grades and means."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from string import ascii_uppercase
from typing import Any, ClassVar

from composer.benchmark import Benchmark, Grade, Question, Summary
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks import Compat
from composer_plugins.benchmarks.choice import parse_choice
from composer_plugins.benchmarks.files import check_record, is_number, is_text

SHOWN = 3


class MultipleChoice(Benchmark):
    """A benchmark whose answers are letters.

    Attributes:
        system: Text of the system turn.
        prefill: Start of the answer.
        all_tasks: All tasks, in the order of the result table.
        subset: Tasks of a paper's average.
        subset_name: Name of this average.
    """

    grading_options = frozenset({"compat"})
    system: ClassVar[str]
    prefill: ClassVar[str]
    all_tasks: tuple[str, ...]
    subset: tuple[str, ...]
    subset_name: ClassVar[str]

    def __init__(self, root: str, frames: int, compat: Compat) -> None:
        self.root, self.frames, self.compat = Path(root), frames, compat

    @abstractmethod
    def counts(self, answer: str, question: Question) -> bool | None:
        """Return whether an answer is correct by `self.compat` (not `strict`); None to exclude it from means."""

    def question(self, key: str, task: str, media: Media, record: Mapping[str, Any], source: str) -> Question:
        """Create the question of a record. If options are equal, each of them is correct.

        Args:
            key: Identifier of the question.
            task: Task of the question.
            media: Video of the question.
            record: Record from `check_choice`.
            source: Location of the record, for messages.

        Returns:
            The question.
        """
        options = tuple(map(str, record["candidates"]))
        lettered = list(zip(ascii_uppercase, options, strict=False))
        listed = "\n".join(f"({letter}) {option}" for letter, option in lettered)
        text = f"{self.lead()}Question: {record['question']}\nOptions:\n{listed}".rstrip()
        messages = (
            Message("system", (self.system,)),
            Message("user", (media, f"{text}\nOnly give the best option.")),
        )
        return Question(
            id=key,
            task=task,
            sample=Sample(key, source, messages, {"question_type": task, "answer": str(record["answer"])}),
            references=tuple(letter for letter, option in lettered if _text(option) == _text(record["answer"])),
            options=options,
            prefill=self.prefill,
            frames=self.frames,
            max_new_tokens=100,
        )

    def lead(self) -> str:
        """Return the text before the question."""
        return ""

    def grade(self, question: Question, answer: str) -> Grade:
        parsed = parse_choice(answer, question.options)
        if not question.references:
            problem = f"no option equals the record's answer {question.sample.meta['answer']!r}"
            return (
                Grade(parsed=parsed, problem=problem) if self.compat == "strict" else Grade({self.metric: 0.0}, parsed)
            )
        right = parsed in question.references if self.compat == "strict" else self.counts(answer, question)
        if right is None:
            return Grade(parsed=parsed, problem="lmms-eval excludes empty answers from the mean")
        return Grade({self.metric: float(right)}, parsed)

    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        scores: dict[str, list[float]] = {task: [] for task in self.all_tasks}
        counts = dict.fromkeys(self.all_tasks, 0)
        for question, grade in zip(questions, grades, strict=True):
            counts[question.task] += 1
            if self.metric in grade.scores:
                scores[question.task].append(grade.scores[self.metric])
        means = {task: fmean(values) for task, values in scores.items() if values}
        averages = {}
        if means:
            complete = len(means) == len(self.all_tasks)
            averages["all tasks" if complete else f"{len(means)} of {len(self.all_tasks)} tasks"] = fmean(
                means.values()
            )
        if set(self.subset) <= means.keys():
            averages[self.subset_name] = fmean(means[task] for task in self.subset)
        return Summary(
            tasks={task: {self.metric: mean} for task, mean in means.items()},
            counts={task: count for task, count in counts.items() if count},
            averages=averages,
            unparsed=sum(grade.parsed is None for grade in grades) / max(len(grades), 1),
            ungraded=sum(self.metric not in grade.scores for grade in grades),
            notes=self._notes(questions),
        )

    def _notes(self, questions: Sequence[Question]) -> tuple[str, ...]:
        without = {q.id: q.sample.meta["answer"] for q in questions if not q.references}
        if not without:
            return ()
        shown = [f"{key} (its answer is {answer!r})" for key, answer in islice(without.items(), SHOWN)]
        more = [f"{len(without) - SHOWN} more"] if len(without) > SHOWN else []
        handling = "excluded from means" if self.compat == "strict" else "counted as wrong"
        return (
            f"{len(without)} of {len(questions)} have no correct option and are {handling}: {', '.join(shown + more)}.",
        )


def check_choice(record: object, *, seconds: Sequence[str] = ()) -> Mapping[str, Any]:
    """Check the record of a question; its answer need not be one of the candidates.

    Args:
        record: The record.
        seconds: Keys of times in seconds: the start and end of a segment, or none.

    Returns:
        The record.

    Raises:
        DataError: If the record is invalid.
    """
    record = check_record(record, ("video",), may_be_empty=("question", "answer"))
    options = record.get("candidates")
    if not isinstance(options, list) or not 2 <= len(options) <= len(ascii_uppercase) or not all(map(is_text, options)):
        raise DataError(f"candidates: got {options!r}, expected a list of 2 to {len(ascii_uppercase)} options")
    for name in seconds:
        if not is_number(record.get(name)):
            raise DataError(f"{name}: got {record.get(name)!r}, expected seconds")
    if seconds and not 0 <= record[seconds[0]] <= record[seconds[-1]]:
        raise DataError(f"got a segment from {record[seconds[0]]} to {record[seconds[-1]]}, expected 0 <= start <= end")
    return record


def _text(value: object) -> str:
    """Stripped text of a value."""
    return str(value).strip()
