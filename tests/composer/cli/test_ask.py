"""`composer ask` on a model of first-party parts."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from composer.cli import main
from composer.inference.ask import ask
from composer.model.checkpoint import load_model
from composer.sample import Media
from tests.composer.data.files import write_video
from tests.composer.training.real import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", 12)


def test_it_answers_with_as_many_frames_as_in_training(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, frames in ([], 2), (["--frames", "3"], 3):
        arguments = ["ask", str(run), "--video", str(video), "So?", "--max-new-tokens", "9", *flags]
        assert main(arguments) == 0
        pieces = ask(load_model(run), "So?", [Media("video", str(video))], frames=frames, max_new_tokens=9)
        assert capsys.readouterr().out == "".join(pieces) + "\n"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--device=cuda:99", "--device: got 'cuda:99', which cannot be used ("),
        ("--device=gpu", "--device: got 'gpu', which cannot be used ("),
        ("--device=meta", "expected auto, cpu, cuda or cuda:N"),
        ("--frames=-1", "--frames: got '-1', expected an integer of at least 1"),
        ("--frames=0", "--frames: got '0', expected an integer of at least 1"),
        ("--max-new-tokens=0", "--max-new-tokens: got '0', expected an integer of at least 1"),
        ("--temperature=nan", "--temperature: got 'nan', expected a number of at least 0"),
        ("--temperature=-1", "--temperature: got '-1', expected a number of at least 0"),
        ("--temperature=inf", "--temperature: got 'inf', expected a number of at least 0"),
    ],
)
def test_values_that_no_flag_takes(run: Path, capsys: pytest.CaptureFixture[str], flag: str, said: str) -> None:
    status: object = None
    with suppress(SystemExit):  # argparse's own way
        status = main(["ask", str(run), "So?", flag])
    assert status in (None, 2)
    assert said in capsys.readouterr().err


def test_errors_are_one_message_and_exit_status_1(
    run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "There is no checkpoint": ["ask", str(tmp_path / "absent"), "So?"],
        "no complete checkpoint": ["ask", str(tmp_path), "So?"],
        "absent.mp4": ["ask", str(run), "--video", "absent.mp4", "So?"],
        "context is 100": ["ask", str(run), "--video", str(video), "--frames", "40", "So?"],
    }
    for message, arguments in cases.items():
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert message in err
        assert out == ""
        assert "Traceback" not in err


def test_a_question_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = os.fsdecode("Où?".encode("latin-1"))
    assert main(["ask", str(tmp_path), question]) == 2
    assert r"question: got b'O\xf9?', expected text in UTF-8" in capsys.readouterr().err
