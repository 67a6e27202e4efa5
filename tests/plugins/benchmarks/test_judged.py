"""Benchmarks of open answers: their official files, questions, prompts of a judge, means, bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from composer.benchmark import Benchmark, Grade, Question, Summary
from composer.errors import ConfigError, DataError
from composer.recipe.components import slot_config
from composer.registry import load_registry
from composer.sample import Media
from composer_plugins.benchmarks import activitynet_qa, captions, vatex, vdc, vdc_prompts
from composer_plugins.benchmarks.judge_local import LocalJudge
from tests.plugins.benchmarks.judge_server import judge_server, right_or_not
from tests.plugins.benchmarks.layouts import write_activitynet_qa, write_moviechat, write_vatex, write_vdc

WRITERS: dict[str, Callable[[Path], Path]] = {
    "activitynet-qa": write_activitynet_qa,
    "moviechat-1k": write_moviechat,
    "vdc": write_vdc,
    "vatex": write_vatex,
}


def build(name: str, root: Path, **options: Any) -> Benchmark:
    """Build a benchmark; its judge is never asked, unless `options` set another one."""
    if name != "vatex" and options.get("judge") != "none":
        options = {"judge_model": "small", **options}
    config = slot_config("benchmark", name).model_validate({"name": name, "root": str(root), **options})
    benchmark: Benchmark = load_registry().build("benchmark", config)
    return benchmark


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


def user_text(question: Question) -> str:
    return str(question.sample.messages[-1].content[-1])


def results(benchmark: Benchmark, answer: Callable[[Question], str]) -> tuple[list[Grade], Summary]:
    questions = benchmark.questions()
    answers = [answer(question) for question in questions]
    grades = [benchmark.grade(*pair) for pair in zip(questions, answers, strict=True)]
    return grades, benchmark.summarize(questions, answers, grades)


@pytest.mark.parametrize("name", WRITERS)
def test_every_video_is_found_and_every_id_is_one(roots: dict[str, Path], name: str) -> None:
    questions = build(name, roots[name]).questions()
    assert len({q.id for q in questions}) == len(questions)
    assert all(Path(media.path).exists() for q in questions for media in q.sample.media)
    assert all(q.options == () and q.references for q in questions)


def test_activitynet_qa_asks_as_lmms_eval_does(roots: dict[str, Path]) -> None:
    questions = build("activitynet-qa", roots["activitynet-qa"]).questions()
    assert [q.task for q in questions] == list(activitynet_qa.TYPES)
    assert user_text(questions[3]) == "What is thing 3? Answer the question using a single word or phrase."
    assert questions[3].references == ("answer 3",)
    assert (questions[0].frames, questions[0].max_new_tokens) == (16, 64)
    assert Path(questions[1].sample.media[0].path).name == "v_-v1.mkv"


def test_activitynet_qa_means_are_over_questions(roots: dict[str, Path]) -> None:
    """Right on the first two types and on one of the six free ones."""
    with judge_server(right_or_not) as server:
        benchmark = build("activitynet-qa", roots["activitynet-qa"], judge_url=server.url)
        right = {"motion", "spatial", "color"}
        grades, summary = results(benchmark, lambda q: f"An {q.references[0]}." if q.task in right else "no")
        judged = server.requests[0]["messages"]
    assert [message["role"] for message in judged] == ["system", "user"]
    assert (
        "Question: what is Thing 0\nCorrect Answer: answer 0\nPredicted Answer: An answer 0.\n\n"
        in judged[1]["content"]
    )
    assert judged[1]["content"].endswith("{'pred': 'yes', 'score': 4.8}.")
    assert grades[0].replies[0].text == "{'pred': 'yes', 'score': 4}"
    assert summary.tasks["motion"] == {"accuracy": 1.0, "score": 4.0, "exact match": 0.0}
    assert summary.averages == {"free": pytest.approx(1 / 6), "all questions": pytest.approx(3 / 9)}
    assert summary.other_metrics["all questions"]["score"] == pytest.approx((3 * 4 + 6 * 1) / 9)
    assert (summary.unparsed, summary.ungraded) == (None, 0)


def test_activitynet_qa_without_a_judge_is_the_official_exact_match(roots: dict[str, Path]) -> None:
    benchmark = build("activitynet-qa", roots["activitynet-qa"], judge="none", tasks="yes_no,color")
    assert benchmark.judge_id() is None
    assert [metric.name for metric in benchmark.metrics] == ["exact match"]
    _, summary = results(benchmark, lambda q: "Answer  3." if q.task == "yes_no" else "an answer 4")
    assert summary.averages == {"2 of 6 free types": 0.5, "2 of 9 types": 0.5}
    assert summary.counts == {"yes_no": 1, "color": 1}


def test_moviechat_sees_the_whole_video_or_up_to_the_breakpoint(roots: dict[str, Path], tmp_path: Path) -> None:
    questions = build("moviechat-1k", roots["moviechat-1k"]).questions()
    assert [q.id for q in questions[:3]] == ["1-global-0", "AWA-2-global-0", "1-breakpoint-0"]
    path = str(roots["moviechat-1k"] / "videos/1.mp4")
    assert questions[0].sample.media == (Media("video", path),)
    assert questions[2].sample.media == (Media("video", path, end=0.1),)  # its first frame, not none
    assert questions[3].sample.media == (Media("video", path, end=0.6),)
    assert user_text(questions[3]) == "now 6?"
    old = build("moviechat-1k", write_moviechat(tmp_path, folder="annotations"), tasks=["breakpoint"]).questions()
    assert [q.id for q in old] == [q.id for q in questions[2:]]


def test_vdc_asks_a_prompt_of_its_kind_that_the_video_chooses(roots: dict[str, Path]) -> None:
    benchmark = build("vdc", roots["vdc"])
    questions = benchmark.questions()
    assert [q.task for q in questions[::2]] == list(vdc.KINDS)
    assert all(user_text(q) in vdc_prompts.CAPTION[q.task] for q in questions)
    assert [user_text(q) for q in questions] == [user_text(q) for q in benchmark.questions()]
    assert len({vdc._prompt("camera", f"camera-{video}") for video in range(200)}) == 16
    assert questions[1].references == ("one", "two")  # without the empty one


def test_vdcscore_asks_the_judge_to_answer_from_the_caption_and_then_to_rate(roots: dict[str, Path]) -> None:
    """The judge of the tests answers with the caption: a caption that holds `one` is right once of two."""
    with judge_server(right_or_not) as server:
        benchmark = build("vdc", roots["vdc"], judge_url=server.url, tasks="camera,short")
        grades, summary = results(benchmark, lambda q: "one and two" if q.id == "camera-video-0" else "only one")
        first, second, *_ = (body["messages"][1]["content"] for body in server.requests)
        requests = len(server.requests)
    assert "detailed description: one and two, question: camera one of 0?DO NOT" in first
    assert "Question: camera one of 0?\nCorrect Answer: one\nPredicted Answer: one and two\n" in second
    assert requests == 4 * 2 * 2
    assert len(grades[0].replies) == 4
    assert summary.tasks["camera"] == {"accuracy": 0.75, "score": 3.25}
    assert summary.tasks["short"] == {"accuracy": 0.5, "score": 2.5}
    assert summary.averages == {"2 of 5 kinds": 0.625}
    assert summary.other_metrics == {"2 of 5 kinds": {"score": 2.875}}


def test_vdc_reads_a_question_with_a_line_separator(tmp_path: Path) -> None:
    path = write_vdc(tmp_path, videos=1) / "VDCScore_qa/short.jsonl"
    pairs = [{"question": "what\u2028is\x85it?", "answer": "one"}]
    path.write_text(json.dumps({"video-0": pairs}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (question,) = build("vdc", tmp_path, tasks="short").questions()
    assert question.sample.meta["pairs"] == (("what\u2028is\x85it?", "one"),)


def test_vdcs_index_names_videos_where_it_is_there(tmp_path: Path) -> None:
    root = write_vdc(tmp_path, videos=1)
    (root / "videos/video-0.mp4").rename(root / "videos/Other Name.MP4")
    (root / "VDC_1k.jsonl").write_text('{"video_id": "video-0", "video_name": "Other Name.MP4"}\n')
    (question,) = build("vdc", root, tasks="short").questions()
    assert Path(question.sample.media[0].path).name == "Other Name.MP4"


def test_an_answer_that_the_judge_does_not_grade_is_in_no_mean(roots: dict[str, Path]) -> None:
    def stubborn(number: int, body: dict[str, Any]) -> Any:
        return (422, {}, "no") if "Answer: here" in body["messages"][1]["content"] else right_or_not(number, body)

    with judge_server(stubborn) as server:
        benchmark = build("moviechat-1k", roots["moviechat-1k"], judge_url=server.url)
        grades, summary = results(benchmark, lambda q: q.references[0])
    assert grades[0].scores == {}
    assert grades[0].problem is not None
    assert "returned 422" in grades[0].problem
    assert summary.ungraded == 2
    assert summary.tasks == {"breakpoint": {"accuracy": 1.0, "score": 4.0}}
    assert summary.counts == {"global": 2, "breakpoint": 4}


def test_a_judge_is_pinned_by_all_that_changes_grades(roots: dict[str, Path]) -> None:
    judged = build("moviechat-1k", roots["moviechat-1k"]).judge_id()
    assert judged is not None
    assert judged == {
        "kind": "openai",
        "model": "small",
        "revision": None,
        "url": "https://api.openai.com/v1",
        "prompts": judged["prompts"],
    }
    other = build("vdc", roots["vdc"]).judge_id()
    assert other is not None
    assert other["prompts"] != judged["prompts"]
    local = build("vdc", roots["vdc"], judge="local", judge_model="someone/judge", judge_revision="abc")
    pinned = {"kind": "local", "model": "someone/judge", "revision": "abc", "prompts": other["prompts"]}
    assert local.judge_id() == pinned
    assert isinstance(local._judge, LocalJudge)  # type: ignore[attr-defined]
    assert local.at_once == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge_model": None}, "judge_model: got no model"),
        ({"judge": "none", "judge_model": "x"}, "remove one of them"),
        ({"judge_revision": "abc"}, "judge_revision: only for a local judge"),
        ({"judge": "local", "judge_model": "someone/judge"}, "on the hub it may change: give a commit"),
        ({"judge": "human"}, "Input should be 'openai', 'local' or 'none'"),
        ({"judge_at_once": 0}, "greater than 0"),
        ({"judge_url": "localhost:8000"}, "should match pattern"),
    ],
)
def test_a_judge_is_described_once_and_whole(roots: dict[str, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slot_config("benchmark", "vdc").model_validate({"name": "vdc", "root": ".", "judge_model": "m", **options})


@pytest.mark.parametrize("name", ["vdc", "moviechat-1k"])
def test_what_only_a_judge_can_grade_needs_one(roots: dict[str, Path], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.judge: got none, but all its metrics need a judge"):
        build(name, roots[name], judge="none")


def test_vatex_has_metrics_of_all_captions(roots: dict[str, Path]) -> None:
    benchmark = build("vatex", roots["vatex"], tokenizer="words")
    grades, summary = results(benchmark, lambda q: q.references[0])
    assert user_text(benchmark.questions()[0]) == vatex.PROMPT
    assert grades == [Grade()] * 3
    scores = summary.tasks["captions"]
    assert scores["BLEU-4"] == scores["ROUGE-L"] == 1.0
    assert 1 < scores["CIDEr"] <= 10
    assert "METEOR" not in scores
    (note,) = summary.notes
    assert "not tokenized by PTB" in note
    assert (summary.ungraded, summary.unparsed) == (0, None)


@pytest.mark.skipif(not captions.has_ptb(), reason="needs Java and pycocoevalcap")
def test_vatex_with_papers_tokens(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "meteor", lambda corpus: 0.5)  # it takes ten seconds to start
    _, summary = results(build("vatex", roots["vatex"]), lambda q: q.references[0])
    assert summary.notes == ()
    assert summary.tasks["captions"]["METEOR"] == 0.5
    assert summary.tasks["captions"]["BLEU-4"] == 1.0


def test_vatex_without_java(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions.shutil, "which", lambda _: None)
    assert build("vatex", roots["vatex"]).tokenizer == "words"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"needs Java and pycocoevalcap: .*--tokenizer=words"):
        build("vatex", roots["vatex"], tokenizer="ptb")


def test_clips_that_are_gone_can_be_left_out(tmp_path: Path) -> None:
    root = write_vatex(tmp_path)
    (root / "videos/id1_000000_000010.mp4").unlink()
    assert len(build("vatex", root).questions()) == 3  # the command refuses what is missing
    _, summary = results(build("vatex", root, missing="skip", tokenizer="words"), lambda q: "a dog")
    assert summary.counts == {"captions": 2}
    assert summary.notes[-1] == "1 of 3 videos are missing and were skipped."


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


BAD = {
    "test_a.json: record 1: answer: got None": (
        "activitynet-qa",
        lambda root: _edit(root / "dataset/test_a.json", lambda all_: [{"question_id": "v_x", "type": 1}, *all_[1:]]),
    ),
    "test_a.json: record 1: type: got 9, expected 0 to 8": (
        "activitynet-qa",
        lambda root: _edit(root / "dataset/test_a.json", lambda all_: [{**all_[0], "type": 9}, *all_[1:]]),
    ),
    "test_q.json: record 2: question_id: got 'v_other'": (
        "activitynet-qa",
        lambda root: _edit(root / "dataset/test_q.json", lambda all_: [all_[0], {**all_[1], "question_id": "v_other"}]),
    ),
    "test_q.json: record 1: question: got '', expected text": (
        "activitynet-qa",
        lambda root: _edit(root / "dataset/test_q.json", lambda all_: [{**all_[0], "question": ""}]),
    ),
    "test_q.json: record 1: video_name: got None": (
        "activitynet-qa",
        lambda root: _edit(root / "dataset/test_q.json", lambda all_: [{"question_id": "a", "question": "b"}]),
    ),
    "test_a.json: cannot be read: No such file or directory; set --root": (
        "activitynet-qa",
        lambda root: (root / "dataset/test_a.json").unlink(),
    ),
    "1.json: info: got None, expected a mapping": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/1.json", lambda content: {"global": []}),
    ),
    "1.json: info: got None": ("moviechat-1k", lambda root: _edit(root / "gt/1.json", lambda content: [])),
    "AWA-2.json: global 1: answer: got ' '": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/AWA-2.json", lambda w: {**w, "global": [{"question": "a", "answer": " "}]}),
    ),
    "1.json: global: got dict, expected a list": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/1.json", lambda content: {**content, "global": {}}),
    ),
    "1.json: breakpoint: got NoneType, expected a list": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/1.json", lambda content: {"info": content["info"], "global": []}),
    ),
    "1.json: breakpoint 1: time: got None": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/1.json", lambda w: {**w, "breakpoint": [{"question": "a", "answer": "b"}]}),
    ),
    "1.json: breakpoint 1: info.fps: got 0": (
        "moviechat-1k",
        lambda root: _edit(root / "gt/1.json", lambda w: {**w, "info": {**w["info"], "fps": 0}}),
    ),
    "found no *.json, expected one per video": (
        "moviechat-1k",
        lambda root: [path.unlink() for path in (root / "gt").iterdir()],
    ),
    "camera.jsonl: record 1: got no JSON": (
        "vdc",
        lambda root: (root / "VDCScore_qa/camera.jsonl").write_text("{"),
    ),
    "camera.jsonl: record 2: video-1: got [], expected a list of questions with answers": (
        "vdc",
        lambda root: (root / "VDCScore_qa/camera.jsonl").write_text('\n{"video-1": []}\n'),
    ),
    "camera.jsonl: record 1: x 1: answer: got ''": (
        "vdc",
        lambda root: (root / "VDCScore_qa/camera.jsonl").write_text('{"x": [{"question": "q", "answer": ""}]}'),
    ),
    "camera.jsonl: record 1: got 3, expected a mapping": (
        "vdc",
        lambda root: (root / "VDCScore_qa/camera.jsonl").write_text("3"),
    ),
    "v1.1.json: record 1: enCap: got 'x'": (
        "vatex",
        lambda root: _edit(root / "vatex_public_test_english_v1.1.json", lambda all_: [{"videoID": "a", "enCap": "x"}]),
    ),
    "v1.1.json: record 1: videoID: got None": (
        "vatex",
        lambda root: _edit(root / "vatex_public_test_english_v1.1.json", lambda all_: [{"enCap": ["x"]}]),
    ),
    "v1.1.json: got dict, expected a list": (
        "vatex",
        lambda root: (root / "vatex_public_test_english_v1.1.json").write_text("{}"),
    ),
}


STOPS = {
    message
    for message in BAD
    if "cannot be read" in message or "found no" in message or "got dict, expected a list" in message
}
STOPS -= {"1.json: global: got dict, expected a list"}


@pytest.mark.parametrize("message", sorted(BAD.keys() - STOPS))
def test_a_bad_record_is_skipped_with_its_reason_and_stops_no_other(tmp_path: Path, message: str) -> None:
    name, corrupt = BAD[message]
    root = WRITERS[name](tmp_path)
    expected = {question.id for question in build(name, root).questions()}
    corrupt(root)
    benchmark = build(name, root)
    questions = {question.id for question in benchmark.questions()}
    assert questions < expected
    assert message in "\n".join(f"{place}: {reason}" for place, reason in benchmark.skipped)


@pytest.mark.parametrize("message", sorted(STOPS))
def test_a_bad_file_stops_with_its_name(tmp_path: Path, message: str) -> None:
    name, corrupt = BAD[message]
    root = WRITERS[name](tmp_path)
    corrupt(root)
    with pytest.raises(DataError) as raised:
        build(name, root).questions()
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["activitynet-qa", "moviechat-1k", "vdc"])
def test_an_unknown_task_is_refused(roots: dict[str, Path], name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}\.tasks: got mood, expected some of"):
        build(name, roots[name], tasks="mood")
