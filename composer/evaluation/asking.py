"""Asks prompts of a model and stores each answer at once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from composer.data.dataset import Examples
from composer.errors import DataError
from composer.evaluation.answers import Answer, AnswerFile
from composer.evaluation.progress import progress
from composer.evaluation.share import Share
from composer.inference.answering import greedy_answers, refuse
from composer.model.multimodal import MultimodalModel
from composer.recipe.data import Condition

REMEDY = "Fix the media files and rerun: only these questions are asked again"


@dataclass(frozen=True)
class Prompt:
    """A question as the store has it with its answer, and the maximum length of the answer in tokens."""

    id: str
    task: str
    references: tuple[str, ...]
    max_new_tokens: int


def ask(
    store: AnswerFile,
    model: MultimodalModel,
    examples: Examples,
    prompts: Sequence[Prompt],
    share: Share,
    condition: Condition = "normal",
    *,
    title: str,
    quiet: bool = False,
) -> list[DataError]:
    """Ask this process's share of the prompts that have no answer yet; store each answer at once.

    Args:
        store: An open store; the caller is in `store.asking()`.
        model: Model on its device, in evaluation mode.
        examples: The prompts as the model's input, in the same order, with their media shown as `condition` says.
        prompts: Prompts of all processes.
        share: This process's share, and its batch size.
        condition: Condition of the answers.
        title: Title of the progress bar on standard error.
        quiet: True for no bar.

    Returns:
        The problems of prompts that cannot be asked. The first is written to standard error at once: all prompts may
        have it.
    """
    with store.lock():
        answered = store.read().keys()
    own = range(share.rank, len(prompts), share.world)
    remaining = {n: prompts[n].max_new_tokens for n in own if (condition, prompts[n].id) not in answered}
    problems: list[DataError] = []
    with progress(title, len(own), len(own) - len(remaining), quiet=quiet or share.rank > 0) as advance:
        texts = greedy_answers(model, examples, remaining, batch_size=share.batch_size, num_workers=share.num_workers)
        for number, text in texts:
            if isinstance(text, DataError):
                if not problems:
                    sys.stderr.write(f"composer: skipped: {text}\n")
                problems.append(text)
            else:
                prompt = prompts[number]
                store.append(Answer(prompt.id, text, prompt.task, prompt.references, condition))
                advance()
    return problems


def refuse_unanswered(store: AnswerFile, problems: Sequence[DataError], total: int) -> None:
    """Raise DataError if prompts could not be asked, once no other process is asking."""
    if problems:
        store.wait_for_others()
        refuse(problems, total, f"All others are answered in {store.folder}. {REMEDY}")
