"""Answers prompts batch by batch; a prompt that cannot be encoded does not stop the others."""

from collections.abc import Iterator, Mapping, Sequence
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
"""Maximum number of problems that an error lists; it counts the others."""


def greedy_answers(
    model: MultimodalModel,
    examples: Examples,
    lengths: Mapping[int, int],
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    start_method: str | None = None,
) -> Iterator[tuple[int, str | DataError]]:
    """Answer prompts greedily, batch by batch.

    Args:
        model: Model on its device, in evaluation mode.
        examples: Prompts by number, see `Processor.encode(..., answer=True)`.
        lengths: Maximum length of each answer in tokens, by the prompt's number. Other prompts are not asked.
        batch_size: Prompts that are answered together; those of one batch have the same length.
        num_workers: Processes that make examples.
        start_method: Start method of these processes; Python's default if None.

    Yields:
        Each number of `lengths`, in its order, with the answer, or with the DataError that prevents the prompt.
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
    for numbers, (batch, problems) in zip(batches, loader, strict=True):
        texts: Iterator[str] = iter(())
        if batch is not None:
            texts = iter(generate(model, to_device(batch, device), max_new_tokens=lengths[numbers[0]]))
        for number, problem in zip(numbers, problems, strict=True):
            yield number, next(texts) if problem is None else problem


def refuse(problems: Sequence[DataError], total: int, remedy: str) -> None:
    """Raise DataError if there are problems, with the first few of them and `remedy`."""
    if problems:
        listed = [f"  {problem}" for problem in problems[:SHOWN]]
        more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{len(problems)} of {total} questions cannot be asked:", *listed, *more, remedy]))


class _Attempts(Dataset[Example | DataError]):
    """Examples, or the errors of those that cannot be made, so that they do not stop the others."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, index: int) -> Example | DataError:
        try:
            return self.examples.example(index)
        except DataError as error:
            return error


def _collate(attempts: Sequence[Example | DataError]) -> tuple[Batch | None, list[DataError | None]]:
    """The batch of all examples, None if there are none, and the problem of each attempt."""
    examples = [attempt for attempt in attempts if not isinstance(attempt, DataError)]
    problems = [attempt if isinstance(attempt, DataError) else None for attempt in attempts]
    return collate(examples) if examples else None, problems


class Questions(Examples):
    """A benchmark's questions as examples whose prompts end with the opening of the answer."""

    def __init__(self, questions: Sequence[Question], processor: Processor, condition: Condition) -> None:
        self.questions, self.processor, self.condition = questions, processor, condition

    def __len__(self) -> int:
        return len(self.questions)

    def example(self, index: int) -> Example:
        """Encode a question. Raises MediaError with its id, DataError for a prompt that is too long."""
        question = self.questions[index]
        sample = question.sample
        try:
            clips = [load_clip(media, self.processor.transform, question.frames) for media in sample.media]
        except MediaError as error:
            raise MediaError(f"{error} (question {question.id!r}, {sample.source})") from None
        clips = [show(clip, self.condition, question.id) for clip in clips]
        return self.processor.encode(sample, clips, answer=True, opening=question.prefill)


def _batches(lengths: Mapping[int, int], batch_size: int) -> Iterator[list[int]]:
    """Numbers of neighboring prompts whose answers have the same maximum length."""
    for _, numbers in groupby(lengths, lengths.__getitem__):
        run = list(numbers)
        yield from (run[start : start + batch_size] for start in range(0, len(run), batch_size))
