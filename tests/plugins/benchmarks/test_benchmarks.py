"""Official files to questions, grades and means; what papers print is what their numbers say."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from composer.benchmark import Benchmark
from composer.errors import DataError
from composer.evaluation.questions import read_questions
from composer.recipe.components import slot_config
from composer.registry import load_registry
from composer.sample import Media
from composer_plugins.benchmarks import mlvu, mvbench
from tests.plugins.benchmarks.layouts import write_json, write_mlvu_dev, write_mlvu_test, write_mvbench


def build(name: str, **options: Any) -> Benchmark:
    config = slot_config("benchmark", name).model_validate({"name": name, **options})
    benchmark: Benchmark = load_registry().build("benchmark", config)
    return benchmark


@pytest.fixture(scope="module")
def mvbench_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mvbench(tmp_path_factory.mktemp("mvbench"))


@pytest.fixture(scope="module")
def mlvu_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mlvu_dev(tmp_path_factory.mktemp("mlvu"))


def test_mvbench_asks_as_its_script_does(mvbench_root: Path) -> None:
    questions = build("mvbench", root=str(mvbench_root)).questions()
    assert len(questions) == 40
    assert len({question.id for question in questions}) == 40
    first = questions[0]
    system, user = first.sample.messages
    media, text = user.content
    assert system.content[0] == mvbench.MVBench.system
    assert text == (
        f"{mvbench.MVBench.system}\nQuestion: Where does it go?\nOptions:\n(A) left\n(B) right\n(C) up\n"
        "Only give the best option."
    )
    assert first.prefill == "Best option:("
    assert (first.task, first.references, first.options) == ("action_sequence", ("A",), ("left", "right", "up"))
    assert (first.frames, first.max_new_tokens) == (16, 100)
    path = str(mvbench_root / "video/star/Charades_v1_480/0.mp4")
    assert media == Media("video", path, 0.2, 1.0, rule="mvbench")
    assert all(Path(m.path).exists() for q in questions for m in q.sample.media)


def test_five_tasks_of_mvbench_have_segments_and_one_has_pictures(mvbench_root: Path) -> None:
    media = {q.task: q.sample.media[0] for q in build("mvbench", root=str(mvbench_root)).questions()}
    bounded = {task for task, m in media.items() if m.end is not None}
    assert bounded == {
        *("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")
    }
    assert {task: m.fps for task, m in media.items() if m.fps} == {"episodic_reasoning": 3.0}
    assert {m.rule for m in media.values()} == {"mvbench"}


def test_mlvu_asks_as_its_script_does(mlvu_root: Path, tmp_path: Path) -> None:
    questions = build("mlvu", root=str(mlvu_root)).questions()
    assert [q.task for q in questions[::2]] == list(mlvu.DEV)
    first = questions[0]
    assert first.prefill == "Best Option: ("
    assert first.frames == 48
    assert str(first.sample.messages[1].content[1]).startswith("Question: Where does it go?\nOptions:\n(A) left\n")
    assert all(Path(q.sample.media[0].path).exists() for q in questions)
    plain = build("mlvu", root=str(write_mlvu_dev(tmp_path, numbered_folders=False))).questions()
    assert [q.id for q in plain] == [q.id for q in questions]
    assert all(Path(q.sample.media[0].path).exists() for q in plain)


def test_the_multiple_choice_of_mlvus_test_split(tmp_path: Path) -> None:
    benchmark = build("mlvu", root=str(write_mlvu_test(tmp_path)), split="test")
    questions = benchmark.questions()
    assert [q.task for q in questions] == list(mlvu.TEST)
    assert questions[1].id == "needleQA_0"
    assert all(Path(q.sample.media[0].path).exists() for q in questions)
    right = [q.references[0] for q in questions]
    summary = benchmark.summarize(
        questions, right, [benchmark.grade(*pair) for pair in zip(questions, right, strict=True)]
    )
    assert summary.averages == {"all tasks": 1.0, "paper's 7 tasks": 1.0}
    assert "needle" not in benchmark.published()["AuroraLong"]


def test_tasks_are_chosen_by_name(mlvu_root: Path) -> None:
    benchmark = build("mlvu", root=str(mlvu_root), tasks="ego, count")
    questions = benchmark.questions()
    assert {q.task for q in questions} == {"ego", "count"}
    answers = ["A", "A", "A", ""]
    grades = [benchmark.grade(*pair) for pair in zip(questions, answers, strict=True)]
    summary = benchmark.summarize(questions, answers, grades)
    assert summary.tasks == {"ego": {"accuracy": 0.5}, "count": {"accuracy": 0.5}}
    assert summary.averages == {"2 of 7 tasks": 0.5}
    assert summary.unparsed == 0.25
    with pytest.raises(DataError, match=r"mlvu \(dev\)\.tasks: got egoo, expected some of plotQA"):
        build("mlvu", root=str(mlvu_root), tasks=["egoo"])


def test_means_are_of_tasks_and_the_papers_are_of_fewer(mvbench_root: Path) -> None:
    """Right on all but the three tasks that the paper leaves out; there an answer in two is."""
    benchmark = build("mvbench", root=str(mvbench_root))
    questions = benchmark.questions()
    answers = ["A" if q.task in mvbench.NOT_IN_PAPER else q.references[0] for q in questions]
    grades = [benchmark.grade(*pair) for pair in zip(questions, answers, strict=True)]
    summary = benchmark.summarize(questions, answers, grades)
    assert summary.averages == {"all tasks": pytest.approx((17 + 3 * 0.5) / 20), "paper's 17 tasks": 1.0}
    assert summary.counts == dict.fromkeys(mvbench.TASKS, 2)


@pytest.mark.parametrize(
    ("name", "compat", "scores", "ungraded"),
    [
        ("mvbench", "strict", [1.0, 0.0, 0.0, 0.0], 0),
        ("mvbench", "official", [1.0, 1.0, 1.0, 0.0], 0),
        ("mvbench", "lmms", [1.0, 1.0, None, 0.0], 1),
        ("mlvu", "strict", [1.0, 0.0, 0.0, 0.0], 0),
        ("mlvu", "official", [1.0, 0.0, 0.0, 0.0], 0),
        ("mlvu", "lmms", [1.0, 1.0, 0.0, 0.0], 0),
    ],
)
def test_each_rule_of_scoring(
    mvbench_root: Path, mlvu_root: Path, name: str, compat: str, scores: list[float | None], ungraded: int
) -> None:
    root = mvbench_root if name == "mvbench" else mlvu_root
    benchmark = build(name, root=str(root), compat=compat)
    questions = [benchmark.questions()[0]] * 4
    answers = ["A) left", "A cup" if name == "mlvu" else "a cup", "", "the wrong way"]
    grades = [benchmark.grade(*pair) for pair in zip(questions, answers, strict=True)]
    assert [grade.scores.get("accuracy") for grade in grades] == scores
    summary = benchmark.summarize(questions, answers, grades)
    assert (summary.unparsed, summary.ungraded) == (0.75, ungraded)


@pytest.mark.parametrize(
    ("compat", "scores"), [("strict", [1.0, 0.0, 1.0]), ("official", [0.0, 0.0, 1.0]), ("lmms", [1.0, 0.0, 0.0])]
)
def test_of_equal_options_each_is_right_and_others_take_one(tmp_path: Path, compat: str, scores: list[float]) -> None:
    twice = {"video": "a.mp4", "question": "?", "candidates": ["red", "blue", "red"], "answer": " red"}
    write_json(tmp_path / "json/action_count.json", [twice])
    benchmark = build("mvbench", root=str(tmp_path), tasks="action_count", compat=compat)
    (question,) = benchmark.questions()
    assert question.references == ("A", "C")
    assert [benchmark.grade(question, answer).scores["accuracy"] for answer in ("A", "B", "C")] == scores


GOOD: dict[str, Any] = {"video": "a.mp4", "question": "?", "candidates": ["a", "b"], "answer": "a"}
BAD: dict[str, Any] = {
    "got 'x', expected a mapping": "x",
    "question: got None, expected text": {key: value for key, value in GOOD.items() if key != "question"},
    "question: got '\\ud800', expected text": {**GOOD, "question": "\ud800"},
    "video: got '', expected text": {**GOOD, "video": ""},
    "answer: got ['a'], expected text": {**GOOD, "answer": ["a"]},
    "candidates: got ['a'], expected a list of 2": {**GOOD, "candidates": ["a"]},
    "candidates: got ['a', None], expected": {**GOOD, "candidates": ["a", None]},
    "candidates: got 'ab', expected": {**GOOD, "candidates": "ab"},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_record_is_skipped_with_its_reason_and_stops_no_other(tmp_path: Path, message: str) -> None:
    write_json(tmp_path / "json/1_plotQA.json", [GOOD, BAD[message], GOOD])
    benchmark = build("mlvu", root=str(tmp_path), tasks="plotQA")
    assert [question.id for question in benchmark.questions()] == ["plotQA-0", "plotQA-2"]
    ((place, reason),) = benchmark.skipped
    assert place.endswith("1_plotQA.json: record 2")
    assert reason.startswith(message)


BOUNDS: list[dict[str, Any]] = [
    {},
    {"start": 0, "end": "1"},
    {"start": 2, "end": 1},
    {"start": 0, "end": float("nan")},
    {"start": 0, "end": 10**400},
]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_a_segment_is_needed_where_a_task_has_one(tmp_path: Path, bounds: dict[str, Any]) -> None:
    write_json(tmp_path / "json/action_sequence.json", [GOOD | bounds, GOOD | {"start": 0, "end": 1}])
    benchmark = build("mvbench", root=str(tmp_path), tasks="action_sequence")
    assert [question.id for question in benchmark.questions()] == ["action_sequence-1"]
    assert "expected" in benchmark.skipped[0].reason


def test_records_of_mlvus_test_split_with_unknown_tasks_or_ids_of_others_are_skipped(tmp_path: Path) -> None:
    root = write_mlvu_test(tmp_path)
    records = json.loads((root / mlvu.TEST_FILE).read_text())
    odd = [{**records[0], "question_type": "plot"}, {**records[0], "question_type": ["ego"]}, records[0], 7]
    write_json(root / mlvu.TEST_FILE, [*records, *odd])
    benchmark = build("mlvu", root=str(root), split="test")
    assert [question.task for question in read_questions(benchmark)] == list(mlvu.TEST)
    places = [place.rpartition(" ")[2] for place, _ in benchmark.skipped]
    assert places == ["10", "11", "13", "12"]
    assert benchmark.skipped[-1].reason.startswith("id: got 'plotQA_0', which ")


ODD = {  # As in MLVU's official files: the official script asks them and can count none but the last two as right.
    "no-candidate": {"candidates": ["a square", "a ring"], "answer": "a disc"},
    "empty-answer": {"candidates": ["a cup", "a book"], "answer": ""},
    "empty-question": {"question": ""},
    "equal-candidates": {"candidates": ["1", "2", "2"], "answer": "2"},
}


@pytest.mark.parametrize(
    ("compat", "mean", "ungraded", "note"),
    [
        ("strict", 1.0, 2, "excluded from means"),
        ("official", 0.5, 0, "counted as wrong"),
        ("lmms", 0.5, 0, "counted as wrong"),
    ],
)
@pytest.mark.parametrize(
    ("name", "task", "file"), [("mlvu", "ego", "3_ego.json"), ("mvbench", "action_count", "action_count.json")]
)
def test_questions_without_a_right_option_are_asked_and_graded_by_the_rule(
    tmp_path: Path, name: str, task: str, file: str, compat: str, mean: float, ungraded: int, note: str
) -> None:
    write_json(tmp_path / "json" / file, [GOOD | odd for odd in ODD.values()])
    benchmark = build(name, root=str(tmp_path), tasks=task, compat=compat)
    questions = read_questions(benchmark)
    assert not benchmark.skipped
    assert [question.references for question in questions] == [(), (), ("A",), ("B", "C")]
    answers = ["A", "A", "A", "B" if compat == "lmms" else "C"]
    grades = [benchmark.grade(*pair) for pair in zip(questions, answers, strict=True)]
    summary = benchmark.summarize(questions, answers, grades)
    assert summary.tasks[task] == {"accuracy": mean}
    assert (summary.counts[task], summary.ungraded) == (4, ungraded)
    assert summary.notes == (
        f"2 of 4 have no correct option and are {note}: "
        f"{task}-0 (its answer is 'a disc'), {task}-1 (its answer is '').",
    )


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("[", "no JSON"), ("{}", "a list of records")]
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "json").mkdir()
    if content is not None:
        (tmp_path / "json/1_plotQA.json").write_text(content)
    with pytest.raises(DataError, match=message):
        build("mlvu", root=str(tmp_path)).questions()


PRINTED = json.loads((Path(__file__).parent / "printed.json").read_text())
COLUMNS = {
    "B5": ("anomaly_reco", "ego", "order", "count", "topic_reasoning", "needle", "plotQA"),
    "B6": (
        *("unexpected_action", "action_count", "moving_attribute", "object_existence", "scene_transition"),
        *("action_localization", "action_prediction", "action_sequence", "character_order"),
        *("counterfactual_inference", "egocentric_navigation", "fine_grained_action", "moving_count"),
        *("moving_direction", "object_interaction", "object_shuffle", "state_change"),
    ),
}


def inconsistent(table: str) -> list[str]:
    """Rows whose average is not the mean of their own columns, to the digit that is printed."""
    return [row for row, (average, *tasks) in PRINTED[table] if abs(fmean(tasks) - average) > 0.0501]


def test_mlvus_printed_averages_are_the_means_of_seven_tasks_in_all_rows_but_one() -> None:
    assert len(PRINTED["B5"]) == 18
    assert inconsistent("B5") == ["Video-LLAVA [43]"]


def test_mvbenchs_printed_averages_are_not_the_means_of_their_columns_in_9_of_15_rows() -> None:
    assert len(PRINTED["B6"]) == 16
    assert inconsistent("B6") == [
        *("GPT4-V", "Gemini Pro", "Video-LLAMA [69]", "mPLUG-Owl-V [66]", "Video-ChatGPT [43]", "LLAMA-VID [35]"),
        *("LLaVA-OneVision [29]", "ShareGPT4Video* [9]", "Qwen2-VL* [62]"),
    ]


@pytest.mark.parametrize(
    ("table", "tasks", "name"), [("B5", mlvu, "paper's 7 tasks"), ("B6", mvbench, "paper's 17 tasks")]
)
def test_auroralongs_rows_are_the_printed_ones(table: str, tasks: Any, name: str) -> None:
    row, (average, *cells) = PRINTED[table][-1]
    assert row == "AURORALONG (ours)"
    assert {task: tasks.AURORALONG[task] for task in COLUMNS[table]} == dict(zip(COLUMNS[table], cells, strict=True))
    assert tasks.AURORALONG[name] == average
    assert round(fmean(tasks.AURORALONG[task] for task in COLUMNS[table]), 1) == average
