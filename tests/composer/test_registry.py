"""Discovery that one broken plugin cannot disturb, look-up by name, building."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from composer.cli import evaluate
from composer.errors import ConfigError, PluginError
from composer.plugin import KINDS, RESERVED
from composer.recipe.components import slot_config
from composer.registry import Registry, load_registry
from tests.composer.installing import install, plugin

POOL = 'yield Component("reducer", "{name}", "Pools.", ComponentConfig, "{target}")'


def pool(name: str = "puddle", target: str = "x:y") -> str:
    return plugin(POOL.format(name=name, target=target))


def problem(registry: Registry, distribution: str) -> str:
    (broken,) = [p for p in registry.broken if p.distribution == distribution]
    assert broken.problem is not None
    return broken.problem


def test_first_party_plugins_are_found_through_entry_points() -> None:
    registry = load_registry()
    assert not registry.broken
    assert all(registry.names(kind) for kind in KINDS)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "no function composer_components, marked @hookimpl"),
        (pool().replace("composer_components", "composer_component"), "unknown hook 'composer_component'"),
        (pool().replace("composer_components()", "composer_components(config)"), "config"),
        (plugin("return ['tome']"), "returned 'tome', expected composer.plugin.Component"),
        (plugin("return None"), "that returns components"),
        (plugin("yield 1 / 0"), "ZeroDivisionError"),
        (pool("Puddle"), "lower-case"),
        (pool(target="x.y"), "got the target 'x.y', expected 'package.module:callable'"),
        (pool().replace('"reducer"', '"shrinker"'), "expected one of encoder, reducer, projector, backbone"),
        (pool().replace('ComponentConfig, "', 'dict, "'), "subclass of composer.plugin.ComponentConfig"),
        (plugin("\n    ".join([POOL.format(name="puddle", target="x:y")] * 2)), "'puddle' twice"),
        (plugin(POOL.format(name="p", target="x:y").replace('"x:y"', '"x:y", ("a b c",)')), "InvalidRequirement"),
        (
            plugin(
                POOL.format(name="p", target="x:y").replace("ComponentConfig", "C"),
                "class C(ComponentConfig):\n    name: str = ''\n",
            ),
            "an option cannot be named 'name'",
        ),
        *(
            (
                plugin(
                    POOL.format(name="p", target="x:y").replace("ComponentConfig", "C").replace("reducer", kind),
                    f"class C(ComponentConfig):\n    {option}: int = 1\n",
                ),
                f"options of kind {kind} cannot be named '{option}'",
            )
            for kind, option in (
                ("reducer", "dim"),
                ("projector", "out_dim"),
                ("backbone", "tokenizer"),
                ("benchmark", "limit"),
                ("encoder", "without_pretrained"),
            )
        ),
    ],
)
def test_a_broken_plugin_is_recorded_and_hides_nothing(site: Path, source: str, said: str) -> None:
    install(site, "a-good-one", pool("first"))
    install(site, "broken-one", source)
    install(site, "good-too", pool("second"))
    registry = load_registry()
    assert said in problem(registry, "broken-one")
    assert len(registry.broken) == 1
    assert {"first", "second", "tome"} <= set(registry.names("reducer"))


def test_the_same_entry_point_name_in_two_distributions_hides_neither(site: Path) -> None:
    install(site, "one", pool("first"), entry_point="same")
    install(site, "two", pool("second"), entry_point="same")
    assert {"first", "second"} <= set(load_registry().names("reducer"))


def test_two_providers_of_one_name_are_an_error_only_when_that_name_is_used(site: Path) -> None:
    install(site, "one", pool("puddle"))
    install(site, "two", pool("puddle"), version="2.1")
    registry = load_registry()
    with pytest.raises(PluginError, match=r"provided by one 1\.0 and by two 2\.1: use one/puddle or two/"):
        registry.find("reducer", "puddle")
    assert registry.find("reducer", "two/puddle").plugin.version == "2.1"
    assert {"one/puddle", "two/puddle", "tome"} <= set(registry.selectable("reducer"))


def test_all_names_of_a_component_are_one(site: Path) -> None:
    install(site, "One", pool("puddle"))
    registry = load_registry()
    assert {registry.canonical_name("reducer", name) for name in ("puddle", "One/puddle", "one/puddle")} == {"puddle"}
    assert registry.qualified_name("reducer", "puddle") == "One/puddle"
    config = slot_config("reducer", "one/puddle")
    assert config is slot_config("reducer", "puddle")
    assert config.model_validate({"name": "One/puddle"}).name == "puddle"
    assert registry.canonical_name("reducer", "no-such") == "no-such"


def test_of_a_shared_name_only_the_qualified_ones_are_names(site: Path) -> None:
    install(site, "one", pool("puddle"))
    install(site, "two", pool("puddle"))
    registry = load_registry()
    assert registry.canonical_name("reducer", "two/puddle") == "two/puddle"
    assert slot_config("reducer", "two/puddle")().name == "two/puddle"
    assert registry.canonical_name("reducer", "puddle") == "puddle", "find says that it is ambiguous"


def test_an_unknown_qualified_name_says_what_to_install() -> None:
    with pytest.raises(PluginError, match="The distribution more-parts is not installed: pip install more-parts"):
        load_registry().find("reducer", "more-parts/merge")


def test_no_option_of_a_benchmark_is_a_flag_of_evaluate() -> None:
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    flags = {action.dest for action in parser._actions if action.option_strings}
    assert flags <= RESERVED["benchmark"]


def test_what_a_plugin_prints_at_import_goes_to_stderr(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    install(site, "one", "import os, sys\nprint('python')\nos.write(1, b'system')\n" + pool("puddle"))
    assert "puddle" in load_registry().names("reducer")
    out, err = capfd.readouterr()
    assert out == ""
    assert "python" in err
    assert "system" in err


def test_an_unknown_name_gets_the_nearest_the_installed_and_the_broken(site: Path) -> None:
    install(site, "broken-one", "import no_such_module")
    with pytest.raises(PluginError) as raised:
        load_registry().find("reducer", "tomme")
    message = str(raised.value)
    assert message.startswith("unknown reducer 'tomme': did you mean 'tome'? Installed: ")
    assert "pooling" in message
    assert "main of broken-one 1.0 (ModuleNotFoundError" in message


def test_a_name_belongs_to_one_kind() -> None:
    with pytest.raises(PluginError, match="unknown encoder 'tome'"):
        load_registry().find("encoder", "tome")


PUDDLE = """
from composer.parts import Reducer

