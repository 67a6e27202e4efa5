"""A result as a file and a table."""

import json
from pathlib import Path

from rich.console import Console

from composer.benchmark import Metric, Skipped, Summary
from composer.evaluation.questions import skipped_lines
from composer.evaluation.report import About, result_record, result_table, write_result

SUMMARY = Summary(
    tasks={"left": {"accuracy": 0.5}}, counts={"left": 4, "right": 1}, averages={"all": 0.5}, unparsed=0.2, ungraded=1
)
ABOUT: About = {
    "benchmark": "b",
    "options": {"frames": 2},
    "condition": "normal",
    "checkpoint": {"file": "c.ckpt", "fingerprint": "1234"},
    "model": {},
    "limit": None,
}
PUBLISHED = {"Theirs": {"left": 61.25, "all": 60.0, "other": 1.0}}


def test_the_record_holds_what_it_is_of(tmp_path: Path) -> None:
    path = write_result(result_record(SUMMARY, "accuracy", PUBLISHED, (), ABOUT), tmp_path)
    assert json.loads(path.read_text()) == {
        **ABOUT,
        "metric": "accuracy",
        "questions": 5,
        "averages": {"all": 0.5},
        "unparsed": 0.2,
        "ungraded": 1,
        "tasks": {"left": {"n": 4, "accuracy": 0.5}, "right": {"n": 1}},
        "published": PUBLISHED,
    }


def test_the_table_is_in_percent_with_averages_and_the_unparsed_at_its_end() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(result_table(SUMMARY, [Metric("accuracy")], PUBLISHED))
    rows = [[cell.strip() for cell in line.split("|")] for line in captured.get().splitlines() if "|" in line]
    assert rows == [
        ["task", "n", "accuracy %", "Theirs"],
        ["left", "4", "50.0", "61.2"],
        ["right", "1", "-", "-"],
        ["all", "", "50.0", "60.0"],
        ["unparsed", "1", "20.0", "-"],
        ["ungraded", "1", "-", "-"],
    ]


def test_every_metric_has_its_column_and_notes_stand_below() -> None:
    metrics = [Metric("CIDEr", "x100"), Metric("score", "of 5", factor=1.0, digits=2)]
    summary = Summary(
        tasks={"one": {"CIDEr": 1.234, "score": 3.456}},
        counts={"one": 2},
        averages={"all": 1.234},
        unparsed=None,
        other_metrics={"all": {"score": 3.456}},
        notes=("Tokens are words.",),
    )
    console = Console(width=80)
    with console.capture() as captured:
        console.print(result_table(summary, metrics, {"Theirs": {"all": 100.0}}))
    rows = [[cell.strip() for cell in line.split("|")] for line in captured.get().splitlines() if "|" in line]
    assert rows == [
        ["task", "n", "CIDEr x100", "score of 5", "Theirs"],
        ["one", "2", "123.4", "3.46", "-"],
        ["all", "", "123.4", "3.46", "100.0"],
    ]
    assert captured.get().splitlines()[-1].strip() == "Tokens are words."
    record = result_record(summary, "CIDEr", {}, (), ABOUT)
    assert record["averages"] == {"all": 1.234}
    assert record["other_metrics"] == {"all": {"score": 3.456}}
    assert record["notes"] == ["Tokens are words."]
    assert record["unparsed"] is None


def test_skipped_records_are_counted_listed_and_shown() -> None:
    skipped = [Skipped(f"a.json: record {place}", "got [x], expected a mapping") for place in range(5)]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(result_table(SUMMARY, [Metric("accuracy")], {}, skipped))
    assert [cell.strip() for cell in captured.get().splitlines()[-1].split("|")] == ["skipped", "5", "-"]
    shown = skipped_lines(skipped)
    assert shown[0] == "skipped: a.json: record 0: got [x], expected a mapping"
    assert shown[3:] == ["skipped: 2 more"]
    record = result_record(SUMMARY, "accuracy", {}, skipped, ABOUT)
    assert record["skipped"][4] == {"place": "a.json: record 4", "reason": "got [x], expected a mapping"}
