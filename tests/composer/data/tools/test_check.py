"""Everything that can be wrong with data is found, by file and line, and one thing does not hide another."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from composer.cli import main
from composer.data.tools import check as checking
from composer.data.tools.check import OpenSource, Problem, check_records
from composer.errors import DataError
from composer.reader import Reader
from composer.sample import Media, Message, Sample
from tests.composer.cli.light import run
from tests.composer.data.recipes import talk, write_data, write_lines, write_recipe

Spoil = Callable[[Path], None]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", write_data(tmp_path / "set"))


def problems(recipe: Path, *flags: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status, and what the report holds."""
    report = recipe.parent / "report.jsonl"
    status = main(["data", "check", str(recipe), "--report", str(report), *flags])
    return status, [json.loads(line) for line in report.read_text().splitlines()]


@pytest.mark.parametrize("flags", [["--num-workers=2"], ["--num-workers=0", "--decode"]], ids=["look", "decode"])
def test_good_data_are_good(recipe: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert problems(recipe, *flags) == (0, [])
    assert "No problems found." in capsys.readouterr().out


def test_all_problems_are_said_by_file_and_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    (root / "images/2.png").unlink()
    (root / "images/3.png").write_bytes(b"")
    for picture in (root / "frames/1").iterdir():
        picture.unlink()
    lines = (root / "videos.jsonl").read_text().splitlines()
    lines[1] = lines[1][:30]
    lines[3:] = [
        json.dumps(talk("x", "<video>\n<video>\nSo?", video="a.mp4")),
        json.dumps(talk("y", "", "")),
        json.dumps(talk("z", "So?", "")),
        json.dumps(talk("folder", video="images")),
    ]
    (root / "videos.jsonl").write_text("\n".join(["", *lines]) + "\n")
    status, found = problems(recipe, "--num-workers=2", "--show=2")
    assert status == 1
    said = [(one["source"], one["place"].removeprefix(f"{root}/"), one["reason"]) for one in found]
    expected = [
        ("images", "images.jsonl:3", "2.png: no such file"),
        ("images", "images.jsonl:4", "3.png: the file is empty"),
        ("images", "images.jsonl:7", "2.png"),
        ("images", "images.jsonl:8", "3.png"),
        ("videos", "videos.jsonl:3", "not JSON"),
        ("videos", "videos.jsonl:5", "more placeholders than media"),
        ("videos", "videos.jsonl:6", "neither text nor media"),
        ("videos", "videos.jsonl:7", "no answer to train on"),
        ("videos", "videos.jsonl:8", "images: got a folder"),
        ("frames", "frames.jsonl:2", "no images in this folder"),
    ]
    assert len(said) == len(expected)
    for one, (source, place, words) in zip(said, expected, strict=True):
        assert one[:2] == (source, place)
        assert words in one[2]
    out = capsys.readouterr().out
    assert "10 problems in 23 records" in out
    assert out.count("images.jsonl:") == 2
    assert "images: more problems are not shown; --report FILE writes all" in out


def test_decoding_finds_what_looking_does_not(recipe: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images/1.png").write_bytes((root / "images/1.png").read_bytes()[:60])
    (root / "b.mkv").write_text("no video")
    (root / "frames/2/000.jpg").write_text("no picture")
    assert problems(recipe)[0] == 0
    status, found = problems(recipe, "--decode")
    assert status == 1
    assert sorted({(one["source"], one["record"]) for one in found}) == [
        ("frames", 2),
        ("images", 1),
        ("images", 5),
        ("videos", 1),
        ("videos", 3),
    ]


def test_sources_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "set")
    data["sources"]["images"]["samples"] = 12
    data["sources"]["videos"]["reader"]["path"] = "gone.jsonl"
    status, found = problems(write_recipe(tmp_path / "recipe.yaml", data))
    assert status == 1
    assert [(one["source"], one["record"], one["place"]) for one in found] == [
        ("images", None, "data.sources.images"),
        ("videos", None, "data.sources.videos"),
    ]
    assert "got 10 samples, expected 12" in found[0]["reason"]
    assert "gone.jsonl" in found[1]["reason"]
    assert "unreadable" in capsys.readouterr().out


def test_stages_and_sources_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "set")
    (tmp_path / "set/a.mp4").unlink()
    for number, train in ((1, ["images", "frames"]), (2, ["images", "videos"])):
        write_recipe(tmp_path / f"stages/{number}-s.yaml", data | {"train": train})
    stages = str(tmp_path / "stages")
    assert main(["data", "check", stages]) == 1
    assert capsys.readouterr().out.count("images  ") == 1
    assert main(["data", "check", stages, "--stage", "1-s"]) == 0
    assert main(["data", "check", stages, "--source", "images", "frames"]) == 0
    write_recipe(tmp_path / "over.yaml", {"sources": {"videos": {"reader": {"path": "images.jsonl"}}}})
    assert main(["data", "check", stages, "--stage", "2-s", "--overlay", str(tmp_path / "over.yaml")]) == 1
    assert main(["data", "check", stages, "--source", "image"]) == 2
    assert "--source: got 'image', expected one of images, frames, videos; did you mean" in capsys.readouterr().err
    assert main(["data", "check", stages, "--num-workers=-1"]) == 2
    write_recipe(tmp_path / "none.yaml", {"frames": 3})
    assert main(["data", "check", str(tmp_path / "none.yaml")]) == 2
    assert "no stage names a source" in capsys.readouterr().err


