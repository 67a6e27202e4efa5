"""The Python surface on models of first-party parts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import composer
from composer.errors import CheckpointError, ConfigError
from composer.inference.ask import ask
from composer.model.checkpoint import load_model
from composer.sample import Media
from tests.composer.data.files import write_video
from tests.composer.training.real import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


def test_a_loaded_model_answers_as_its_checkpoint_does(run: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 12)
    pieces = list(ask(load_model(run), "So?", [Media("video", str(video))], frames=2, max_new_tokens=9))
    model = composer.load(run, device="cpu")
    assert (model.frames, model.device) == (2, torch.device("cpu"))
    assert model.ask("So?", video=video, max_new_tokens=9) == "".join(pieces).rstrip()
    assert model.ask("So?", video=[video, str(video)], frames=3, max_new_tokens=9)
    streamed = model.ask("So?", video=video, max_new_tokens=9, stream=True)
    assert isinstance(streamed, Iterator)
    assert list(streamed) == pieces


def test_options_that_change_no_weight(run: Path) -> None:
    model = composer.load(run, device="cpu", prompt={"layout": "inline"})
    assert model.network.processor.layout == "inline"
    with pytest.raises(ConfigError, match=r"argument: model\.encoder\.widht: unknown option; did you mean 'width'\?"):
        composer.load(run, encoder={"widht": 1})
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        composer.load(run / "absent")


def test_a_recipe_is_built_with_other_parts() -> None:
    model = composer.build("composer:quickstart", device="cpu", backbone={"name": "transformer", "width": 32})
    assert type(model.network.backbone).__name__ == "TransformerBackbone"
    assert (model.network.backbone.dim, model.frames) == (32, 8)
    assert isinstance(model.ask("So?", max_new_tokens=2), str)
    with pytest.raises(ConfigError, match="composer:quikstart: unknown recipe"):
        composer.build("composer:quikstart")


def test_importing_composer_is_light_and_names_are_listed() -> None:
    code = "import sys, composer; print({'build', 'load', 'Model'} <= set(dir(composer)), 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["True", "False"]
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        composer.lode  # noqa: B018
