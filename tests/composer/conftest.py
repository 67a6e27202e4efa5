"""A folder of `sys.path` in which a test installs plugins."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.recipe.components import slot_config
from composer.registry import load_registry
from tests.composer.installing import PARTS, install


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for `install`; what it imports is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    forget()
    yield folder
    forget()
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def parts(site: Path) -> Path:
    """The same folder with the stand-in parts in it."""
    install(site, "stand-in-parts", PARTS)
    return site


def forget() -> None:
    """Make the next look-up discover plugins again."""
    load_registry.cache_clear()
    slot_config.cache_clear()
