"""`composer plot` on the log that Lightning's CSV logger writes."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from composer.cli import main
from composer.figures.curves import read_curves
from tests.composer.training.tiny import TinyData, module, only_tiny_components, trainer

__all__ = ["only_tiny_components"]


def test_curves_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    trainer(run, max_steps=12, logger=CSVLogger(run, name="")).fit(module(), TinyData())
    curves = read_curves(run)
    assert [step for step, _ in curves["train/loss"]] == list(range(12))
    assert [step for step, _ in curves["val/token_accuracy"]] == [5, 11]
    assert main(["plot", str(run)]) == 0
    assert main(["plot", str(run), "-o", str(tmp_path / "out.svg")]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [str(run / "curves.png"), str(tmp_path / "out.svg")]
    assert Image.open(run / "curves.png").size[0] > 1000


def test_a_folder_without_a_log_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "no metrics.csv" in said
    assert "with at least trainer.log_every_n_steps steps" in said
