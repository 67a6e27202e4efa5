"""Grades of answers: by the benchmark alone, or by a judge, whose grades cost and are kept as they are given."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from composer.benchmark import Benchmark, Grade, Question, Reply
from composer.errors import JudgeError
from composer.evaluation.bar import progress
from composer.evaluation.journal import Contents, Journal

GRADES = "grades.jsonl"
GIVE_UP = 20
"""Answers in a row without a grade after which the judge is not asked any more."""

_CONTENTS = Contents("grades", "judge", frozenset({"id", "answer", "scores", "problem", "replies"}))


def graded(
    benchmark: Benchmark, questions: Sequence[Question], answers: Sequence[str], folder: Path, header: Mapping[str, Any]
) -> list[Grade]:
    """The grade of each answer, in order. header: what the answers are to and from.

    A judge's grades lie in `grades.jsonl` of `folder`, below a header that names the judge. What is graded there is not
    asked again, unless the answer is another one or its grade has a problem. Raises DataError where the grades are of
    another judge or other answers, JudgeError where the judge does not answer `GIVE_UP` times in a row.
    """
    judge = benchmark.judge()
    pairs = list(zip(questions, answers, strict=True))
    if judge is None:
        return [benchmark.grade(question, answer) for question, answer in pairs]
    with Journal(folder / GRADES, {**header, "judge": judge}, _CONTENTS) as kept:
        known = {(r["id"], r["answer"]): _grade(r) for r in kept.read() if r["problem"] is None}
        left = [(question, answer) for question, answer in pairs if (question.id, answer) not in known]
        known |= _ask(benchmark, left, kept, done=len(pairs) - len(left))
    return [known[question.id, answer] for question, answer in pairs]


def _ask(
    benchmark: Benchmark, left: Sequence[tuple[Question, str]], kept: Journal, done: int
) -> dict[tuple[str, str], Grade]:
    """Grade these answers, several at once. Each grade is kept in the thread that got it, so that none is lost."""
    lock, found, failed = Lock(), {}, 0
    with progress("judge", done + len(left), done) as advance, ThreadPoolExecutor(benchmark.at_once) as pool:

        def one(pair: tuple[Question, str]) -> tuple[str, str, Grade]:
            question, answer = pair
            grade = benchmark.grade(question, answer)
            with lock:
                kept.append({"id": question.id, "answer": answer, **asdict(grade)})
            advance()
            return question.id, answer, grade

        try:
            for key, answer, grade in pool.map(one, left):
                found[key, answer] = grade
                failed = failed + 1 if grade.problem else 0
                if failed >= GIVE_UP:
                    raise JudgeError(
                        f"The judge gave no grade to {failed} answers in a row; of {key!r}: {grade.problem}. Mend that "
                        f"and start again: {kept.path} keeps what is judged."
                    )
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _grade(record: Mapping[str, Any]) -> Grade:
    replies = tuple(Reply(**reply) for reply in record["replies"])
    return Grade(record["scores"], record.get("parsed"), record["problem"], replies)
