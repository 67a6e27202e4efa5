"""A run's curves against what is in its log files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from composer.errors import DataError
from composer.figures.curves import curves_figure, draw_curves, read_curves


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


def test_the_title_names_run_parts_and_data(tmp_path: Path) -> None:
    write_metrics(tmp_path / "mine/metrics.csv", ["0,0,4.0,0.1,"])
    assert curves_figure(tmp_path / "mine").get_suptitle() == "mine"
    model = {"encoder": {"name": "eye"}, "reducer": [{"name": "half"}], "projector": {"name": "mlp"}}
    config = {
        "model": model | {"backbone": {"name": "river"}},
        "data": {"train": ["a.json", {"source": "b"}, "c", "d"]},
    }
    (tmp_path / "mine/version_0").mkdir()
    (tmp_path / "mine/version_0/config.yaml").write_text(yaml.safe_dump(config))
    expected = "mine: eye + half + mlp + river\ntrained on a.json, b, c and 1 more"
    assert curves_figure(tmp_path / "mine").get_suptitle() == expected


def test_an_empty_panel_says_why(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss\n0,4.0\n7,3.0\n")
    loss, accuracy = curves_figure(tmp_path).axes
    assert [text.get_text() for text in accuracy.texts] == ["the run logged no token accuracy"]
    assert not loss.texts
    assert all(float(tick).is_integer() for tick in loss.get_xticks())


def test_a_change_of_source_is_marked(tmp_path: Path) -> None:
    rows = [f"{step},{4.0 - step},{step // 3}" for step in range(9)]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,train/loss,train/source", *rows]) + "\n")
    loss = curves_figure(tmp_path).axes[0]
    marks = [line.get_xdata()[0] for line in loss.get_lines() if line.get_linestyle() == "--"]
    assert marks == [3, 6]
    assert loss.get_legend_handles_labels()[1] == ["train", "next source"]
