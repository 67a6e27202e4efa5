"""Recipes that come with composer."""

from pathlib import Path

import pytest

from composer.errors import ConfigError
from composer.recipe.shipped import locate, shipped_recipes


def test_names_of_files_folders_and_files_in_them() -> None:
    recipes = shipped_recipes()
    assert recipes["quickstart"].name == "quickstart.yaml"
    assert locate("composer:auroralong") == recipes["auroralong"]
    stage = next(recipes["auroralong"].glob("1-*.yaml"))
    for name in (stage.name, stage.stem):
        assert locate(f"composer:auroralong/{name}", Path("elsewhere")) == stage
    assert locate("a.yaml", Path("folder")) == Path("folder/a.yaml")
    assert locate("/a.yaml", Path("folder")) == Path("/a.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quickstrat", "unknown recipe; did you mean composer:quickstart? Recipes: "),
        ("zzz", "unknown recipe. Recipes: "),
        ("auroralong/9-none", "unknown recipe. Recipes: "),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        locate(f"composer:{name}")
    assert str(caught.value).startswith(f"composer:{name}: {message}")
