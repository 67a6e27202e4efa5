"""Grades of a judge: kept as they are given, asked for once, given up where nobody answers."""

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from composer.benchmark import Benchmark, Grade, Question, Reply, Summary
from composer.errors import DataError, JudgeError
from composer.evaluation.grades import GIVE_UP, grade_answers
from composer.sample import Sample

HEADER: dict[str, object] = {"benchmark": "b", "checkpoint": "1234"}


class Stub(Benchmark):
    """Grades by a function; its judge is a name."""

    def __init__(self, grade: Callable[[Question, str], Grade], name: str | None = "j", at_once: int = 1) -> None:
        self.by, self.name, self.at_once = grade, name, at_once
        self.asked: list[str] = []

    def questions(self) -> Sequence[Question]:
        return [Question(f"q{number}", "t", Sample(f"q{number}", "f", ()), ("r",)) for number in range(30)]

    def grade(self, question: Question, answer: str) -> Grade:
        self.asked.append(question.id)
        return self.by(question, answer)

    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        raise NotImplementedError

    def judge_id(self) -> Mapping[str, Any] | None:
        return None if self.name is None else {"model": self.name}


def good(question: Question, answer: str) -> Grade:
    return Grade({"accuracy": 1.0, "score": 4.5}, replies=(Reply("yes é", "m"),))


def run(stub: Stub, folder: Path, count: int = 3, answers: Sequence[str] | None = None) -> list[Grade]:
    questions = stub.questions()[:count]
    return grade_answers(stub, questions, answers or ["a"] * count, folder, HEADER)


def test_without_a_judge_nothing_is_written(tmp_path: Path) -> None:
    assert run(Stub(good, None), tmp_path) == [good(*[None] * 2)] * 3  # type: ignore[arg-type, list-item]
    assert list(tmp_path.iterdir()) == []


def test_grades_are_kept_with_every_reply_below_a_header_with_the_judge(tmp_path: Path) -> None:
    first = run(Stub(good), tmp_path)
    header, *records = [json.loads(line) for line in (tmp_path / "grades.jsonl").read_text().splitlines()]
    assert header == {**HEADER, "judge": {"model": "j"}}
    assert records[0] == {
        "id": "q0",
        "answer": "a",
        "scores": {"accuracy": 1.0, "score": 4.5},
        "parsed": None,
        "problem": None,
        "replies": [{"text": "yes é", "model": "m"}],
    }
    again = Stub(good)
    assert run(again, tmp_path) == first
    assert again.asked == []


def test_what_has_a_problem_or_another_answer_is_asked_again(tmp_path: Path) -> None:
    assert run(Stub(lambda q, _: Grade(problem="silence") if q.id == "q1" else good(q, _)), tmp_path)[1].scores == {}
    stub = Stub(good)
    assert all(grade.scores for grade in run(stub, tmp_path, answers=["a", "a", "other"]))
    assert stub.asked == ["q2", "q1"]  # what was refused before is asked last


def test_another_judge_is_refused(tmp_path: Path) -> None:
    run(Stub(good), tmp_path)
    with pytest.raises(
        DataError,
        match=r"grades\.jsonl contains grades of a different run \(judge\.model: got 'j', expected 'other'\)"
        ".* judge again",
    ):
        run(Stub(good, "other"), tmp_path)


def test_a_record_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    run(Stub(good), tmp_path)
    with (tmp_path / "grades.jsonl").open("a") as file:
        file.write('{"id": "q0"}\n')
    with pytest.raises(DataError, match=r"grades\.jsonl:5: .*remove the line, or the file to judge again"):
        run(Stub(good), tmp_path)


def test_an_error_keeps_what_was_graded_and_starts_nothing_more(tmp_path: Path) -> None:
    def fail_at_the_third(question: Question, answer: str) -> Grade:
        if question.id == "q2":
            raise JudgeError("no such key")
        return good(question, answer)

    with pytest.raises(JudgeError, match="no such key"):
        run(Stub(fail_at_the_third), tmp_path, count=30)
    stub = Stub(good)
    run(stub, tmp_path, count=30)
    assert not {"q0", "q1"} & set(stub.asked)
    assert "q2" in stub.asked


def test_a_judge_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    stub = Stub(lambda *_: Grade(problem="503"))
    with pytest.raises(JudgeError, match=rf"no grade to {GIVE_UP} answers in a row; of 'q19': 503"):
        run(stub, tmp_path, count=30)


def test_answers_without_a_grade_are_tried_last_and_never_given_up(tmp_path: Path) -> None:
    """The judge refuses all but the last five, as a filter would: more in a row than `GIVE_UP`."""

    def refuse(question: Question, answer: str) -> Grade:
        time.sleep(0.001)  # the main thread sees in time that nobody answers
        return Grade(problem="422") if int(question.id[1:]) < 25 else good(question, answer)

    with pytest.raises(JudgeError):
        run(Stub(refuse), tmp_path, count=30)
    tried = [json.loads(line)["id"] for line in (tmp_path / "grades.jsonl").read_text().splitlines()[1:]]
    assert len(tried) >= GIVE_UP
    again = Stub(refuse)
    grades = run(again, tmp_path, count=30)
    assert [grade.problem for grade in grades] == ["422"] * 25 + [None] * 5
    assert again.asked[-len(tried) :] == tried
    last = Stub(refuse)
    assert run(last, tmp_path, count=30) == grades
    assert last.asked == [f"q{number}" for number in range(25)]


def test_an_interrupt_waits_for_no_judge(tmp_path: Path) -> None:
    """The first is graded, the second hangs and Ctrl-C is pressed; also where whoever started us ignores Ctrl-C."""
    never = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def hang(question: Question, answer: str) -> Grade:
        if question.id == "q0":
            return good(question, answer)
        signal.pthread_kill(main, signal.SIGINT)
        never.wait(60)
        return good(question, answer)

    start = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(Stub(hang), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
        never.set()
    assert time.monotonic() - start < 10
    stub = Stub(good)
    run(stub, tmp_path)
    assert "q0" not in stub.asked


def test_several_are_asked_at_once_and_come_back_in_order(tmp_path: Path) -> None:
    """Each waits for all others, which one thread could not."""
    together = threading.Barrier(3, timeout=10)

    def wait(question: Question, answer: str) -> Grade:
        together.wait()
        return Grade({"accuracy": float(question.id[1:])})

    grades = run(Stub(wait, at_once=3), tmp_path)
    assert [grade.scores["accuracy"] for grade in grades] == [0.0, 1.0, 2.0]
    assert (tmp_path / "grades.jsonl").read_text().count("\n") == 4
