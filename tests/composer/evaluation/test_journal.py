"""A journal's lines: what is a record, and which headers are the same."""

import json
from pathlib import Path

import pytest

from composer.errors import DataError
from composer.evaluation.answers import Answer
from composer.evaluation.journal import Contents, Journal

HEADER: dict[str, object] = {"options": {"frames": 4, "judge": "a"}}
CONTENTS = Contents("answers", "ask", lambda record: Answer(**record))


def journal(path: Path, *free: str, header: dict[str, object] = HEADER) -> Journal[Answer]:
    return Journal(path, header, CONTENTS, frozenset(free))


@pytest.mark.parametrize("line", ["[1]", "{", '{"id": "a"}', '{"id": "a", "answer": "b", "more": 1}', "null"])
def test_a_line_that_is_not_a_record_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{json.dumps(HEADER)}\n{{"id": "0", "answer": "x"}}\n{line}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:3: got .*, expected a record written by composer"):
        journal(path).read()


def test_free_options_may_differ_and_others_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with journal(path) as file:
        file.append(Answer("0", "x"))
    other: dict[str, object] = {"options": {"frames": 4, "judge": "b"}}
    assert [answer.id for answer in journal(path, "judge", header=other).read()] == ["0"]
    assert journal(path, header=other).differences() == ["options.judge: got 'a', expected 'b'"]
    assert journal(path, "judge", header={"options": {"frames": 8}}).differences() == [
        "options.frames: got 4, expected 8"
    ]


@pytest.mark.parametrize("line", ["[1]", "null", "{"])
def test_a_first_line_that_is_not_a_header_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: got .*, expected a record written by composer"):
        journal(path).differences()
