"""Puts the recipes into the package, so that a wheel brings them; pyproject.toml has all else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = Path(__file__).parent / "recipes"


class BuildWithRecipes(build_py):
    """Copies `recipes/` to `composer/recipes/` of what is built. An editable installation reads them in place."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "composer", "recipes")
            shutil.copytree(RECIPES, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
