"""`composer recipes`, and `composer:NAME` wherever a recipe is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from composer.cli import main
from composer.errors import ConfigError
from composer.recipe.shipped import locate, shipped_recipes
from composer.recipe.yamlfile import load_recipes
from tests.composer.cli.light import run

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_they_are_listed_without_torch() -> None:
    ran = run("recipes", "list")
    assert (ran.status, ran.torch) == (0, False)
    assert [line.split()[0] for line in ran.out.splitlines()] == [
        "composer:auroralong",
        "composer:quickstart",
        "composer:quickstart-transformer",
    ]


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_copy_is_the_same_recipe_and_is_not_overwritten(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", name]) == 0
    copy = capsys.readouterr().out.splitlines()[0]
    assert main(["config", "diff", f"composer:{name}", copy]) == 0
    assert capsys.readouterr().out == ""
    assert main(["recipes", "copy", name]) == 2
    assert f"{copy}" in (said := capsys.readouterr().err)
    assert "already there; remove it, or name another DIR" in said
    assert main(["recipes", "copy", name, "elsewhere"]) == 0


def test_names() -> None:
    assert locate("composer:quickstart") == ROOT / "recipes/quickstart.yaml"
    assert locate("composer:auroralong/tiny") == ROOT / "recipes/auroralong/tiny.yaml"
    assert locate("a/b.yaml", Path("c")) == Path("c/a/b.yaml")
    with pytest.raises(ConfigError, match=r"^composer:quickstrat: unknown recipe; did you mean composer:quickstart\?"):
        locate("composer:quickstrat")
    with pytest.raises(ConfigError, match=r"^composer:auroralong/tinny: unknown recipe\. Recipes: auroralong, "):
        locate("composer:auroralong/tinny")
    Path("a.yaml").write_text("include: composer:quickstart\n")
    assert [file.origin.source for file in load_recipes([Path("a.yaml")])] == [
        str(locate("composer:quickstart")),
        "a.yaml",
    ]


def test_what_is_installed_brings_them(tmp_path: Path) -> None:
    """A wheel holds what setuptools builds with `build_py`."""
    source, built = tmp_path / "source", tmp_path / "lib/composer/recipes"
    for name in ("composer", "plugins", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    assert {path.relative_to(built) for path in built.rglob("*.yaml")} == {
        path.relative_to(ROOT / "recipes") for path in (ROOT / "recipes").rglob("*.yaml")
    }
    ask = [sys.executable, "-c", "from composer.recipe.shipped import locate; print(locate('composer:quickstart'))"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}
    printed = subprocess.run(ask, env=environment, check=True, capture_output=True, text=True).stdout
    assert printed.strip() == str(built / "quickstart.yaml")
