"""`composer ask` on a model of first-party parts."""

from pathlib import Path

import pytest

from composer.checkpoint import load_model
from composer.cli import main
from composer.inference.ask import ask
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


def test_errors_are_one_message_and_exit_status_1(
    run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "There is no checkpoint": ["ask", str(tmp_path / "absent"), "So?"],
        "no whole checkpoint": ["ask", str(tmp_path), "So?"],
        "absent.mp4": ["ask", str(run), "--video", "absent.mp4", "So?"],
        "context is 100": ["ask", str(run), "--video", str(video), "--frames", "40", "So?"],
    }
    for message, arguments in cases.items():
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert message in err
        assert out == ""
        assert "Traceback" not in err
