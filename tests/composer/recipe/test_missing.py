"""Missing data are found before a run, with what to do about them."""

from pathlib import Path

import pytest

from composer.cli import main
from composer.errors import DataError
from composer.recipe.data import data_config
from composer.recipe.missing import SYNTHETIC, check_present

SOURCES = {
    "here": {"reader": {"name": "llava", "path": "here.jsonl"}, "hub": "a/b"},
    "pattern": {"reader": {"name": "llava", "path": "part-*.jsonl"}},
    "hub": {"reader": {"name": "llava", "path": "hub/*.jsonl"}, "hub": "a/b"},
    "lost": {"reader": {"name": "llava", "path": "lost.jsonl"}},
}


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    for name in ("here", "part-1"):
        Path(f"root/{name}.jsonl").touch()


def test_each_missing_source_and_its_remedy() -> None:
    train = ["here", "pattern", "hub", "lost", "stills.jsonl"]
    data = data_config({"root": "root", "sources": SOURCES, "train": train, "test": "gone.jsonl"})
    with pytest.raises(DataError) as caught:
        check_present(data, ["train", "validation"], Path("recipe.yaml"))
    assert str(caught.value).splitlines() == [
        "data.sources.hub: root/hub/*.jsonl: no such file or folder",
        "data.sources.lost: root/lost.jsonl: no such file or folder",
        "root/stills.jsonl: no such file or folder",
        "Download what is on the Hugging Face hub with `composer data fetch recipe.yaml`",
        "Correct the path, or data.root",
        "Generate the synthetic data with `composer data synthesize root`",
    ]
    check_present(data_config({"root": "root", "sources": SOURCES, "train": ["here", "pattern"]}), ["train"], None)


def test_a_stage_without_data_is_refused_before_the_first_one_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("stages").mkdir()
    for number, train in ((1, "root/here.jsonl"), (2, "null")):
        Path(f"stages/{number}-x.yaml").write_text(f"include: composer:quickstart\ndata: {{train: {train}}}\n")
    assert main(["run", "stages"]) == 2
    assert "2-x: data.train: got no value, expected a .json or .jsonl file" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_names_of_synthetic_data() -> None:
    assert main(["data", "synthesize", "made", "--train=1", "--stills=1", "--heldout=1"]) == 0
    assert {path.name for path in Path("made").glob("*.jsonl")} == set(SYNTHETIC)


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["fit", "--config", "composer:quickstart"], "`composer data synthesize data/shapes`"),
        (["test", "--config", "composer:quickstart"], "`composer data synthesize data/shapes`"),
        (["run", "composer:quickstart"], "`composer data synthesize data/shapes`"),
        (["run", "composer:auroralong"], "`composer data fetch "),
    ],
)
def test_a_run_that_never_started_leaves_nothing_behind(
    command: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    assert remedy in capsys.readouterr().err
    assert not Path("runs").exists()
