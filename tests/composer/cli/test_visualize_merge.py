"""`composer visualize-merge` on a model of first-party parts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from composer.cli import main
from tests.composer.data.files import numbered, write_video
from tests.composer.training.real import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


def test_videos_and_images(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "clip.mp4", 12)
    image = tmp_path / "picture.png"
    Image.fromarray(numbered(5)).save(image)
    assert main(["visualize-merge", str(run), str(video)]) == 0
    assert main(["visualize-merge", str(run), str(image), "-o", str(tmp_path / "out.png")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert written == [run / "merges.png", tmp_path / "out.png"]
    wide, narrow = (np.asarray(Image.open(path)) for path in written)
    assert wide.shape[1] > 3 * narrow.shape[1]  # five frames beside one
    assert narrow.std() > 10


def test_layers(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "picture.png"
    Image.fromarray(numbered(5)).save(image)
    heights = []
    for layers in ("1", "1,2,3"):
        assert main(["visualize-merge", str(run), str(image), f"--layers={layers}", "-o", f"{tmp_path}/out.png"]) == 0
        heights.append(np.asarray(Image.open(tmp_path / "out.png")).shape[0])
    assert heights[1] > 1.7 * heights[0]  # four rows and two
    assert main(["visualize-merge", str(run), str(image), "--layers", "4"]) == 2
    assert "got 4, expected 1 to 3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["visualize-merge", str(run), str(image), "--layers", "six"])
    assert "got 'six', expected numbers such as 6,12,18,24" in capsys.readouterr().err


def test_a_file_of_unknown_kind_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize-merge", str(run), "notes.txt"]) == 1
    assert "notes.txt" in capsys.readouterr().err
