"""The accuracy table against counts made by hand."""

import json
from pathlib import Path

from rich.console import Console

from composer.evaluation.accuracy import accuracy_table, measure, write_results
from composer.evaluation.answers import Answer


def answers() -> list[Answer]:
    """Color: 3 of 4 right, blind 2 of 4; count: 1 of 2 right, blind none. Two colors, two numbers."""
    said = {
        "normal": {"color": ["red", "Blue ", "red", "red"], "count": ["2", "2"]},
        "blind": {"color": ["red"] * 4, "count": ["", "7"]},
    }
    right = {"color": ["red", "blue", "BLUE", "red"], "count": ["2", "3"]}
    return [
        Answer(f"{kind}-{i}", text, kind, (right[kind][i],), condition)
        for condition, kinds in said.items()
        for kind, texts in kinds.items()
        for i, text in enumerate(texts)
    ]


def lines() -> list[str]:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(accuracy_table(measure(answers())))
    return captured.get().splitlines()


def test_accuracy_is_the_unweighted_mean_over_types() -> None:
    result = measure(answers())
    assert [t.question_type for t in result.types] == ["color", "count"]
    assert result.types[0].accuracy == {"normal": 0.75, "blind": 0.5}
    assert result.types[1].accuracy == {"normal": 0.5, "blind": 0.0}
    assert result.overall.accuracy == {"normal": 0.625, "blind": 0.25}
    assert result.overall.chance == 0.5
    assert [t.count for t in (*result.types, result.overall)] == [4, 2, 6]


def test_the_table_ends_with_overall_and_is_plain_ascii_in_80_columns() -> None:
    shown = lines()
    cells = {line.split("|")[0].strip(): [c.strip() for c in line.split("|")[1:]] for line in shown if "|" in line}
    assert cells["question type"] == ["n", "accuracy", "chance", "blind"]
    assert cells["color"] == ["4", "0.750", "0.500", "0.500"]
    assert cells["blind"] == ["6", "0.250", "0.500", ""]
    assert cells["overall"] == ["6", "0.625", "0.500", "0.250"]
    assert shown[-1].startswith("overall")
    assert all(line.isascii() and len(line) <= 80 for line in shown)


def test_results_are_written_in_full(tmp_path: Path) -> None:
    path = write_results(measure(answers()), tmp_path, Path("step-3.ckpt"))
    results = json.loads(path.read_text())
    assert path == tmp_path / "results.json"
    assert results["checkpoint"] == "step-3.ckpt"
    assert results["question_types"]["color"] == {"n": 4, "chance": 0.5, "normal": 0.75, "blind": 0.5}
    assert results["overall"] == {"n": 6, "chance": 0.5, "normal": 0.625, "blind": 0.25}
