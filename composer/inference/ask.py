"""One question about images and videos, answered as it is generated."""

from collections.abc import Iterator, Sequence

from composer.batch import to_device
from composer.data.media.clip import load_clip
from composer.inference.generate import stream
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.sample import Media, Message, Sample


def ask(
    model: MultimodalModel,
    question: str,
    media: Sequence[Media],
    *,
    frames: int,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
) -> Iterator[str]:
    """Pieces of the answer's text. `frames` are taken of a video, uniform in time; media come before the question.

    Raises MediaError where a file cannot be decoded, DataError where the prompt is longer than the context.
    """
    sample = Sample("question", "the command line", (Message("user", (*media, question)),))
    clips = [load_clip(item, model.processor.transform, frames) for item in media]
    batch = collate([model.processor.encode(sample, clips, answer=True)])
    batch = to_device(batch, next(model.parameters()).device)
    yield from stream(model, batch, max_new_tokens=max_new_tokens, temperature=temperature)
