"""Python API: builds or loads a model, and asks it about images and videos."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, overload

import torch

from composer.inference.ask import ask
from composer.inference.device import device_of
from composer.model.checkpoint import read_checkpoint, restore_model
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.recipe.resolve import resolve
from composer.recipe.shipped import locate
from composer.recipe.stages import resolve_stages
from composer.recipe.yamlfile import Located, Origin, located
from composer.sample import Media

Files = str | Path | Sequence[str | Path] | None
Part = str | Mapping[str, object] | Sequence[str | Mapping[str, object]] | None
"""A part as in a recipe: a name, a name with options, options without a name, or for reducers a list of these."""


class Model:
    """A composed model that answers questions.

    Attributes:
        network: The `torch.nn.Module`, with the parts `encoder`, `reducers`, `projector` and `backbone`.
        frames: Default number of frames per video.
    """

    def __init__(self, network: MultimodalModel, frames: int) -> None:
        self.network, self.frames = network, frames

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device."""
        self.network.to(device)
        return self

    @overload
    def ask(
        self,
        question: str,
        *,
        video: Files = ...,
        image: Files = ...,
        frames: int | None = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        stream: Literal[False] = ...,
    ) -> str: ...

    @overload
    def ask(
        self,
        question: str,
        *,
        video: Files = ...,
        image: Files = ...,
        frames: int | None = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        stream: Literal[True],
    ) -> Iterator[str]: ...

    def ask(
        self,
        question: str,
        *,
        video: Files = None,
        image: Files = None,
        frames: int | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        stream: bool = False,
    ) -> str | Iterator[str]:
        """Answer a question about images and videos. Media precede the question, images first.

        Args:
            question: Text of the question.
            video: One or more video files, or folders of frames.
            image: One or more image files.
            frames: Number of frames per video, uniform in time; `Model.frames` if None.
            max_new_tokens: Maximum length of the answer in tokens.
            temperature: 0 for the most likely answer.
            stream: Whether to return pieces of the answer as they are generated.

        Returns:
            The answer, or an iterator over its pieces.

        Raises:
            MediaError: A file cannot be decoded.
            DataError: The prompt is longer than the context.
        """
        media = [*(Media("image", path) for path in _paths(image)), *(Media("video", path) for path in _paths(video))]
        pieces = ask(
            self.network,
            question,
            media,
            frames=frames or self.frames,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
        return pieces if stream else "".join(pieces).rstrip()


def load(path: str | Path, *, device: str = "auto", **parts: Part) -> Model:
    """Load a trained model.

    Args:
        path: A checkpoint file, or a run folder, which stands for its newest checkpoint.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1` ...
        **parts: Options of `encoder`, `reducer`, `projector`, `backbone` or `prompt` that change no weight, such as
            `reducer={"keep_ratio": 0.25}`.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: There is no intact checkpoint, or it does not match the changed options.
        ConfigError: An option or the device is wrong.
    """
    target = device_of(device)
    checkpoint = read_checkpoint(path, resume=False)
    recipe = resolve([], flags=_layer(parts), checkpoint={"model": checkpoint["hyper_parameters"]["model"]})
    network = restore_model(checkpoint, str(path), target, recipe.model)
    return Model(network, checkpoint["composer"]["frames"])


def build(recipe: str | Path, *, device: str = "auto", **parts: Part) -> Model:
    """Build the model of a recipe, with the weights that the recipe names or random ones.

    Args:
        recipe: A YAML file, `composer:NAME` for a recipe of the package, or a folder of stages (its last stage).
        device: As in `load`.
        **parts: Parts that override the recipe's: `encoder`, `reducer`, `projector`, `backbone` or `prompt`, such as
            `backbone="transformer"` or `reducer={"name": "tome", "keep_ratio": 0.25}`.

    Returns:
        The model in evaluation mode; `model.network.train()` changes that.

    Raises:
        ConfigError: The recipe, an option or the device is wrong.
        ComposeError: The parts do not fit together.
    """
    target = device_of(device)
    stage = resolve_stages(locate(str(recipe)), flags=_layer(parts))[-1]
    return Model(compose(stage.recipe.model).to(target).eval(), stage.recipe.data.frames)


def _layer(parts: Mapping[str, Part]) -> list[Located]:
    return [located({"model": dict(parts)}, Origin("argument"))] if parts else []


def _paths(files: Files) -> list[str]:
    if files is None:
        return []
    return [str(files)] if isinstance(files, str | Path) else [str(path) for path in files]
