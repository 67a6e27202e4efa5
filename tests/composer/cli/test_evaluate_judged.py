"""`composer evaluate` with a judge: pinned, paid once, asked again where it did not answer."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import composer.inference.answering
from composer.cli import main
from composer_plugins.benchmarks import judge
from tests.composer.cli.test_evaluate import SHORT, lines, results, short_answers  # noqa: F401  the fixture is used
from tests.composer.training.real import train
from tests.plugins.benchmarks.judge_server import JudgeServer, judge_server, right_or_not
from tests.plugins.benchmarks.layouts import write_activitynet_qa, write_moviechat, write_vatex, write_vdc

QUESTIONS = 6  # of two videos, one about the whole and two about moments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moviechat(tmp_path_factory.mktemp("films"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(judge.time, "sleep", lambda _: None)
    with judge_server(right_or_not) as server:
        yield server


def command(trained: Path, root: Path, output: Path, server: JudgeServer, name: str = "moviechat-1k") -> list[str]:
    judged = ["--judge-model=small", f"--judge-url={server.url}", "--judge-at-once=1"]
    return ["evaluate", str(trained), name, f"--root={root}", f"--output={output}", *judged, *SHORT]


def test_a_judge_is_pinned_and_every_reply_is_kept(
    trained: Path, films: Path, tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(trained, films, tmp_path, server)) == 0
    written = results(tmp_path)
    pinned = written["judge"]
    assert pinned == {
        "kind": "openai",
        "model": "small",
        "revision": None,
        "url": server.url,
        "prompts": pinned["prompts"],
        "answered_as": ["judge-2026"],
    }
    assert written["options"]["judge_model"] == "small"
    assert written["tasks"]["global"] == {"n": 2, "accuracy": 0.0, "score": 1.0}
    header, *grades = lines(tmp_path, "grades.jsonl")
    assert header["checkpoint"] == lines(tmp_path)[0]["checkpoint"]
    assert "judge" not in lines(tmp_path)[0]["options"]
    assert [grade["replies"][0]["text"] for grade in grades] == ["{'pred': 'no', 'score': 1}"] * QUESTIONS
    table = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [cell.strip() for cell in table[0]] == ["task", "n", "accuracy %", "score of 5"]
    assert [cell.strip() for cell in table[1]] == ["global", "2", "0.0", "1.00"]


def test_what_the_judge_did_not_answer_is_asked_again_and_nothing_else(
    trained: Path, films: Path, tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = lambda number, body: (422, {}, "") if number in (1, 4) else right_or_not(number, body)
    assert main(command(trained, films, tmp_path, server)) == 0
    assert results(tmp_path)["ungraded"] == 2
    assert len(server.requests) == QUESTIONS
    refuse_to_decode(monkeypatch)
    server.script = right_or_not
    assert main(command(trained, films, tmp_path, server)) == 0
    assert results(tmp_path)["ungraded"] == 0
    assert len(server.requests) == QUESTIONS + 2
    assert server.requests[QUESTIONS:] == [server.requests[1], server.requests[4]]


def test_a_run_killed_while_judging_pays_nothing_twice(
    trained: Path, films: Path, tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang_at_the_fourth(number: int, body: dict[str, Any]) -> Any:
        if number == 3:
            released.wait(60)
        return right_or_not(number, body)

    server.script = hang_at_the_fourth
    words = command(trained, films, tmp_path, server)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    shorter = "from tests.composer.cli import evaluate_shortly; evaluate_shortly.run()"
    process = subprocess.Popen([sys.executable, "-c", shorter, *words], env=environment)
    try:
        until(lambda: len(server.requests) == 4)
    finally:
        process.kill()
        process.wait()
        released.set()
    assert len(lines(tmp_path, "grades.jsonl")) == 1 + 3
    refuse_to_decode(monkeypatch)
    server.script = right_or_not
    assert main(words) == 0
    assert len(server.requests) == 4 + (QUESTIONS - 3)
    assert results(tmp_path)["ungraded"] == 0


def test_another_judge_is_refused_and_the_answers_outlive_it(
    trained: Path,
    films: Path,
    tmp_path: Path,
    server: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = command(trained, films, tmp_path, server)
    assert main(words) == 0
    other = [*words, "--judge-model=large"]
    assert main(other) == 1
    error = capsys.readouterr().err
    assert "grades.jsonl contains grades of a different run (judge.model: got" in error
    assert "remove the file to judge again" in error
    (tmp_path / "grades.jsonl").unlink()
    refuse_to_decode(monkeypatch)
    assert main(other) == 0
    assert results(tmp_path)["judge"]["model"] == "large"
    assert main([*other, "--judge-at-once=2"]) == 0  # which changes no grade
    assert len(server.requests) == 2 * QUESTIONS


def test_a_key_that_is_refused_is_one_error(
    trained: Path, films: Path, tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda *_: (401, {}, "bad key")
    assert main(command(trained, films, tmp_path, server)) == 1
    error = capsys.readouterr().err
    assert "401" in error
    assert "$OPENAI_API_KEY" in error
    assert "Traceback" not in error
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("flag", ["--judge=none", ""])
def test_a_benchmark_of_judges_needs_one(
    trained: Path, films: Path, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(trained), "moviechat-1k", f"--root={films}", f"--output={tmp_path / 'out'}"]
    assert main([*words, *filter(None, [flag])]) == 2
    assert "--judge-model=NAME" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_judge_activitynet_qa_has_its_exact_match(trained: Path, tmp_path: Path) -> None:
    root = write_activitynet_qa(tmp_path / "data")
    flags = [f"--root={root}", "--judge=none", f"--output={tmp_path / 'out'}", "--limit=1", *SHORT]
    assert main(["evaluate", str(trained), "activitynet-qa", *flags]) == 0
    written = results(tmp_path / "out")
    assert written["metric"] == "exact match"
    assert "judge" not in written
    assert not (tmp_path / "out/grades.jsonl").exists()


def test_vdc_from_its_files_to_a_table(trained: Path, tmp_path: Path, server: JudgeServer) -> None:
    root = write_vdc(tmp_path / "data", videos=1)
    assert main(command(trained, root, tmp_path / "out", server, "vdc")) == 0
    written = results(tmp_path / "out")
    assert set(written["averages"]) == {"all kinds"}
    assert set(written["other_metrics"]["all kinds"]) == {"score"}
    assert len(server.requests) >= 5 * 2 * 2


def test_vatex_from_its_files_to_a_table(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_vatex(tmp_path / "data")
    flags = [f"--root={root}", "--tokenizer=words", f"--output={tmp_path / 'out'}", *SHORT]
    assert main(["evaluate", str(trained), "vatex", *flags]) == 0
    written = results(tmp_path / "out")
    assert set(written["tasks"]["captions"]) >= {"n", "CIDEr", "BLEU-1", "BLEU-4", "ROUGE-L"}
    assert "not tokenized by PTB" in written["notes"][0]
    out = capsys.readouterr().out
    assert "CIDEr x100" in out
    assert "not tokenized by PTB" in out


def refuse_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a question asked of the model fails the test."""

    def fail(*_: Any) -> None:
        pytest.fail("a question was asked again")

    monkeypatch.setattr(composer.inference.answering, "load_clip", fail)


def until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        threading.Event().wait(0.05)
