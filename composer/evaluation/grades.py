"""Grades of answers: by the benchmark alone, or by a judge, whose grades cost money and are kept at once."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread
from typing import Any

from composer.benchmark import Benchmark, Grade, Question, Reply
from composer.errors import JudgeError
from composer.evaluation.journal import Contents, Header, Journal
from composer.evaluation.progress import progress

GRADES = "grades.jsonl"
GIVE_UP = 20
"""Answers in a row without a grade, none of them tried before, after which the judge is not asked any more."""


@dataclass(frozen=True)
class KeptGrade:
    """A line of `grades.jsonl`: the grade of one answer to the question `id`."""

    id: str
    answer: str
    scores: Mapping[str, float]
    parsed: str | None
    problem: str | None
    replies: tuple[Reply, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What one grade is kept of."""
        return self.id, self.answer

    @property
    def grade(self) -> Grade:
        """The grade as the benchmark gave it."""
        return Grade(self.scores, self.parsed, self.problem, self.replies)


def _parse(record: dict[str, Any]) -> KeptGrade:
    return KeptGrade(**{"parsed": None, **record, "replies": tuple(Reply(**reply) for reply in record["replies"])})


_CONTENTS = Contents("grades", "judge", _parse)


def grade_answers(
    benchmark: Benchmark, questions: Sequence[Question], answers: Sequence[str], folder: Path, header: Header
) -> list[Grade]:
    """Grade each answer.

    A judge's grades are stored in `grades.jsonl` of `folder`, below a header that names the judge. An answer that has a
    grade there is not judged again, unless that grade has a problem.

    Args:
        benchmark: Grades, alone or with its judge.
        questions: What was asked.
        answers: One for each question, in order.
        folder: Where a judge's grades are stored.
        header: What the answers depend on.

    Returns:
        One grade for each answer, in order.

    Raises:
        DataError: The stored grades are of another judge or of other answers.
        JudgeError: `GIVE_UP` answers in a row, none of them judged before, got no grade.
    """
    judge = benchmark.judge_id()
    pairs = list(zip(questions, answers, strict=True))
    if judge is None:
        return [benchmark.grade(question, answer) for question, answer in pairs]
    with Journal(folder / GRADES, {**header, "judge": judge}, _CONTENTS) as kept:
        records = kept.read()
        known = {record.key: record.grade for record in records if record.problem is None}
        left = [(question, answer) for question, answer in pairs if (question.id, answer) not in known]
        # Those without a grade come last: asked first they would look like a judge that is down.
        tried = {record.key for record in records}
        left.sort(key=lambda pair: (pair[0].id, pair[1]) in tried)
        known |= _ask(benchmark, left, kept, tried, done=len(pairs) - len(left))
    return [known[question.id, answer] for question, answer in pairs]


def _ask(
    benchmark: Benchmark,
    left: Sequence[tuple[Question, str]],
    kept: Journal[KeptGrade],
    tried: Set[tuple[str, str]],
    done: int,
) -> dict[tuple[str, str], Grade]:
    """Grade these answers, several at once, and keep each grade in the thread that got it, so that none is lost.

    tried: answers that the judge failed to grade before; failing again does not show that the judge is down.
    The threads are daemons, so Ctrl-C waits for no judge. After an error they finish the requests that are paid for.
    """
    waiting, lock, stopped = iter(left), Lock(), Event()
    outcomes: Queue[tuple[str, str, Grade] | BaseException] = Queue()

    def work() -> None:
        try:
            while not stopped.is_set():
                with lock:
                    pair = next(waiting, None)
                if pair is None:
                    return
                question, answer = pair
                grade = benchmark.grade(question, answer)
                with lock:
                    kept.append(
                        KeptGrade(question.id, answer, grade.scores, grade.parsed, grade.problem, grade.replies)
                    )
                outcomes.put((question.id, answer, grade))
        except BaseException as error:
            outcomes.put(error)

    threads = [Thread(target=work, daemon=True) for _ in range(min(benchmark.at_once, len(left)))]
    grades: dict[tuple[str, str], Grade] = {}
    failed = 0
    with progress("judge", done + len(left), done) as advance:
        try:
            for thread in threads:
                thread.start()
            for _ in left:
                outcome = outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                key, answer, grade = outcome
                grades[key, answer] = grade
                advance()
                if not grade.problem:
                    failed = 0
                elif (key, answer) not in tried:
                    failed += 1
                if failed >= GIVE_UP:
                    raise JudgeError(
                        f"The judge gave no grade to {failed} answers in a row; of {key!r}: {grade.problem}. Fix that "
                        f"and rerun: {kept.path} keeps the grades so far"
                    )
        except Exception:
            stopped.set()
            for thread in threads:
                thread.join()
            raise
        finally:
            stopped.set()
    return grades