def test_one_name_that_stages_read_in_several_ways_is_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (size, bad) in enumerate(((10, 3), (4, 1), (None, 1)), start=1):
        path = tmp_path / f"{number}.jsonl"
        if size is not None:
            write_lines(path, [talk(str(n), answer="" if n < bad else "A number.") for n in range(size)])
        sources = {"x": {"reader": {"name": "llava", "path": str(path)}}}
        write_recipe(tmp_path / f"stages/{number}-s.yaml", {"sources": sources, "train": ["x"]})
    assert main(["data", "check", str(tmp_path / "stages"), "--num-workers=0", "--show=2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-4:-1]] == [["x", "10", "3"], ["x", "4", "1"], ["x", "unreadable", "1"]]
    assert lines[-1] == "5 problems in 14 records"
    assert sum("more problems are not shown" in line for line in lines) == 1


def test_answers_are_needed_where_they_are_learned(tmp_path: Path) -> None:
    question = {"id": "q", "conversations": [{"from": "human", "value": "So?"}]}
    write_lines(tmp_path / "q.jsonl", [question])
    assert main(["data", "check", str(write_recipe(tmp_path / "r.yaml", {"predict": str(tmp_path / "q.jsonl")}))]) == 0
    assert main(["data", "check", str(write_recipe(tmp_path / "r.yaml", {"train": str(tmp_path / "q.jsonl")}))]) == 1


def test_checking_and_packing_load_no_torch(recipe: Path, tmp_path: Path) -> None:
    for words in (["check", "--decode", "--num-workers=1"], ["pack", "-o", str(tmp_path / "packed")], ["fetch"]):
        ran = run("data", words[0], str(recipe), *words[1:])
        assert not ran.torch, words
        assert ran.status == (words == ["fetch"]), ran.err


class Numbers(Reader):
    """Samples about one file in an archive, each at another place."""

    def __init__(self, path: Path, spans: list[tuple[int, int]]) -> None:
        self.path, self.spans = path, spans

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if index == 3:
            os._exit(9)
        media = Media("image", str(self.path), span=self.spans[index])
        return Sample(str(index), "here", (Message("user", (media, "So?")), Message("assistant", ("So.",))))

    def location(self, index: int) -> str:
        return f"record {index}"


def test_files_in_archives_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "RANGE", 2)
    (tmp_path / "a.tar").write_bytes(bytes(100))
    reader = Numbers(tmp_path / "a.tar", [(0, 50), (60, 41), (70, 0)])
    items = list(check_records([OpenSource("n", reader, True)], decode=False, num_workers=1))
    assert [(found.source, found.records) for found in items] == [(0, 2), (0, 1)]
    first, second = (problem for found in items for problem in found.problems)
    assert (first.record, second.record) == (1, 2)
    assert "got an archive of 100 bytes" in str(first)
    assert str(second) == f"record 2: {tmp_path / 'a.tar'}: the file is empty"
    assert second == Problem("n", 2, "record 2", f"{tmp_path / 'a.tar'}: the file is empty")


def test_a_killed_process_is_an_error_that_says_where(tmp_path: Path) -> None:
    reader = Numbers(tmp_path, [(0, 0)] * 4)
    with pytest.raises(DataError, match="a worker process was killed while it checked records near record 0"):
        list(check_records([OpenSource("n", reader, True)], decode=False, num_workers=1))
