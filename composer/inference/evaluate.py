"""A benchmark's questions, asked of a model batch by batch."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from composer.batch import Batch, Example
from composer.benchmark import Question
from composer.data.dataset import Condition, Examples, collate_or_error, show
from composer.data.media import load_clip
from composer.errors import ComposerError, MediaError
from composer.inference.generate import generate
from composer.model import MultimodalModel
from composer.processor import Processor


def answers(
    model: MultimodalModel,
    questions: Sequence[Question],
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    condition: Condition = "normal",
) -> Iterator[tuple[Question, str]]:
    """Each question with the model's greedy answer, in order, batch by batch.

    condition: how media are shown, see `composer.data.dataset.Condition`. num_workers: processes that decode media.
    Raises MediaError with the question's id where its media cannot be decoded, DataError where a prompt is too long.
    """
    batches = list(_batches(questions, batch_size))
    loader: DataLoader[Example | ComposerError] = DataLoader(
        Questions(questions, model.processor, condition),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate_or_error,
    )
    device = next(model.parameters()).device
    for places, batch in zip(batches, loader, strict=True):
        if isinstance(batch, ComposerError):
            raise batch
        asked = [questions[place] for place in places]
        moved: Batch = move_data_to_device(batch, device)
        said = generate(model, moved, max_new_tokens=asked[0].max_new_tokens)
        yield from zip(asked, said, strict=True)


class Questions(Examples):
    """Questions as examples whose prompts end with the opening of the answer."""

    def __init__(self, questions: Sequence[Question], processor: Processor, condition: Condition) -> None:
        self.questions, self.processor, self.condition = questions, processor, condition

    def __len__(self) -> int:
        return len(self.questions)

    def example(self, index: int) -> Example:
        """Raises MediaError with the question's id, DataError for a prompt that is too long."""
        question = self.questions[index]
        sample = question.sample
        try:
            clips = [load_clip(media, self.processor.transform, question.frames) for media in sample.media]
        except MediaError as error:
            raise MediaError(f"{error} (question {question.id!r}, {sample.source})") from None
        shown = [show(clip, self.condition, question.id) for clip in clips]
        return self.processor.encode(sample, shown, answer=True, opening=question.prefill)


def _batches(questions: Sequence[Question], batch_size: int) -> Iterator[list[int]]:
    """Places of neighbouring questions that may answer at the same length."""
    for _, places in groupby(range(len(questions)), lambda place: questions[place].max_new_tokens):
        run = list(places)
        yield from (run[start : start + batch_size] for start in range(0, len(run), batch_size))
