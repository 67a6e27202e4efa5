"""A run's curves against what is in its log files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from composer.errors import DataError
from composer.figures.curves import draw_curves, read_curves


def write_metrics(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["epoch,step,train/loss,train/token_accuracy,val/loss", *rows]) + "\n")


def test_curves_of_a_resumed_run_are_joined_by_step(tmp_path: Path) -> None:
    write_metrics(
        tmp_path / "version_0/metrics.csv",
        ["0,0,4.0,0.1,", "0,1,3.0,0.2,", "0,1,,,3.5", "0,2,9.0,0.0,", "0,9,9.0,0.0,"],
    )
    write_metrics(tmp_path / "version_1/metrics.csv", ["0,2,2.0,0.4,", "0,3,1.0,0.5,", "0,3,,,1.5"])
    curves = read_curves(tmp_path)
    assert curves["train/loss"] == [(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)]
    assert curves["val/loss"] == [(1, 3.5), (3, 1.5)]
    assert all(a < b for points in curves.values() for (a, _), (b, _) in pairwise(points))
    draw_curves(tmp_path, tmp_path / "curves.png")
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 10


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metrics\.csv"):
        read_curves(tmp_path)
    write_metrics(tmp_path / "logs/metrics.csv", [])
    with pytest.raises(DataError, match="no train/loss"):
        read_curves(tmp_path)
