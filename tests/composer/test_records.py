"""Records of JSON and CSV files at random, against the whole file read at once."""

import csv
import io
import json
import pickle
from pathlib import Path
from random import Random

import pytest

from composer import records
from composer.errors import DataError
from composer.records import CsvRecords, JsonRecords

VALUES = ["plain", "a, b", 'says "x"', "two\nlines", 'a\r\n"\n', "", "é" * 50, '""', " "]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 2**26])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_are_those_that_csv_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, end: str) -> None:
    monkeypatch.setattr(records, "CHUNK", chunk)
    path = tmp_path / "a.csv"
    rows = [{"id": str(i), "x": VALUES[i % 9], "y": VALUES[i * 5 % 9]} for i in range(60)]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["id", "x", "y"], lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)
        file.write(end)
    found = CsvRecords(path)
    assert found.columns == ("id", "x", "y")
    assert [found[i] for i in range(len(found))] == rows
    assert found[-1] == rows[-1]
    for index in (0, 3, 17, 59):
        name, _, line = found.location(index).rpartition(":")
        assert name == str(path)
        assert path.read_bytes().split(b"\n")[int(line) - 1].startswith(str(index).encode())
    with pytest.raises(IndexError):
        found[60]


def test_a_row_of_another_width_and_other_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,x\n1,"a\nb"\n2,c,d\n')
    with pytest.raises(DataError, match=r"a\.csv:4: got 3 values, expected 2, one per column"):
        CsvRecords(path)[1]
    path.write_text('id,x\n1,"a"b\n')
    with pytest.raises(DataError, match=r"a\.csv:2: not CSV: "):
        CsvRecords(path)[0]
    path.write_bytes(b"id,x\n1,\xe9\n")
    with pytest.raises(DataError, match=r"a\.csv:2: not UTF-8: "):
        CsvRecords(path)[0]
    assert CsvRecords(path, "cp1252")[0] == {"id": "1", "x": "é"}
    for text in ("", "\n\n", "id,x\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"a\.csv: no rows, expected CSV"):
            CsvRecords(path)
    with pytest.raises(DataError, match=r"gone\.csv: cannot read the data file: No such file"):
        CsvRecords(tmp_path / "gone.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_quote_opens_a_value_only_at_its_beginning(tmp_path: Path, end: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    lines = ['"id",x', '1,a 5" pipe', "2,not lost", '3,"6"" wide,\nquoted"', '4,""', '5,7"', '6,a "" or ""']
    lines += ['7,"é"""', "8,9"]
    path.write_bytes(end.join(lines).encode(encoding))
    with path.open(newline="", encoding=encoding) as file:
        expected = list(csv.DictReader(file))
    found = CsvRecords(path)
    assert [found[i] for i in range(len(found))] == expected
    assert len(found) == 8
    assert found.location(7).endswith("a.csv:10")


def test_rows_of_random_text(tmp_path: Path) -> None:
    """Whatever stands in a file, no row is lost: all are those of csv."""
    path, random = tmp_path / "a.csv", Random(0)
    for _ in range(2000):
        text = "id\n" + "".join(random.choice(['"', '"', ",", "\n", "a", "\r\n", '""']) for _ in range(12)) + "\nz"
        path.write_bytes(text.encode())
        try:
            expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        except csv.Error:
            continue
        found = CsvRecords(path)
        assert [found._row(i) for i in range(len(found) + 1)] == expected


def test_rows_that_end_in_a_carriage_return_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,x\n1,a\r2,b\n\n3,c\n\n \n")
    with pytest.raises(DataError, match=r"a\.csv:2: got several rows, expected one: end rows with a line feed"):
        CsvRecords(path)[0]
    assert CsvRecords(path)[1] == {"id": "3", "x": "c"}


def test_json_values_of_any_kind(tmp_path: Path) -> None:
    values = [{"a": 1}, [2], "three", None]
    lines, listed = tmp_path / "a.jsonl", tmp_path / "b.json"
    lines.write_text("".join(json.dumps(value) + "\n" for value in values[:1] + values[2:]))
    listed.write_text(json.dumps(values))
    assert [JsonRecords(lines)[i] for i in range(3)] == values[:1] + values[2:]
    assert [JsonRecords(listed)[i] for i in range(4)] == values
    assert JsonRecords(listed).location(2) == f"{listed}: record 3"
    assert JsonRecords(lines).location(2) == f"{lines}:3"


LIST = '\ufeff \r\n [{"é": "ü]", "n": [1, {"x": []}]} ,\n"a,b\\"]" , 1.5e3,null\r\n, [], "\U0001f600",\tNaN ] \n\n'


def test_a_list_is_what_json_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(LIST.encode())
    expected, found = json.loads(LIST[1:]), JsonRecords(path)
    assert [repr(found[i]) for i in range(len(found))] == [repr(value) for value in expected]
    assert found[-2] == expected[-2]


def test_a_list_is_refused_where_json_refuses_it(tmp_path: Path) -> None:
    """Everything that losing or doubling one character does."""
    path, refused = tmp_path / "a.json", 0
    for at in range(LIST.index("[") + 1, len(LIST)):
        for text in (LIST[:at] + LIST[at + 1 :], LIST[:at] + LIST[at] + LIST[at:], LIST[:at]):
            path.write_bytes(text.encode())
            try:
                expected = repr(json.loads(text[1:]))
            except json.JSONDecodeError:
                refused += 1
                with pytest.raises(DataError, match=r"a\.json:\d+: not JSON: .* \(column \d+\)"):
                    JsonRecords(path)
            else:
                found = JsonRecords(path)
                assert repr([json.loads(json.dumps(found[i])) for i in range(len(found))]) == expected
    assert refused > 150


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('[1,\n {"é": 2\n', "3", r"Expecting ',' delimiter \(column 1\)"),
        ('[1,\n "éé" x]', "2", r"Expecting ',' delimiter \(column 7\)"),
        ("[1,\n 2] [3]\n", "2", r"Extra data \(column 5\)"),
        ('[1,\n2,\n{"é" 3}]', "3", r"Expecting ':' delimiter \(column 6\)"),
        ("[1,\n", "2", "Expecting value"),
        ("[", "1", "Expecting value"),
    ],
)
def test_where_a_list_is_broken(tmp_path: Path, text: str, place: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json:{place}: not JSON: {words}"):
        JsonRecords(tmp_path / "a.json")


def test_an_element_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'["a",\n"\xe9"]')
    found = JsonRecords(tmp_path / "a.json")
    assert found[0] == "a"
    with pytest.raises(DataError, match=r"a\.json:2: not UTF-8: "):
        found[1]


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000 + "]" * 100_000], ids=["digits", "brackets"])
def test_what_python_cannot_read(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'1\n{{"x": {value}}}\n')
    (tmp_path / "a.json").write_text(f'[1, {{"x": {value}}}]')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON that Python can parse: "):
        JsonRecords(tmp_path / "a.jsonl")[1]
    with pytest.raises(DataError, match=r"a\.json: record 2: not JSON that Python can parse: "):
        JsonRecords(tmp_path / "a.json")


