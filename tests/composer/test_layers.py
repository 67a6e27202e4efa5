"""Imports go one way, without circles; `composer` knows no plugin; plugins know the public API only."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS: tuple[str, ...] = (
    # No torch.
    "errors sample",
    "atomic benchmark plugin prompt reader records shards transform",
    "discovery tokenizer",
    "registry",
    "recipe",
    # Torch.
    "merging parameters state",
    "packing",
    "batch parts",
    "blocks",
    "model",
    "data",
    "inference",
    "evaluation",
    "figures",
    "runs",
    "testing training",
    "planning",
    "cli",
    "__main__",
)
"""Lowest first. A name stands for a module or a whole package; names of one layer do not import each other."""

PUBLIC = {
    *(f"composer.{path.stem}" for path in (ROOT / "composer").glob("*.py") if not path.stem.startswith("_")),
    "composer.testing",
}
"""What a plugin may import: every module directly under `composer/`."""


def sources(folder: Path) -> dict[str, str]:
    """Modules below a folder of packages, by name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[0].startswith("."):  # environments
            continue
        found[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return found


def imports(source: str, modules: Iterable[str] = ()) -> Iterator[str]:
    """The modules that a source imports, wherever it does."""
    known = set(modules)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (names & known) or {node.module}


def layer(module: str) -> tuple[int, str]:
    """The layer of a module of composer, and the name that stands for it there."""
    if module == "composer":
        return 0, module
    name = module.split(".")[1]
    for height, names in enumerate(LAYERS):
        if name in names.split():
            return height, name
    raise LookupError(f"{module} is in no layer: add it to LAYERS")


def upward(modules: Mapping[str, str]) -> list[str]:
    """Imports inside composer that do not go down."""
    wrong = []
    for module, source in modules.items():
        height, name = layer(module)
        for target in set(imports(source, modules)):
            if target.split(".")[0] == "composer" and layer(target)[1] != name and layer(target)[0] >= height:
                wrong.append(f"{module} imports {target}")
    return wrong


def circles(modules: Mapping[str, str]) -> list[str]:
    """Modules that import themselves by way of others."""
    graph = {module: set(imports(source, modules)) & set(modules) for module, source in modules.items()}
    found = []
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph[module]
        if start in seen:
            found.append(start)
    return found


def private_imports(modules: Mapping[str, str]) -> list[str]:
    """Imports of plugins that are neither public nor their own."""
    wrong = []
    for module, source in modules.items():
        package = ".".join(module.split(".")[:2])
        for target in set(imports(source, modules)):
            root = target.split(".")[0]
            own = target == package or target.startswith(f"{package}.")
            if (root == "composer" and target not in PUBLIC) or (root == "composer_plugins" and not own):
                wrong.append(f"{module} imports {target}")
    return wrong


# `composer` itself gives the names of higher layers when they are used, which test_light_imports covers.
COMPOSER = {name: text for name, text in sources(ROOT).items() if name.startswith("composer.")}
PLUGINS = {n: t for n, t in sources(ROOT / "plugins").items() if n.split(".")[0] == "composer_plugins"}


def test_imports_go_down() -> None:
    assert len(COMPOSER) > 30
    assert upward(COMPOSER) == []


def test_the_page_on_the_architecture_lists_the_layers_and_what_is_public() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    block = page.partition("## Layers")[2].split("```")[1]
    assert tuple(block.strip().splitlines()) == LAYERS
    assert set(re.findall(r"^\| `(composer\.\w+)` \|", page, re.MULTILINE)) == PUBLIC


def test_there_are_no_circles() -> None:
    assert circles(COMPOSER) == []
    assert circles(PLUGINS) == []


def test_composer_knows_no_plugin() -> None:
    assert [name for name, text in COMPOSER.items() if "composer_plugins" in text] == []


def test_plugins_import_the_public_interface_and_not_each_other() -> None:
    assert len(PLUGINS) > 7
    assert private_imports(PLUGINS) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("composer.errors", "import composer.recipe.model"),
        ("composer.model.multimodal", "from composer.training.module import ComposerModule"),
        ("composer.inference.answering", "from composer.evaluation import accuracy"),
        ("composer.registry", "def f():\n    from composer.recipe import resolve"),
        ("composer.recipe.training", "import composer.cli"),
    ],
)
def test_a_planted_import_upward_is_found(module: str, line: str) -> None:
    target = line.split()[-1] if line.startswith("import") else ""
    (wrong,) = upward(COMPOSER | {module: f"{COMPOSER[module]}\n{line}\n"})
    assert wrong.startswith(f"{module} imports composer.")
    assert target in wrong


def test_a_module_of_no_layer_is_found() -> None:
    with pytest.raises(LookupError, match=r"composer\.utils is in no layer"):
        upward(COMPOSER | {"composer.utils": ""})


def test_a_planted_circle_is_found() -> None:
    line = "def f():\n    from composer.data.datamodule import MultimodalDataModule\n"
    found = circles(COMPOSER | {"composer.data.open_sources": f"{COMPOSER['composer.data.open_sources']}\n{line}"})
    assert {"composer.data.open_sources", "composer.data.datamodule"} <= set(found)


@pytest.mark.parametrize(
    "line",
    [
        "import composer.recipe.model",
        "from composer.model import compose",
        "from composer_plugins.pooling import reducer",
    ],
)
def test_a_planted_private_import_of_a_plugin_is_found(line: str) -> None:
    name = "composer_plugins.tome.reducer"
    (wrong,) = private_imports(
        PLUGINS | COMPOSER.fromkeys(["composer.model.compose"], "") | {name: f"{PLUGINS[name]}\n{line}\n"}
    )
    assert wrong.startswith(f"{name} imports composer")
