"""A benchmark's questions, asked of a model batch by batch."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from torch.utils.data import DataLoader, Dataset

from composer.batch import Batch, Example, to_device
from composer.benchmark import Question
from composer.data.dataset import Examples, show
from composer.data.media.clip import load_clip
from composer.errors import DataError, MediaError
from composer.inference.generate import generate
from composer.model.multimodal import MultimodalModel
from composer.model.processor import Processor, collate
from composer.recipe.data import Condition

SHOWN = 5
"""Problems of questions that an error shows; the others it counts."""


def answers(
    model: MultimodalModel,
    questions: Sequence[Question],
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    condition: Condition = "normal",
) -> Iterator[tuple[Question, str | DataError]]:
    """Each question with the model's greedy answer, in order, batch by batch.

    condition: how media are shown, see `composer.data.dataset.Condition`. num_workers: processes that decode media.
    In the place of an answer stands MediaError with the question's id where its media cannot be decoded, DataError
    where the prompt is too long.
    """
    examples = Questions(questions, model.processor, condition)
    lengths = [question.max_new_tokens for question in questions]
    found = said(model, examples, lengths, batch_size=batch_size, num_workers=num_workers)
    yield from zip(questions, found, strict=True)


def said(
    model: MultimodalModel,
    examples: Examples,
    lengths: Sequence[int],
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    start_method: str | None = None,
) -> Iterator[str | DataError]:
    """The model's greedy answer to each prompt, in order, batch by batch; a DataError where there is no prompt.

    lengths: the most tokens of each answer. num_workers: processes that make examples; start_method: how they are
    started, Python's default if not given.
    """
    batches = list(_batches(lengths, batch_size))
    loader: DataLoader[Example | DataError] = DataLoader(
        _Attempts(examples),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate,
        multiprocessing_context=start_method if num_workers else None,
    )
    device = next(model.parameters()).device
    for places, (batch, problems) in zip(batches, loader, strict=True):
        found: Iterator[str] = iter(())
        if batch is not None:
            found = iter(generate(model, to_device(batch, device), max_new_tokens=lengths[places[0]]))
        yield from (next(found) if problem is None else problem for problem in problems)


def refuse(problems: Sequence[DataError], total: int, remedy: str) -> None:
    """Raise DataError where there are questions without a prompt: the first few of these problems, and `remedy`."""
    if problems:
        shown = [f"  {problem}" for problem in problems[:SHOWN]]
        more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{len(problems)} of {total} questions cannot be asked:", *shown, *more, remedy]))


class _Attempts(Dataset[Example | DataError]):
    """Examples, and the error in the place of each that cannot be made, so that it stops no other."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, index: int) -> Example | DataError:
        try:
            return self.examples.example(index)
        except DataError as error:
            return error


def _collate(attempts: Sequence[Example | DataError]) -> tuple[Batch | None, list[DataError | None]]:
    """The batch of what could be made, None where nothing could, and each attempt's problem."""
    made = [attempt for attempt in attempts if not isinstance(attempt, DataError)]
    problems = [attempt if isinstance(attempt, DataError) else None for attempt in attempts]
    return collate(made) if made else None, problems


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


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Places of neighbouring prompts that may be answered at the same length."""
    for _, places in groupby(range(len(lengths)), lengths.__getitem__):
        run = list(places)
        yield from (run[start : start + batch_size] for start in range(0, len(run), batch_size))
