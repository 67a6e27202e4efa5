"""The tutorial's plugin: a separate distribution, found like anyone else's and built by name."""

from pathlib import Path

from composer.recipe.components import slot_config
from composer.registry import load_registry
from composer.testing import check_encoder

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example"


def test_it_is_found_by_its_entry_point() -> None:
    provider = load_registry().find("encoder", "conv")
    assert provider.plugin.distribution == "composer-example-encoder"
    assert provider.status == "ok"
    assert "patch_size" in slot_config("encoder", "conv").model_json_schema()["properties"]


def test_it_is_built_by_name_and_keeps_the_contract() -> None:
    options = slot_config("encoder", "conv").model_validate({"name": "conv", "width": 16})
    check_encoder(load_registry().build("encoder", options))


def test_it_is_small() -> None:
    """The promise to plugin authors: under 120 lines in at most four files."""
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml") and ".egg-info" not in str(path)]
    assert len(files) <= 4
    assert sum(len(path.read_text().splitlines()) for path in files) < 120
