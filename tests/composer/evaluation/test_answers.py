"""Answers that outlive the process, and refuse to be mixed."""

import json
import threading
from pathlib import Path

import pytest

from composer.errors import DataError, DiskFullError
from composer.evaluation.answers import Answer, AnswerFile

HEADER: dict[str, object] = {"benchmark": "b", "options": {"frames": 4}, "checkpoint": "1234"}


def ids(store: AnswerFile) -> list[str]:
    return [answer.id for answer in store.read().values()]


def test_what_was_appended_is_read_back_with_the_header_first(tmp_path: Path) -> None:
    with AnswerFile(tmp_path, HEADER) as file:
        file.append(Answer("q1", "(A) é\n", "t", ("A",)))
        assert (tmp_path / "answers.jsonl").read_text().count("\n") == 2  # on the disk before the file is closed
    assert json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0]) == HEADER
    assert ids(AnswerFile(tmp_path, HEADER)) == ["q1"]
    assert AnswerFile(tmp_path, HEADER).read()["normal", "q1"] == Answer("q1", "(A) é\n", "t", ("A",))


def test_a_torn_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(tmp_path, HEADER) as file:
        file.append(Answer("q1", "A"))
    for torn in ('{"id"', '{"id": "q2", "answer": "B"}'):
        path.write_text(path.read_text() + torn)
        with AnswerFile(tmp_path, HEADER) as file:
            assert ids(file) == ["q1"]
    with AnswerFile(tmp_path, HEADER) as file:
        file.append(Answer("q2", "C"))
    assert AnswerFile(tmp_path, HEADER).read()["normal", "q2"].answer == "C"


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"benchm')
    with AnswerFile(tmp_path, HEADER) as file:
        file.append(Answer("q1", "A"))
    assert ids(AnswerFile(tmp_path, HEADER)) == ["q1"]


@pytest.mark.parametrize("other", [HEADER | {"checkpoint": "5678"}, HEADER | {"more": 1}, {}])
def test_another_header_is_refused_whichever_file_it_is_in(tmp_path: Path, other: dict[str, object]) -> None:
    with AnswerFile(tmp_path, other, rank=1, world=2) as file:
        file.append(Answer("q1", "A"))
    with pytest.raises(
        DataError, match=r"answers\.1\.jsonl contains answers of a different run .* give another --output"
    ):
        AnswerFile(tmp_path, HEADER).__enter__()


def test_files_of_several_processes_become_one(tmp_path: Path) -> None:
    for rank in range(2):
        with AnswerFile(tmp_path, HEADER, rank, world=2) as file:
            file.append(Answer(f"q{rank}", str(rank)))
    merged = AnswerFile(tmp_path, HEADER, 1, world=2)
    assert len(merged.shards()) == 2
    with merged.lock():
        records = merged.read()
        merged.merge({key: records[key] for key in (("normal", "q1"), ("normal", "q0"))})
    assert [path.name for path in tmp_path.glob("answers*")] == ["answers.jsonl"]
    assert ids(AnswerFile(tmp_path, HEADER)) == ["q1", "q0"]


def test_the_last_process_alone_reports_and_keeps_answers_that_it_did_not_ask_for(tmp_path: Path) -> None:
    keys = [("normal", "q1"), ("normal", "q0")]
    with AnswerFile(tmp_path, HEADER) as file:
        file.append(Answer("q0", "x", condition="blind"))
    stores = [AnswerFile(tmp_path, HEADER, rank, world=2) for rank in range(2)]
    for rank, store in enumerate(stores):
        with store:
            store.append(Answer(f"q{rank}", str(rank)))
        with store.complete(keys) as answers:
            assert (answers is None) == (rank == 0)
            assert answers is None or [answer.answer for answer in answers] == ["1", "0"]
    with stores[0].complete(keys) as answers:
        assert answers is None  # reported already
    assert [path.name for path in tmp_path.glob("answers*")] == ["answers.jsonl"]
    assert list(AnswerFile(tmp_path, HEADER).read()) == [*keys, ("blind", "q0")]


def test_files_of_other_names_are_neither_read_nor_removed(tmp_path: Path) -> None:
    for name in ("answers.old.jsonl", "answers-1.jsonl", "answers.1.old.jsonl", "answers..jsonl"):
        (tmp_path / name).write_text('{"of": "another run"}\n')
    with AnswerFile(tmp_path, HEADER, 10, world=11) as file:
        file.append(Answer("q1", "A"))
        assert [path.name for path in file.shards()] == ["answers.10.jsonl"]
        file.merge(file.read())
    assert ids(AnswerFile(tmp_path, HEADER)) == ["q1"]
    assert len(list(tmp_path.glob("answers*.jsonl"))) == 5


def test_one_waits_until_no_other_process_asks(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path, HEADER)
    waiting = threading.Thread(target=file.wait_for_others, daemon=True)
    with file.asking(), file.asking():
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_full_disk_names_the_file_and_answers_go_on(tmp_path: Path) -> None:
    with AnswerFile(tmp_path, {"a": 1}) as answers:
        answers.append(Answer("first", "kept"))
        kept = answers._own._file
        answers._own._file = open("/dev/full", "w")  # noqa: SIM115
        with pytest.raises(DiskFullError, match=r"answers\.jsonl: cannot be written: No space left"):
            answers.append(Answer("second", "lost"))
        with pytest.raises(DiskFullError):
            answers.__exit__()
        answers._own._file = kept
    with AnswerFile(tmp_path, {"a": 1}) as answers:
        assert ids(answers) == ["first"]
        answers.append(Answer("second", "kept"))
    assert ids(AnswerFile(tmp_path, {"a": 1})) == ["first", "second"]
