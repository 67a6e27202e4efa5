"""Grades of answers, by the benchmark alone or by a judge, whose grades cost money and are stored at once."""

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
"""Number of new answers in a row without a grade after which the judge is not asked again."""


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
        """Question id and answer, of which the file has one grade."""
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
        benchmark: The benchmark that grades, alone or with its judge.
        questions: Its questions.
        answers: One answer for each question, in order.
        folder: Folder for a judge's grades.
        header: Header of the answers.

    Returns:
        One grade for each answer, in order.

    Raises:
        DataError: The stored grades belong to a different judge or to different answers.
        JudgeError: `GIVE_UP` answers in a row, none of them judged before, got no grade.
    """
    judge = benchmark.judge_id()
    pairs = list(zip(questions, answers, strict=True))
    if judge is None:
        return [benchmark.grade(question, answer) for question, answer in pairs]
    with Journal(folder / GRADES, {**header, "judge": judge}, _CONTENTS) as journal:
        records = journal.read()
        known = {record.key: record.grade for record in records if record.problem is None}
        remaining = [(question, answer) for question, answer in pairs if (question.id, answer) not in known]
        # Answers that failed before come last: at the beginning they would look like a judge that is down.
        failures = {record.key for record in records}
        remaining.sort(key=lambda pair: (pair[0].id, pair[1]) in failures)
        known |= _ask(_Graders(benchmark, remaining, journal), failures, done=len(pairs) - len(remaining))
    return [known[question.id, answer] for question, answer in pairs]


class _Graders:
    """Threads that grade answers and store each grade in the thread that got it, so that none is lost.

    They are daemons, so that Ctrl-C does not wait for a judge.
    """

    def __init__(
        self, benchmark: Benchmark, pairs: Sequence[tuple[Question, str]], journal: Journal[KeptGrade]
    ) -> None:
        self.benchmark, self.journal, self.count = benchmark, journal, len(pairs)
        self._queue, self._lock, self._stopped = iter(pairs), Lock(), Event()
        self._outcomes: Queue[tuple[str, str, Grade] | BaseException] = Queue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(min(benchmark.at_once, len(pairs)))]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def next(self) -> tuple[str, str, Grade]:
        """Wait for the next grade: question id, answer and grade. Raises the error of a thread."""
        outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Start no more requests."""
        self._stopped.set()

    def finish(self) -> None:
        """Start no more requests, and wait for those that are paid for."""
        self.stop()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                with self._lock:
                    pair = next(self._queue, None)
                if pair is None:
                    return
                question, answer = pair
                grade = self.benchmark.grade(question, answer)
                record = KeptGrade(question.id, answer, grade.scores, grade.parsed, grade.problem, grade.replies)
                with self._lock:
                    self.journal.append(record)
                self._outcomes.put((question.id, answer, grade))
        except BaseException as error:
            self._outcomes.put(error)


def _ask(graders: _Graders, failures: Set[tuple[str, str]], done: int) -> dict[tuple[str, str], Grade]:
    """Collect the grades, and give up if the judge seems to be down.

    failures: answers that the judge failed to grade before; another failure does not show that the judge is down.
    """
    grades: dict[tuple[str, str], Grade] = {}
    failed = 0
    with progress("judge", done + graders.count, done) as advance:
        try:
            graders.start()
            for _ in range(graders.count):
                key, answer, grade = graders.next()
                grades[key, answer] = grade
                advance()
                if not grade.problem:
                    failed = 0
                elif (key, answer) not in failures:
                    failed += 1
                if failed >= GIVE_UP:
                    raise JudgeError(
                        f"The judge gave no grade to {failed} answers in a row; of {key!r}: {grade.problem}. Fix that "
                        f"and rerun: {graders.journal.path} keeps the grades so far"
                    )
        except Exception:
            graders.finish()
            raise
        finally:
            graders.stop()
    return grades
