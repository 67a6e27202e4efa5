"""Map-style data set that converts records to examples."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.utils.data import Dataset, get_worker_info

from composer.batch import IGNORE_LABEL, MEDIA_ID, Batch, Clip, Example
from composer.data.answers import drop_unanswered_turns
from composer.data.bad_samples import BadSamples
from composer.data.media.clip import load_clip
from composer.data.mixture import Mixture
from composer.errors import ComposerError, ContextLengthError, DataError, MediaError
from composer.model.processor import Processor, collate
from composer.reader import Reader
from composer.recipe.data import Condition, TooLong
from composer.sample import Sample
from composer.transform import PAD_VALUE


class Examples(Dataset[Example | ComposerError], ABC):
    """Examples by number. Data workers return their errors unchanged."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def example(self, index: int) -> Example:
        """Make an example. Raises ComposerError if it cannot be made."""

    def __getitem__(self, index: int) -> Example | ComposerError:
        """Make an example. A data worker returns an error, because PyTorch would wrap it in a traceback."""
        try:
            return self.example(index)
        except ComposerError as error:
            if get_worker_info() is None:
                raise
            return error


class Conversations(Examples):
    """Conversations of one or several sources, ready for a batch.

    Args:
        sources: Readers of the sources.
        processor: Converts samples to examples.
        frames: Number of frames per video.
        repeats: Copies of each source, see `Mixture`; one of each if empty.
        answer: True to ask for the last answer (test, predict), False to train on the complete conversation.
        condition: Condition that media are shown under.
        seed: Seed of fractions of `repeats` and of shuffled frames.
        bad_samples: Counts samples that cannot be trained on; each is replaced by an example without loss. If None,
            they raise DataError.
        too_long: What to do with training samples that exceed the context.
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
        bad_samples: BadSamples | None = None,
        too_long: TooLong = "error",
    ) -> None:
        self.sources, self.processor, self.frames = sources, processor, frames
        self.answer, self.condition, self.seed = answer, condition, seed
        self.bad_samples, self.too_long = bad_samples, too_long
        self.mixture = Mixture([len(source) for source in sources], repeats or [1.0] * len(sources), seed)

    def __len__(self) -> int:
        return len(self.mixture)

    def example(self, index: int) -> Example:
        """Make an example.

        Raises:
            DataError: The sample is bad (MediaError: its media), and bad samples are not counted.
            TrainingError: Too many samples are bad.
        """
        if self.bad_samples is not None:
            return self._training_example(index, self.bad_samples)
        sample = self.sample(index)
        try:
            return self._encode(sample)
        except MediaError as error:
            raise MediaError(f"{error} (sample {sample.id!r} of {sample.source})") from None

    def sample(self, index: int) -> Sample:
        """Read a sample. Raises DataError."""
        source, record = self.mixture[index]
        sample = self.sources[source][record]
        return sample if self.answer else drop_unanswered_turns(sample)

    def _training_example(self, index: int, bad_samples: BadSamples) -> Example:
        """The example, or one without loss if the sample is bad."""
        try:
            sample = self.sample(index)
        except DataError as error:
            source, record = self.mixture[index]
            location = self.sources[source].location(record)
            bad_samples.bad(location, location.rpartition(":")[0], error)
            return without_loss(location)
        try:
            example = self._encode(sample)
        except DataError as error:
            if isinstance(error, ContextLengthError) and self.too_long == "error":
                raise
            bad_samples.bad(sample.id, sample.source, error)
            return without_loss(sample.id)
        bad_samples.good()
        return example

    def _encode(self, sample: Sample) -> Example:
        clips = [load_clip(media, self.processor.transform, self.frames) for media in sample.media]
        clips = [show(clip, self.condition, f"{self.seed} {sample.id}") for clip in clips]
        try:
            return self.processor.encode(sample, clips, answer=self.answer)
        except ContextLengthError:
            example = self._truncate(sample, clips) if self.too_long == "truncate-text" else None
            if example is None:
                raise
            return example

    def _truncate(self, sample: Sample, clips: Sequence[Clip]) -> Example | None:
        """The conversation up to the last token of an answer that fits. None if no answer or not all media fit."""
        example = replace(self.processor, context_length=None).encode(sample, clips)
        targets = (example.labels[: self.processor.context_length] != IGNORE_LABEL).nonzero()
        end = int(targets[-1]) + 1 if len(targets) else 0
        if not end or (example.ids[end:] == MEDIA_ID).any():
            return None
        return example._replace(ids=example.ids[:end], labels=example.labels[:end])


def without_loss(sample_id: str) -> Example:
    """Make the replacement of a bad sample: one token without loss."""
    return Example(sample_id, torch.zeros(1, dtype=torch.int64), torch.full((1,), IGNORE_LABEL), ())


def show(clip: Clip, condition: Condition, key: str) -> Clip:
    """Apply a condition to a clip. Times do not change; `key` is the seed of shuffled frames."""
    if condition == "blind":
        return clip._replace(pixels=torch.full_like(clip.pixels, PAD_VALUE))
    if condition == "shuffled":
        order = list(range(len(clip.pixels)))
        random.Random(key).shuffle(order)
        return clip._replace(pixels=clip.pixels[order])
    return clip


def collate_or_error(examples: Sequence[Example | ComposerError]) -> Batch | ComposerError:
    """Make a batch, or return the first error of a data worker."""
    for example in examples:
        if isinstance(example, ComposerError):
            return example
    return collate(examples)  # type: ignore[arg-type]
