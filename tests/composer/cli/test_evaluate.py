"""`composer evaluate` on a model of first-party parts and tiny files in the official layouts."""

import fcntl
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import composer.evaluation
import composer.inference.answering
from composer.cli import main
from composer.errors import ConfigError
from composer.evaluation.answers import Answer, AnswerFile
from tests.composer.training.real import train
from tests.plugins.benchmarks.layouts import (
    write_activitynet_qa,
    write_mlvu_dev,
    write_mlvu_test,
    write_mvbench,
    write_vatex,
)

# The tiny model was trained with a context of 100, which the prompts do not fit into.
SHORT = ["--frames=2", "--num-workers=0", "--device=cpu", "--model.backbone.context_length=2000"]
QUESTIONS = 14  # seven tasks of two


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def mlvu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mlvu_dev(tmp_path_factory.mktemp("mlvu"))


@pytest.fixture
def evaluate(trained: Path, mlvu: Path, tmp_path: Path) -> Callable[..., int]:
    """`composer evaluate RUN mlvu ...` into a folder of the test."""

    def call(*flags: str, output: str = "out") -> int:
        folder = f"--output={tmp_path / output}"
        return main(["evaluate", str(trained), "mlvu", f"--root={mlvu}", folder, *SHORT, *flags])

    return call


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight tokens at most: an untrained model never ends by itself."""
    generate = composer.inference.answering.generate

    def shortened(*args: Any, max_new_tokens: int) -> list[str]:
        return generate(*args, max_new_tokens=8)

    monkeypatch.setattr(composer.inference.answering, "generate", shortened)


def lines(folder: Path, name: str = "answers.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def results(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return read


def test_a_benchmark_from_its_files_to_a_table(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--batch-size=3") == 0
    header, *answers = lines(tmp_path / "out")
    assert header["options"]["frames"] == 2
    assert header["model"]["backbone"]["context_length"] == 2000
    assert len({answer["id"] for answer in answers}) == QUESTIONS
    written = results(tmp_path / "out")
    assert written["questions"] == QUESTIONS
    assert set(written["averages"]) == {"all tasks", "paper's 7 tasks"}
    assert written["tasks"]["ego"]["n"] == 2
    assert 0 <= written["unparsed"] <= 1
    table = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
    assert cells["task"] == ["n", "accuracy %", "AuroraLong"]
    assert cells["ego"][::2] == ["2", "57.1"]
    assert cells["paper's 7 tasks"][-1] == "52.7"
    assert list(cells)[-1] == "unparsed"


def test_odd_records_stop_no_other_and_are_counted_with_their_reasons(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = write_mlvu_dev(tmp_path / "mlvu"), tmp_path / "out"
    path = root / "json/3_ego.json"
    good = json.loads(path.read_text())
    odd = [{**good[0], "answer": "down"}, {**good[0], "question": ""}, {"video": good[0]["video"]}, None]
    path.write_text(json.dumps([*good, *odd]))
    words = ["evaluate", str(trained), "mlvu", f"--root={root}", f"--output={out}", *SHORT]
    assert main(words) == 0
    written, shown = results(out), capsys.readouterr().out
    assert written["questions"] == QUESTIONS + 2
    assert (written["tasks"]["ego"]["n"], written["ungraded"]) == (4, 1)
    assert [record["place"] for record in written["skipped"]] == [f"{path}: record 5", f"{path}: record 6"]
    assert f"skipped: {path}: record 6: got None, expected a mapping\n" in shown
    assert "1 of 16 have no correct option and are excluded from means: ego-2 (its answer is 'down')" in " ".join(
        shown.split()
    )
    assert written["notes"]
    assert main([*words, "--compat=official"]) == 0
    assert results(out)["ungraded"] == 0


def test_a_benchmark_without_a_question_stops_with_the_reasons(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "json/3_ego.json"
    path.parent.mkdir()
    path.write_text('[{"video": "a.mp4"}]')
    assert main(["evaluate", str(trained), "mlvu", f"--root={tmp_path}", "--tasks=ego", *SHORT]) == 1
    error = capsys.readouterr().err
    assert "gave no question" in error
    assert f"skipped: {path}: record 1: question: got None, expected text" in error


def test_the_python_function_writes_what_the_command_writes(
    evaluate: Callable[..., int], trained: Path, mlvu: Path, tmp_path: Path
) -> None:
    assert evaluate("--tasks=ego,count", "--limit=1", output="command") == 0
    result = composer.evaluation.evaluate(
        trained,
        "mlvu",
        output=tmp_path / "function",
        num_workers=0,
        device="cpu",
        limit=1,
        model={"backbone.context_length": 2000},
        root=str(mlvu),
        frames=2,
        tasks=["ego", "count"],
    )
    assert result is not None
    assert lines(tmp_path / "function") == lines(tmp_path / "command")
    written = results(tmp_path / "command")
    assert results(tmp_path / "function") == written
    assert result.path == tmp_path / "function/results.json"
    assert (result.metric, dict(result.averages)) == (written["metric"], written["averages"])
    assert dict(result.tasks)["ego"] == {"accuracy": written["tasks"]["ego"]["accuracy"]}
    assert result.skipped == ()
    with pytest.raises(ConfigError, match=r"mlvu\.framez: unknown option; did you mean 'frames'\?"):
        composer.evaluation.evaluate(trained, "mlvu", root=str(mlvu), framez=2)


def test_answers_do_not_depend_on_the_batch_or_on_workers(evaluate: Callable[..., int], tmp_path: Path) -> None:
    assert evaluate("--batch-size=5", output="a") == 0
    assert evaluate("--num-workers=1", output="b") == 0
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_every_task_of_mvbench(trained: Path, tmp_path: Path) -> None:
    root = write_mvbench(tmp_path / "mvbench", records=1)
    flags = [f"--output={tmp_path / 'out'}", "--batch-size=4", *SHORT]
    assert main(["evaluate", str(trained), "mvbench", "--root", str(root), *flags]) == 0
    written = results(tmp_path / "out")
    assert set(written["averages"]) == {"all tasks", "paper's 17 tasks"}
    assert written["published"]["AuroraLong"]["paper's 17 tasks"] == 53.2


def test_a_restart_asks_what_is_left(
    evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(output="whole") == 0
    calls = 0
    load = composer.inference.answering.load_clip

    def fail_at_the_sixth(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return load(*args)

    monkeypatch.setattr(composer.inference.answering, "load_clip", fail_at_the_sixth)
    assert evaluate() == 130
    assert not (tmp_path / "out/results.json").exists()
    with (tmp_path / "out/answers.jsonl").open("a") as file:
        file.write('{"id": "torn')
    assert evaluate() == 0
    assert calls == 6 + QUESTIONS - 5
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    assert evaluate() == 0
    assert calls == 6 + QUESTIONS - 5


@pytest.mark.parametrize("flags", [("--batch-size=4",), ("--num-workers=1",)])
def test_videos_that_cannot_be_decoded_stop_no_other_question(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    root, out = write_mlvu_dev(tmp_path / "mlvu"), tmp_path / "out"
    words = ["evaluate", str(trained), "mlvu", f"--root={root}", f"--output={out}", *SHORT, *flags]
    videos = [root / "video/3_ego/1.mp4", root / "video/1_plotQA/0.mp4"]
    whole = [video.read_bytes() for video in videos]
    for video in videos:
        video.write_bytes(b"no video")
    assert main(words) == 1
    error = capsys.readouterr().err
    assert f"2 of {QUESTIONS} questions cannot be asked:\n" in error
    assert "plotQA/0.mp4" in error
    assert "ego/1.mp4" in error
    assert "Fix the media files and rerun: only these questions are asked again" in error
    assert "Traceback" not in error
    assert not (out / "results.json").exists()
    answered = lines(out)
    assert len(answered) == 1 + QUESTIONS - 2
    for video, content in zip(videos, whole, strict=True):
        video.write_bytes(content)
    assert main(words) == 0
    assert lines(out)[: len(answered)] == answered
    assert len({answer["id"] for answer in lines(out)[1:]}) == QUESTIONS
    assert results(out)["questions"] == QUESTIONS


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--frames=3"], "(options.frames: got"),
        (["--condition=blind"], "condition: got 'normal', expected 'blind'"),
        (["--model.reducer.keep_ratio=0.5"], "(model.reducer.0.keep_ratio: got"),
    ],
)
def test_answers_of_another_run_are_refused(
    evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert evaluate("--limit=1", "--tasks=ego") == 0
    assert evaluate("--limit=1", "--tasks=ego", *flags) == 1
    error = capsys.readouterr().err
    assert "contains answers of a different run" in error
    assert said in error


def test_who_reads_the_choice_changes_no_answer(
    evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate("--tasks=ego") == 0
    path = tmp_path / "out/answers.jsonl"
    header, rest = path.read_text().split("\n", 1)
    assert "compat" not in header
    monkeypatch.setattr(composer.inference.answering, "load_clip", lambda *_: pytest.fail("a question was asked again"))
    assert evaluate("--tasks=ego", "--compat=lmms") == 0
    assert results(tmp_path / "out")["options"]["compat"] == "lmms"
    # Headers were once written with it.
    old = json.loads(header)
    old["options"]["compat"] = "official"
    path.write_text(json.dumps(old) + "\n" + rest)
    assert evaluate("--tasks=ego") == 0
    assert results(tmp_path / "out")["options"]["compat"] == "strict"


def test_a_limit_counts_for_each_task_and_can_be_raised_but_not_lowered(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--limit=1") == 0
    limited = results(tmp_path / "out")
    assert (limited["tasks"]["ego"]["n"], limited["limit"]) == (1, 1)
    assert evaluate() == 0
    whole = results(tmp_path / "out")
    assert (whole["tasks"]["ego"]["n"], whole["limit"]) == (2, None)
    assert evaluate("--limit=1") == 1
    refused = f"results.json is the result of {QUESTIONS} questions, and --limit would replace it with that of 7"
    assert refused in capsys.readouterr().err
    assert results(tmp_path / "out") == whole
    assert evaluate("--limit=2") == 0


def test_several_processes_share_the_questions(
    evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(output="whole") == 0
    capsys.readouterr()
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        assert not (tmp_path / "out/results.json").exists()
        monkeypatch.setenv("RANK", str(rank))
        assert evaluate() == 0
        assert bool(capsys.readouterr().out) == (rank == 2)
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    assert not list((tmp_path / "out").glob("answers.*.jsonl"))
    whole, shared = results(tmp_path / "whole"), results(tmp_path / "out")
    assert shared == whole


def test_answers_are_read_under_the_lock(evaluate: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another process merges and removes files in between."""
    reads = 0
    read = AnswerFile.read

    def checked(self: AnswerFile) -> dict[tuple[str, str], Answer]:
        nonlocal reads
        reads += 1
        with (self.folder / ".answers.lock").open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return read(self)

    monkeypatch.setattr(AnswerFile, "read", checked)
    assert evaluate("--tasks=ego") == 0
    assert reads == 3  # as it starts, before it asks, before it reports


