"""Sizes of sources and ids of their samples, checked as they are opened."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from composer.data.open_sources import check_total, open_sources, unique_samples
from composer.errors import DataError
from composer.recipe.data import SourceConfig, data_config


def sources(folder: Path, sizes: Sequence[int], stated: int | None = None, first_id: int = 0) -> list[SourceConfig]:
    """A file for each size, whose records are numbered in all files together."""
    names = [f"s{number}" for number in range(len(sizes))]
    number = first_id
    for name, size in zip(names, sizes, strict=True):
        turns = [{"from": "human", "value": "So?"}, {"from": "gpt", "value": "7"}]
        records = [{"id": str(number + place), "conversations": turns} for place in range(size)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        number += size
    options = {"samples": stated} if stated else {}
    readers = {name: {"reader": {"name": "llava", "path": str(folder / f"{name}.jsonl")}, **options} for name in names}
    return data_config({"sources": readers, "train": names}).sources_of("train")


def test_a_stated_size_is_exact_rounded_or_wrong(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (reader,) = open_sources(sources(tmp_path, [200], 200))
    assert len(reader) == 200
    with pytest.warns(UserWarning, match="source 's0': got 199 samples, expected 200"):
        open_sources(sources(tmp_path, [199], 200))
    with pytest.raises(DataError, match=r"source 's0': got 197 samples, expected 200 to within 1% in .*s0\.jsonl"):
        open_sources(sources(tmp_path, [197], 200))


def test_the_total_of_a_pass() -> None:
    check_total([60, 40], ["a", "b"], None)
    check_total([60, 40], ["a", "b"], 101)
    with pytest.raises(DataError, match=r"got 100 samples per pass, expected 110 .*: a 60, b 40\. Correct a `repeat`"):
        check_total([60, 40], ["a", "b"], 110)


def test_samples_in_order_and_ids_once_over_all_sources(tmp_path: Path) -> None:
    readers = open_sources(sources(tmp_path, [2, 1]))
    assert [sample.id for sample in unique_samples(readers)] == ["0", "1", "2"]
    with pytest.raises(DataError, match=r"s0\.jsonl:1: id '0' is already that of .*s0\.jsonl:1; give each record"):
        list(unique_samples([*readers, readers[0]]))
