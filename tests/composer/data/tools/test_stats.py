"""Lengths are those that training has, counted without decoding."""

import json
from pathlib import Path

import numpy as np
import pytest

from composer.batch import MEDIA_ID
from composer.cli import main
from composer.data.dataset import Conversations
from composer.data.tools.stats import METRICS, Lengths, histogram, measure, spread_indices, summarize
from composer.model.multimodal import MultimodalModel
from composer.model.processor import Processor
from composer_plugins.readers.llava import LlavaReader
from tests.composer.data.recipes import talk, write_data, write_lines, write_recipe
from tests.composer.stand_ins import FirstTokens, LinearProjector, MeanEncoder, SumBackbone

ROOT = Path(__file__).parents[4]


@pytest.fixture
def processor() -> Processor:
    model = MultimodalModel(
        MeanEncoder(), [FirstTokens(2)], LinearProjector(in_dim=3, out_dim=6), SumBackbone(), "media-first"
    )
    return model.processor


def test_lengths_are_those_of_training(tmp_path: Path, processor: Processor) -> None:
    write_data(tmp_path)
    for reader in (
        LlavaReader(tmp_path / "images.jsonl", tmp_path / "images"),
        LlavaReader(tmp_path / "videos.jsonl"),
        LlavaReader(tmp_path / "frames.jsonl", tmp_path / "frames", fps=2),
    ):
        lengths = Lengths("s", len(reader), len(reader))
        measure(lengths, reader, range(len(reader)), processor, frames=3)
        examples = Conversations([reader], processor, 3)
        ids = [examples.example(n).ids for n in range(len(reader))]
        assert lengths.values["positions"] == [len(one) for one in ids]
        assert lengths.values["visual tokens"] == [int((one == MEDIA_ID).sum()) for one in ids]
        assert lengths.read == len(reader)
    assert lengths.values["frames of a video"] == [6] * 4


def test_what_cannot_be_read_is_counted_apart(tmp_path: Path, processor: Processor) -> None:
    reader = LlavaReader(write_lines(tmp_path / "a.jsonl", [talk("a"), talk("b", image="gone.png")]))
    lengths = Lengths("s", 2, 2)
    measure(lengths, reader, [0, 1], processor, frames=3)
    assert lengths.read == 1
    (reason,) = lengths.unreadable
    assert "gone.png: no such file" in reason


def test_records_are_spread_evenly_by_the_seed() -> None:
    assert spread_indices(5, 10, 0) == [0, 1, 2, 3, 4]
    chosen = spread_indices(1003, 100, 0)
    assert chosen == spread_indices(1003, 100, 0) != spread_indices(1003, 100, 1)
    assert len(set(chosen)) == 100
    assert all(1003 * k // 100 <= n < 1003 * (k + 1) // 100 for k, n in enumerate(chosen))


def test_a_source_counts_by_its_samples_in_a_pass() -> None:
    many = Lengths("many", 1000, 2000, {metric: [10, 20] for metric in METRICS})
    few = Lengths("few", 4, 2, {metric: [100, 100, 100, 100] for metric in METRICS})
    found = summarize([many, few], context=50)["positions"]
    assert found["p50"] == 20
    assert found["p99"] == 20
    assert found["max"] == 100
    assert found["over context"] == pytest.approx(2 / 2002)
    assert found["mean"] == pytest.approx((1000 * 10 + 1000 * 20 + 2 * 100) / 2002)
    edges, shares = histogram([many, few], "positions")
    assert (edges[0], edges[-1]) == (10, 100)
    assert shares.sum() == pytest.approx(1)
    empty = Lengths("none", 1, 1)
    assert summarize([empty], None) == {}
    assert not np.any(histogram([empty], "positions")[1])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "set")
    (tmp_path / "set/images/2.png").unlink()
    write_recipe(tmp_path / "over.yaml", data)
    arguments = ["data", "stats", str(ROOT / "recipes/quickstart.yaml"), "--overlay", str(tmp_path / "over.yaml")]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--limit=5", "--seed=3"]) == 0
    printed = capsys.readouterr()
    assert "At most 5 records of each source, spread evenly, seed 3" in printed.out
    assert "`composer data check` lists all" in printed.err
    assert (tmp_path / "out/quickstart.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "out/stats.json").read_text())
    stage = record["stages"]["quickstart"]
    assert list(stage["sources"]) == ["images", "videos", "frames", "inside", "all"]
    assert stage["sources"]["videos"]["samples"] == 10
    assert stage["sources"]["images"]["unreadable"] >= 1
    assert stage["sources"]["frames"]["frames of a video"]["max"] == 6
    assert stage["frames"] == 8
    assert set(stage["histograms"]) == set(METRICS)
    assert main([*arguments, "--limit=0"]) == 2
    (tmp_path / "set/images").rename(tmp_path / "set/gone")
    assert main([*arguments, "-o", str(tmp_path / "out"), "--source", "images", "--limit=1"]) == 2
    assert "no record could be read" in capsys.readouterr().err