def test_one_process_goes_on_where_several_stopped(
    evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert evaluate() == 0
    assert len(lines(tmp_path / "out", "answers.1.jsonl")) == 1 + QUESTIONS // 2
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert evaluate() == 0
    assert results(tmp_path / "out")["questions"] == QUESTIONS
    assert len(lines(tmp_path / "out")) == 1 + QUESTIONS
    assert not (tmp_path / "out/answers.1.jsonl").exists()


def test_the_commands_of_the_page_run(
    trained: Path, mlvu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tiny model and files in the place of real ones, and few frames and tasks."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "runs/mine").symlink_to(trained)
    (tmp_path / "data/MLVU").symlink_to(mlvu)
    write_mvbench(tmp_path / "data/MVBench", records=1)
    write_mlvu_test(tmp_path / "data/MLVU_Test")
    write_vatex(tmp_path / "data/VATEX")
    write_activitynet_qa(tmp_path / "data/ActivityNet-QA")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[3] / "docs/evaluation.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    commands = [
        shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("composer evaluate")
    ]
    assert len(commands) >= 7
    fewer = {"mvbench": ["--tasks=action_count"], "mlvu": ["--tasks=ego"], "vatex": ["--tokenizer=words"]}
    for number, words in enumerate(commands):
        assert main([*words, *fewer.get(words[2], []), f"--output=out{number}", *SHORT]) == 0, words


def test_blind_frames_are_gray(evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    show = composer.inference.answering.show

    def spy(*args: Any) -> Any:
        seen.append(show(*args))
        return seen[-1]

    monkeypatch.setattr(composer.inference.answering, "show", spy)
    assert evaluate("--condition=blind", "--tasks=ego") == 0
    assert all(clip.pixels.unique().numel() == 1 for clip in seen)
    assert results(tmp_path / "out")["condition"] == "blind"


@pytest.mark.parametrize(("flags", "folder"), [([], "mlvu"), (["--condition=shuffled"], "mlvu-shuffled")])
def test_without_an_output_results_lie_in_the_run_folder(
    trained: Path, mlvu: Path, flags: list[str], folder: str
) -> None:
    assert main(["evaluate", str(trained), "mlvu", f"--root={mlvu}", "--tasks=ego", *SHORT, *flags]) == 0
    assert results(trained / "evaluation" / folder)["averages"].keys() == {"1 of 7 tasks"}


def test_errors_are_one_message(
    trained: Path, mlvu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ["evaluate", str(trained), "mlvu", f"--root={mlvu}", f"--output={tmp_path}"]
    cases = {
        "unknown benchmark 'mlvuu': did you mean 'mlvu'? Installed: activitynet-qa, mlvu, moviechat-1k,": [
            *good[:2],
            "mlvuu",
        ],
        "mlvu.root: a value is missing": good[:3],
        "--framez: mlvu.framez: unknown option; did you mean 'frames'?": [*good, "--framez=3"],
        "--frames: mlvu.frames: got 0": [*good, "--frames=0"],
        "--frames: a value is missing": [*good, "--frames"],
        "'extra': got a word, expected an option": [*good, "extra"],
        "mlvu (dev).tasks: got ego2": [*good, "--tasks=ego2"],
        "cannot be read": [*good[:3], f"--root={tmp_path}"],
        "--device: got 'gpu', which cannot be used (": [*good, "--device=gpu"],
        "There is no checkpoint": ["evaluate", str(tmp_path / "absent"), *good[2:]],
        "context is 100": [*good, "--num-workers=0", "--frames=2"],
    }
    for message, arguments in cases.items():
        assert main(arguments) in (1, 2), message
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    with pytest.raises(SystemExit, match="2"):
        main([*good, "--num-workers=-1"])
    assert "--num-workers: got '-1', expected an integer of at least 0" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "2")
    assert main(good) == 2
    assert "expected a rank from 0" in capsys.readouterr().err


def test_missing_videos_are_told_before_a_question_is_asked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mlvu_dev(tmp_path / "mlvu", records=1)
    (root / "video/3_ego/0.mp4").unlink()
    assert main(["evaluate", str(trained), "mlvu", f"--root={root}", f"--output={tmp_path / 'out'}"]) == 1
    assert "1 of 7 media files are missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_answers_that_nobody_wrote_are_refused(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--tasks=ego") == 0
    with (tmp_path / "out/answers.jsonl").open("a") as file:
        file.write("{}\n")
    assert evaluate("--tasks=ego") == 1
    assert "answers.jsonl:4: got b'{}\\n', expected a record" in capsys.readouterr().err