class Puddle(Reducer):
    def __init__(self, **options):
        super().__init__(dim=options["dim"], depth=options["depth"])
        self.options = options

    def forward(self, tokens):
        return tokens

    def shape(self, tokens):
        return tokens

class Narrow(Puddle):
    def __init__(self, *, dim, window):
        super().__init__(dim=dim, depth=1)

class Unfinished(Reducer):
    def forward(self, tokens):
        return tokens

class Stranger:
    def __init__(self, dim, depth, ratio):
        pass

class Faulty(Puddle):
    def __init__(self, **options):
        len(3)

class Strict(Puddle):
    def __init__(self, **options):
        from composer.errors import ConfigError
        raise ConfigError("ratio: too small")

number = 3
"""


def build_puddle(site: Path, target: str, option: str = "ratio") -> Any:
    """A reducer of the module PUDDLE, with an option."""
    source = pool(target=f"heavy:{target}").replace('ComponentConfig, "', 'C, "')
    install(site, "one", f"{source}\nclass C(ComponentConfig):\n    {option}: float = 0.5\n")
    (site / "heavy.py").write_text(PUDDLE)
    config = slot_config("reducer", "puddle").model_validate({"name": "puddle", option: 0.25})
    return load_registry().build("reducer", config, dim=8, depth=2)


def test_build_calls_the_target_with_options_and_neighbors(site: Path) -> None:
    assert build_puddle(site, "Puddle").options == {"ratio": 0.25, "dim": 8, "depth": 2}


@pytest.mark.parametrize(
    ("target", "option", "said"),
    [
        ("Narrow", "ratio", "cannot be called with ratio, dim, depth: missing a required argument: 'window'"),
        ("Narrow", "window", "cannot be called with window, dim, depth: got an unexpected keyword argument 'depth'"),
        ("number", "ratio", "cannot be called with .*: 3 is not a callable object"),
        ("Unfinished", "ratio", "does not implement shape: add the missing methods"),
        (
            "Stranger",
            "ratio",
            r"returned an object of class Stranger, expected .* composer\.parts\.Reducer or composer\.p",
        ),
    ],
)
def test_a_target_that_is_no_part_of_its_kind(site: Path, target: str, option: str, said: str) -> None:
    with pytest.raises(PluginError, match=rf"^reducer 'puddle' \(one 1\.0\): its target heavy:{target} {said}"):
        build_puddle(site, target, option)


def test_an_error_inside_a_constructor_names_component_options_and_line_and_keeps_its_cause(site: Path) -> None:
    said = (
        r"^reducer 'puddle' \(one 1\.0\): its target heavy:Faulty failed with ratio=0\.25, dim=8, depth=2: "
        r"TypeError: .*has no len\(\) \(.*heavy\.py:29\)"
    )
    with pytest.raises(PluginError, match=said) as raised:
        build_puddle(site, "Faulty")
    assert isinstance(raised.value.__cause__, TypeError)


def test_a_composer_error_inside_a_constructor_stays_what_it_is(site: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ratio: too small$"):
        build_puddle(site, "Strict")


def test_a_missing_requirement_is_the_line_that_mends_it(parts: Path) -> None:
    provider = load_registry().find("backbone", "lonely")
    assert provider.missing() == ["absent-thing>=2", "pluggy>=99"]
    assert provider.status == "pip install 'absent-thing>=2' 'pluggy>=99'"
    with pytest.raises(PluginError, match="needs absent-thing>=2, pluggy>=99: pip install 'absent-thing>=2' 'pluggy>="):
        load_registry().build("backbone", slot_config("backbone", "lonely")(name="lonely"))


@pytest.mark.parametrize(
    ("target", "module", "said"),
    [
        ("no_such.module:X", "", "cannot be imported: No module named 'no_such'"),
        ("heavy:Missing", "", "cannot be imported: module 'heavy' has no attribute 'Missing'"),
        (
            "heavy:X",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            r"torch 2\.\S+ and torchvision 0\.\S+ .*different builds.*pip install --force-reinstall torch torchvision",
        ),
    ],
)
def test_a_target_that_cannot_be_imported(site: Path, target: str, module: str, said: str) -> None:
    install(site, "one", pool(target=target))
    (site / "heavy.py").write_text(module)
    with pytest.raises(PluginError, match=said):
        load_registry().build("reducer", slot_config("reducer", "puddle")(name="puddle"))


def test_another_error_of_a_target_keeps_its_traceback(site: Path) -> None:
    install(site, "one", pool(target="heavy:X"))
    (site / "heavy.py").write_text("raise RuntimeError('a defect')")
    with pytest.raises(RuntimeError, match="a defect"):
        load_registry().build("reducer", slot_config("reducer", "puddle")(name="puddle"))
