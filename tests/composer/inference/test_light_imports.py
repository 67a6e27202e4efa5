"""What answers a question imports nothing of training or figures: checked in a fresh interpreter that answers."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.composer.data.files import write_video
from tests.composer.training.real import train
from tests.plugins.benchmarks.layouts import write_mlvu_dev

UNUSED = ("lightning", "torchmetrics", "matplotlib", "open_clip", "transformers")
REPORT = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules} & set(sys.argv[1:])), '.')"
SHORT = ["--root=mlvu", "--output=out", "--limit=1", "--frames=2", "--num-workers=0"]
EVALUATE = ["evaluate", "run", "mlvu", *SHORT, "--model.backbone.context_length=2000"]
CODE = {
    "ask": "from composer.cli import main; assert main(['ask', 'run', '--video', 'clip.mp4', 'So?']) == 0",
    "evaluate": f"from composer.cli import main; assert main({EVALUATE}) == 0",
    "load": "import composer; assert isinstance(composer.load('run').ask('So?', video='clip.mp4'), str)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    train(folder / "run")
    write_video(folder / "clip.mp4", 12)
    write_mlvu_dev(folder / "mlvu")
    return folder


@pytest.mark.parametrize("command", CODE)
def test_no_training_and_no_figures(command: str, folder: Path) -> None:
    words = [sys.executable, "-c", f"{CODE[command]}\n{REPORT}", *UNUSED]
    result = subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder)
    assert result.stdout.splitlines()[-1] == "."