@pytest.mark.parametrize("listed", [False, True])
def test_records_pickle_small(tmp_path: Path, listed: bool) -> None:
    path, values = tmp_path / "a.json", ["x" * 1000] * 100
    path.write_text(json.dumps(values) if listed else "".join(json.dumps(value) + "\n" for value in values))
    pickled = pickle.dumps(JsonRecords(path))
    assert len(pickled) < 3000
    assert pickle.loads(pickled)[99] == "x" * 1000


@pytest.mark.parametrize("escape", ["\\ud83d", "\\uD83D", "\\ude00 \\ud83d"])
def test_half_a_character(tmp_path: Path, escape: str) -> None:
    """No tokenizer takes one; a whole pair, or a backslash before "ud83d", is text like any other."""
    good = ["smile \U0001f600", "C:\\ud83d"]
    lines, listed = tmp_path / "a.jsonl", tmp_path / "b.json"
    values = [json.dumps({"x": [good[0]]}), json.dumps(good[1]), f'{{"x": ["smile {escape}"]}}']
    lines.write_text("\n".join(values))
    listed.write_text(f"[{', '.join(values)}]")
    for path, place in ((lines, "a.jsonl:3"), (listed, "b.json: record 3")):
        records = JsonRecords(path)
        assert [records[0], records[1]] == [{"x": [good[0]]}, good[1]]
        with pytest.raises(DataError, match=rf"{place}: got '\\ud[0-9a-f]+', half of a surrogate pair, expected both"):
            records[2]


@pytest.mark.parametrize("stride", [1, 2, 5, 2**20])
def test_places_are_right_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    monkeypatch.setattr(records, "STRIDE", stride)
    path = tmp_path / "a.jsonl"
    path.write_text("\n1\n\n\n2\n3\n\n4\n")
    found = JsonRecords(path)
    for index in (2, 0, 1, 3, 3, 0):
        assert found.location(index) == f"{path}:{[2, 5, 6, 8][index]}"


PRETTY = {"data": [{"id": n, "turns": [{"from": "human", "value": "é\n"}]} for n in range(5)], "version": 1}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(PRETTY, indent=1),
        "\ufeff\n\n" + json.dumps(PRETTY, indent=4, ensure_ascii=False),
        '{"data": [\n' + ",\n".join(json.dumps(item) for item in PRETTY["data"]) + '\n], "version": 1}',  # type: ignore[attr-defined]
        json.dumps(PRETTY, indent=1) + "\n",
    ],
)
def test_an_object_over_several_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    words = r"a\.json: got a JSON object over several lines, expected a JSON list or one object per line"
    with pytest.raises(DataError, match=words + ": save only its list 'data'"):
        JsonRecords(path)
    path.write_text(text[:-20], encoding="utf-8")  # truncated: still not JSON Lines
    with pytest.raises(DataError, match="got a JSON object over several lines"):
        JsonRecords(path)


@pytest.mark.parametrize("first", ["{", '{"id": "x", ', '{"a": [', "{'id': 1}", "hello", '{"a": "\xff"}', "3 4", "{}}"])
@pytest.mark.parametrize("more", [1, 2, 5])
def test_a_first_line_that_is_broken_is_an_error_of_its_record(tmp_path: Path, first: str, more: int) -> None:
    path = tmp_path / "a.jsonl"
    lines = [first.encode("latin-1"), *(b'{"id": %d, "x": {"y": [1]}}' % n for n in range(more))]
    path.write_bytes(b"\n".join(lines))
    records = JsonRecords(path)
    assert [records[n + 1]["id"] for n in range(more)] == list(range(more))
    with pytest.raises(DataError, match=r"a\.jsonl:1: not (JSON|UTF-8)"):
        records[0]
