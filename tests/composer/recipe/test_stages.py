"""A folder's stages, in order."""

from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.recipe.stages import Stage, stages_of


def test_files_are_ordered_by_number_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("10-last.yaml", "2-tune.yaml", "1-pre-train.yaml", "evaluation.yaml", "common.yaml", "3-notes.txt"):
        (tmp_path / name).touch()
    assert [stage.name for stage in stages_of(tmp_path)] == ["1-pre-train", "2-tune", "10-last"]
    assert stages_of(tmp_path)[0].path == tmp_path / "1-pre-train.yaml"


def test_a_file_is_a_recipe_of_one_stage(tmp_path: Path) -> None:
    path = tmp_path / "quickstart.yaml"
    path.touch()
    assert stages_of(path) == [Stage("quickstart", path)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], r"expected stages named <number>-<name>\.yaml.*got nothing"),
        (["pretrain.yaml", "notes.txt"], r"got notes\.txt, pretrain\.yaml"),
        (["1-a.yaml", "01-b.yaml"], "two stages have the number 1"),
    ],
)
def test_a_folder_without_an_order_is_refused(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=said):
        stages_of(tmp_path)


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        stages_of(tmp_path / "missing")
