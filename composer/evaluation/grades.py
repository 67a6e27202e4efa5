"""Grades of answers: by the benchmark alone, or by a judge, whose grades cost and are kept as they are given."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread
from typing import Any

from composer.benchmark import Benchmark, Grade, Question, Reply
from composer.errors import JudgeError
from composer.evaluation.journal import Contents, Journal
from composer.evaluation.progress import progress

GRADES = "grades.jsonl"
GIVE_UP = 20
"""Answers in a row without a grade, none of them tried before, after which the judge is not asked any more."""

_CONTENTS = Contents("grades", "judge", frozenset({"id", "answer", "scores", "problem", "replies"}))


def graded(
    benchmark: Benchmark, questions: Sequence[Question], answers: Sequence[str], folder: Path, header: Mapping[str, Any]
) -> list[Grade]:
    """The grade of each answer, in order. header: what the answers are to and from.

    A judge's grades lie in `grades.jsonl` of `folder`, below a header that names the judge. What is graded there is not
    asked again, unless the answer is another one or its grade has a problem. Raises DataError where the grades are of
    another judge or other answers, JudgeError where `GIVE_UP` answers in a row, none judged before, get no grade.
    """
    judge = benchmark.judge_id()
    pairs = list(zip(questions, answers, strict=True))
    if judge is None:
        return [benchmark.grade(question, answer) for question, answer in pairs]
    with Journal(folder / GRADES, {**header, "judge": judge}, _CONTENTS) as kept:
        records = kept.read()
        known = {(r["id"], r["answer"]): _grade(r) for r in records if r["problem"] is None}
        left = [(question, answer) for question, answer in pairs if (question.id, answer) not in known]
        # Those without a grade come last: asked first they would look like a judge that answers nobody.
        tried = {(r["id"], r["answer"]) for r in records}
        left.sort(key=lambda pair: (pair[0].id, pair[1]) in tried)
        known |= _ask(benchmark, left, kept, tried, done=len(pairs) - len(left))
    return [known[question.id, answer] for question, answer in pairs]


def _ask(
    benchmark: Benchmark, left: Sequence[tuple[Question, str]], kept: Journal, tried: Set[tuple[str, str]], done: int
) -> dict[tuple[str, str], Grade]:
    """Grade these answers, several at once, and keep each grade in the thread that got it, so that none is lost.

    tried: answers that the judge did not grade before, whose failing again says nothing of the judge.
    The threads are daemons: an interrupt from the keyboard waits for no judge. After an error they finish what is paid.
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
                    kept.append({"id": question.id, "answer": answer, **asdict(grade)})
                outcomes.put((question.id, answer, grade))
        except BaseException as error:
            outcomes.put(error)

    threads = [Thread(target=work, daemon=True) for _ in range(min(benchmark.at_once, len(left)))]
    found: dict[tuple[str, str], Grade] = {}
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
                found[key, answer] = grade
                advance()
                if not grade.problem:
                    failed = 0
                elif (key, answer) not in tried:
                    failed += 1
                if failed >= GIVE_UP:
                    raise JudgeError(
                        f"The judge gave no grade to {failed} answers in a row; of {key!r}: {grade.problem}. Mend that "
                        f"and start again: {kept.path} keeps what is judged."
                    )
        except Exception:
            stopped.set()
            for thread in threads:
                thread.join()
            raise
        finally:
            stopped.set()
    return found


def _grade(record: Mapping[str, Any]) -> Grade:
    replies = tuple(Reply(**reply) for reply in record["replies"])
    return Grade(record["scores"], record.get("parsed"), record["problem"], replies)
