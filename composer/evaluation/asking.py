"""Prompts that are asked of a model and whose answers are kept in the durable store as they are given."""

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
    """What is kept of a question besides its answer, and the most tokens of the answer."""

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
    """Ask this process's share of the prompts that have no answer yet; each answer is kept at once.

    Args:
        store: An open store; the caller holds `store.asking()`.
        model: On its device, in evaluation mode.
        examples: The prompts as the model's input, in the same order, with their media shown as `condition` says.
        prompts: All prompts, of every process.
        share: Which of them this process asks, and how.
        condition: What the answers are kept under.
        title: Of the progress bar on standard error.
        quiet: True for no bar.

    Returns:
        The problems of prompts that cannot be asked. The first is written to standard error at once: all prompts may
        have it.
    """
    with store.lock():
        answered = store.read().keys()
    own = range(share.rank, len(prompts), share.world)
    left = {n: prompts[n].max_new_tokens for n in own if (condition, prompts[n].id) not in answered}
    problems: list[DataError] = []
    with progress(title, len(own), len(own) - len(left), quiet=quiet or share.rank > 0) as advance:
        texts = greedy_answers(model, examples, left, batch_size=share.batch_size, num_workers=share.num_workers)
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
