"""`composer convert`: every layout, there and back; what cannot be converted."""

import json
from pathlib import Path

import pytest
import torch

from composer.cli import main
from composer_plugins.rwkv.weights import read_weights
from tests.composer.installing import install, plugin
from tests.plugins.rwkv.author import random_model


@pytest.mark.parametrize(
    ("version", "layout", "target"),
    [
        ("6", "official", "out.pth"),
        ("6", "safetensors", "out.safetensors"),
        ("6", "fla", "out"),
        ("6", "hf", "out"),
        ("7", "official", "out.pth"),
        ("7", "safetensors", "out.safetensors"),
        ("7", "fla", "out"),
    ],
)
def test_every_layout_reads_back_bit_equal(
    version: str, layout: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        name: value.bfloat16()
        for name, value in random_model(version, width=64, depth=2, head_size=32).model.state_dict().items()
    }
    source = tmp_path / "source.pth"
    torch.save(weights, source)
    name = f"rwkv{version}" if layout == "official" else f"multimodal-composer/rwkv{version}"
    assert main(["convert", name, str(source), str(tmp_path / target), "--to", layout]) == 0
    assert capsys.readouterr().out == f"{tmp_path / target}\n"
    back = read_weights(str(tmp_path / target), None, version)
    assert set(back) == set(weights)
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in weights.items())
    if (tmp_path / target).is_dir():
        config = json.loads((tmp_path / target / "config.json").read_text())
        assert (config["model_type"], config["hidden_size"]) == (f"rwkv{version}", 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tome", "a", "b", "--to", "fla"], "'tome' converts no weights. Components that do: rwkv6, rwkv7."),
        (["rwkv8", "a", "b", "--to", "fla"], "did you mean 'rwkv"),
        (["rwkv7", "a", "b", "--to", "hf"], "--to: got 'hf'; rwkv7 writes official, safetensors, fla."),
        (["rwkv6", "missing.pth", "b.pth", "--to", "official"], "expected an existing file or folder"),
        (["rwkv6", "a", "b.bin", "--to", "official"], "--to official writes a file *.pth"),
        (["rwkv6", "a", "b.pth", "--to", "fla"], "--to fla writes a folder"),
    ],
)
def test_what_cannot_be_converted_is_named(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) != 0
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.pth").write_text("precious")
    assert main(["convert", "rwkv6", "a", str(tmp_path / "out.pth"), "--to", "official"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out.pth").read_text() == "precious"


def test_help_lists_components_and_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "rwkv6: official, safetensors, fla, hf; rwkv7: official, safetensors, fla." in text


def test_an_error_of_a_third_partys_converter_names_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offer = (
        'Component("backbone", "odd", "Odd.", ComponentConfig, "x:y", converter=Converter("one:convert", ("flat",)))'
    )
    head = "from composer.plugin import Converter\ndef convert(source, target, layout, revision):\n    return 1 / 0\n"
    install(site, "one", plugin(f"yield {offer}", head))
    assert main(["convert", "odd", "a.bin", str(tmp_path / "b.bin"), "--to", "flat"]) == 2
    said = capsys.readouterr().err
    assert "backbone 'odd' (one 1.0): its converter one:convert failed with 'a.bin', " in said
    assert "ZeroDivisionError: division by zero (" in said
