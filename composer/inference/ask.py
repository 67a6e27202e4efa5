"""Answers a question about images and videos, piece by piece."""

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
    """Generate the answer to a question. Media precede the question.

    Args:
        model: Model in evaluation mode.
        question: Text of the question.
        media: Images and videos.
        frames: Number of frames per video, uniform in time.
        max_new_tokens: Maximum length of the answer in tokens.
        temperature: 0 for the most likely answer.

    Yields:
        Pieces of the answer's text.

    Raises:
        MediaError: A file cannot be decoded.
        DataError: The prompt is longer than the context.
    """
    sample = Sample("question", "the command line", (Message("user", (*media, question)),))
    clips = [load_clip(item, model.processor.transform, frames) for item in media]
    batch = collate([model.processor.encode(sample, clips, answer=True)])
    batch = to_device(batch, next(model.parameters()).device)
    yield from stream(model, batch, max_new_tokens=max_new_tokens, temperature=temperature)
