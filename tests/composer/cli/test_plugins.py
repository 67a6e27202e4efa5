"""`composer plugins list` and `show`."""

import json
from pathlib import Path

import pytest

from composer.cli import main
from tests.composer.cli.light import run
from tests.composer.installing import PARTS, install, plugin


def test_list_without_torch_and_in_spite_of_a_broken_plugin(parts: Path) -> None:
    install(parts, "broken-one", "import no_such_module")
    ran = run("plugins", "list", site=parts)
    assert (ran.status, ran.torch) == (0, False)
    lines = ran.out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "DISTRIBUTION", "STATUS", "SUMMARY"]
    assert ["reducer", "merge", "stand-in-parts", "1.0", "ok", "Merges", "in", "blocks"] in [x.split() for x in lines]
    assert any(line.split()[:2] == ["backbone", "lonely"] and "pip install 'absent-thing>=2'" in line for line in lines)
    assert lines[-1] == "broken: main of broken-one 1.0: ModuleNotFoundError: No module named 'no_such_module'"


def test_a_plugin_that_imports_torch_is_listed_as_slow_and_one_that_prints_breaks_nothing(parts: Path) -> None:
    pool = 'yield Component("reducer", "{}", "Pools.", ComponentConfig, "x:y")'
    install(parts, "heavy-one", "import torch\n" + plugin(pool.format("heavy")))
    install(parts, "loud-one", "print('hello')\n" + plugin(pool.format("loud")))
    ran = run("plugins", "list", "--json", site=parts)
    listed = json.loads(ran.out)
    assert "hello" in ran.err
    status = {component["name"]: component["status"] for component in listed["components"]}
    assert (status["heavy"], status["loud"], status["merge"]) == ("slow", "ok", "ok")
    (slow,) = listed["slow"]
    assert slow["distribution"] == "heavy-one"
    warning = "importing it imports torch, which slows every command: import it only in target modules"
    assert slow["warning"] == warning
    table = run("plugins", "list", site=parts).out.splitlines()
    assert table[-1] == f"slow: main of heavy-one 1.0: {warning}"


def test_list_of_one_kind_as_json(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "list", "--kind", "reducer", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {c["kind"] for c in listed["components"]} == {"reducer"}
    (merge,) = [c for c in listed["components"] if c["name"] == "merge"]
    assert merge == {
        "kind": "reducer",
        "name": "merge",
        "summary": "Merges in blocks.",
        "distribution": "stand-in-parts",
        "version": "1.0",
        "status": "ok",
        "requires": [],
        "in_blocks": True,
    }
    assert listed["broken"] == []


def test_show_gives_types_defaults_and_descriptions(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "river"]) == 0
    text = capsys.readouterr().out
    assert "backbone river: Recurrent.\n  stand-in-parts 1.0, status: ok\n" in text
    assert "  width: integer, required\n      Channels.\n" in text
    assert "  pretrained: text | null, default null\n" in text
    assert "  extra: mapping of integer, default {}\n" in text
    assert "  widths: list of integer, default []\n" in text
    assert main(["plugins", "show", "merge", "--json"]) == 0
    (merge,) = json.loads(capsys.readouterr().out)
    assert merge["options"][1] == {
        "name": "order",
        "type": "ascending | descending",
        "required": False,
        "default": "ascending",
        "description": "Order of tokens.",
    }


def test_show_every_provider_of_a_name(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(parts, "more-parts", PARTS)
    assert main(["plugins", "show", "merge"]) == 0
    assert capsys.readouterr().out.count("reducer merge: ") == 2
    for name in ("more-parts/merge", "More_Parts/merge"):
        assert main(["plugins", "show", name]) == 0
        assert capsys.readouterr().out.count("reducer merge: ") == 1


def test_show_an_unknown_name(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "rivr"]) == 2
    assert capsys.readouterr().err.startswith("composer: unknown component 'rivr'; did you mean 'river'? Installed: ")


def test_every_first_party_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "list", "--json"]) == 0
    for component in json.loads(capsys.readouterr().out)["components"]:
        assert component["status"] == "ok"
        assert main(["plugins", "show", f"{component['distribution']}/{component['name']}", "--json"]) == 0
        for shown in json.loads(capsys.readouterr().out):
            assert all(option["description"] for option in shown["options"]), component["name"]
