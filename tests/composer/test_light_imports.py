"""What must answer at once imports nothing heavy: checked in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import composer.recipe
from composer.cli import COMMANDS
from composer.cli.data import ACTIONS

HEAVY = ("torch", "lightning", "transformers", "timm", "open_clip", "fla", "av", "numpy", "jsonargparse", "matplotlib")
LIGHT = [
    "composer",
    *("composer.atomic", "composer.benchmark", "composer.discovery", "composer.errors", "composer.plugin"),
    *("composer.prompt", "composer.reader", "composer.registry", "composer.sample", "composer.shards"),
    *("composer.tokenizer", "composer.transform", "composer.inference.lmms_eval"),
    *(f"composer.recipe.{path.stem}" for path in Path(composer.recipe.__path__[0]).glob("[a-z]*.py")),
    *(f"composer.cli.{command.replace('-', '_')}" for command in (*COMMANDS, "fit.command")),
    *(f"composer.cli.data.{action}" for action in ACTIONS),
]
REPORT = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules} & set(sys.argv[1:])))"


def loaded(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has loaded after this code."""
    command = [sys.executable, "-c", f"{code}\n{REPORT}", *HEAVY]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()


def test_light_modules() -> None:
    assert loaded("\n".join(f"import {module}" for module in LIGHT)) == []


def test_plugins() -> None:
    code = (
        "from composer.registry import load_registry\nassert not load_registry().broken and load_registry().providers"
    )
    assert loaded(code) == []


@pytest.mark.parametrize("module", HEAVY)
def test_the_check_can_fail(module: str) -> None:
    assert module in loaded(f"import sys, types\nsys.modules[{module + '.x'!r}] = types.ModuleType('x')")
