"""Tokens and positions of a stage's samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from composer.model.multimodal import MultimodalModel


@dataclass(frozen=True)
class Shapes:
    """square, wide: tokens of a frame of that shape (16:9). text, answered: tokens of a sample's text, and of its loss.

    kept_share: of a square frame's patches. positions: of an image and of a video, by their frames.
    """

    square: int
    wide: int
    kept_share: float
    text: int
    answered: int
    context: int | None
    positions: Mapping[int, int]


def shapes_of(model: MultimodalModel, layout: str, frames: int, text_tokens: int) -> Shapes:
    """Compute the shapes of images and of videos of `frames` frames, each with a question and an answer."""
    transform, processor = model.encoder.transform, model.processor
    square = processor.shape(transform.size, transform.size).count
    patches = model.encoder.shape(transform.size, transform.size).count
    text = text_tokens * 3 // 2 if layout == "sandwich" else text_tokens  # a sandwich has the question twice
    return Shapes(
        square=square,
        wide=processor.shape(*transform.size_of(720, 1280)).count,
        kept_share=square / patches,
        text=text,
        answered=max(1, text_tokens // 2),
        context=processor.context_length,
        positions={n: n * square + text for n in sorted({1, frames})},
    )
