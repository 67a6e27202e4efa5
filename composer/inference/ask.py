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
    """Pieces of the answer's text, as they are generated. Media come before the question.

    Args:
        model: In evaluation mode.
        question: Text of the question.
        media: Images and videos.
        frames: Frames taken of each video, uniform in time.
        max_new_tokens: Length of the answer at most, in tokens.
        temperature: 0 for the most likely answer.

    Raises:
        MediaError: A file cannot be decoded.
        DataError: The prompt is longer than the context.
    """
    sample = Sample("question", "the command line", (Message("user", (*media, question)),))
    clips = [load_clip(item, model.processor.transform, frames) for item in media]
    batch = collate([model.processor.encode(sample, clips, answer=True)])
    batch = to_device(batch, next(model.parameters()).device)
    yield from stream(model, batch, max_new_tokens=max_new_tokens, temperature=temperature)
