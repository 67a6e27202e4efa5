"""Records to examples: the map-style data set that loaders read, and what stands between it and a batch."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch.utils.data import Dataset, get_worker_info

from composer.batch import IGNORE_LABEL, Batch, Clip, Example
from composer.data.badmedia import BadMedia
from composer.data.media import load_clip
from composer.data.mixture import Mixture
from composer.errors import ComposerError, DataError, MediaError
from composer.processor import Processor, collate
from composer.reader import Reader
from composer.sample import Message, Sample
from composer.transform import PAD_VALUE

Condition = Literal["normal", "blind", "shuffled"]
"""How a test shows its media: as they are; as mid-grey frames of the same size; as their frames in random order."""


class Examples(Dataset[Example | ComposerError], ABC):
    """Examples by number, whose errors come out of data workers whole."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def example(self, index: int) -> Example:
        """Raises ComposerError for what cannot become one."""

    def __getitem__(self, index: int) -> Example | ComposerError:
        """An example. In a data worker an error is returned, for PyTorch would bury it in a traceback."""
        try:
            return self.example(index)
        except ComposerError as error:
            if get_worker_info() is None:
                raise
            return error


class Conversations(Examples):
    """Conversations of one or several sources, ready for a batch.

    repeats: copies of each source, see `Mixture`; one of each if not given.
    processor, frames: how media and text become an example, and the frames taken of a video.
    answer: True to ask for the last answer (test, predict), False to learn from the whole conversation.
    bad_media: where media that cannot be decoded are noted; such a sample keeps its text and has no loss. Without it
    they raise MediaError.
    """

    def __init__(
        self,
        sources: Sequence[Reader],
        processor: Processor,
        frames: int,
        *,
        repeats: Sequence[float] = (),
        answer: bool = False,
        condition: Condition = "normal",
        seed: int = 0,
        bad_media: BadMedia | None = None,
    ) -> None:
        self.sources, self.processor, self.frames = sources, processor, frames
        self.answer, self.condition, self.seed, self.bad_media = answer, condition, seed, bad_media
        self.mixture = Mixture([len(source) for source in sources], repeats or [1.0] * len(sources), seed)

    def __len__(self) -> int:
        return len(self.mixture)

    def example(self, index: int) -> Example:
        """Raises DataError for a bad record, MediaError for bad media, TrainingError for too many of them."""
        sample = self.sample(index)
        try:
            clips = [load_clip(media, self.processor.transform, self.frames) for media in sample.media]
        except MediaError as error:
            if self.bad_media is None:
                raise MediaError(f"{error} (sample {sample.id!r} of {sample.source})") from None
            self.bad_media.count(sample, error)
            example = self.processor.encode(without_media(sample), (), answer=False)
            return example._replace(labels=torch.full_like(example.labels, IGNORE_LABEL))
        if self.bad_media is not None:
            self.bad_media.count(sample, None)
        shown = [show(clip, self.condition, f"{self.seed} {sample.id}") for clip in clips]
        return self.processor.encode(sample, shown, answer=self.answer)

    def sample(self, index: int) -> Sample:
        source, record = self.mixture[index]
        sample = self.sources[source][record]
        return sample if self.answer else answered(sample)


def answered(sample: Sample) -> Sample:
    """A sample without its trailing user turns: nobody says what to learn from them. Raises DataError without any."""
    messages = list(sample.messages)
    while messages and messages[-1].role != "assistant":
        del messages[-1]
    if not messages:
        raise DataError(f"{sample.source}: sample {sample.id!r} has no gpt turn to learn from")
    return Sample(sample.id, sample.source, tuple(messages), sample.meta)


def without_media(sample: Sample) -> Sample:
    """A sample's text alone."""
    messages = tuple(Message(m.role, tuple(p for p in m.content if isinstance(p, str))) for m in sample.messages)
    return Sample(sample.id, sample.source, messages, sample.meta)


def show(clip: Clip, condition: Condition, key: str) -> Clip:
    """A clip as a condition shows it. Times stay as they are; `key` seeds the order of shuffled frames."""
    if condition == "blind":
        return clip._replace(pixels=torch.full_like(clip.pixels, PAD_VALUE))
    if condition == "shuffled":
        order = list(range(len(clip.pixels)))
        random.Random(key).shuffle(order)
        return clip._replace(pixels=clip.pixels[order])
    return clip


def collate_or_error(examples: Sequence[Example | ComposerError]) -> Batch | ComposerError:
    """`collate`, or the first error that a data worker met."""
    for example in examples:
        if isinstance(example, ComposerError):
            return example
    return collate(examples)  # type: ignore[arg-type]
