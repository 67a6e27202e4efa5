"""Evaluation on a recipe's held-out data, for `composer test` and `composer predict`."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch

from composer.data.dataset import Conversations
from composer.data.open_sources import unique_samples
from composer.errors import ConfigError, DataError
from composer.evaluation.accuracy import Accuracy, measure, write_results
from composer.evaluation.answers import ANSWERS, AnswerFile
from composer.evaluation.asking import Prompt, ask, refuse_unanswered
from composer.evaluation.share import Share
from composer.model.checkpoint import fingerprint, read_checkpoint, restore_model
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.prompt import split_question
from composer.reader import Reader
from composer.recipe.data import Condition
from composer.recipe.model import ModelConfig
from composer.recipe.resolve import recorded

PREDICTIONS = "predictions"
CASTS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Data type of operations by Lightning's name of the precision."""
FULL = (None, 32, "32", "32-true")
"""Lightning's names of full precision."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its options and the origin of its weights.

    Attributes:
        model: Model on its device, in evaluation mode.
        config: All its options.
        checkpoint: File of its weights; None for initial weights.
        seed: Seed of initial weights; None if they come from a checkpoint.
    """

    model: MultimodalModel
    config: ModelConfig
    checkpoint: Path | None
    seed: int | None


@dataclass(frozen=True)
class HeldOut:
    """Conversations whose last answers are evaluated.

    Attributes:
        sources: The conversations.
        frames: Number of frames per video.
        max_new_tokens: Maximum length of an answer in tokens.
        conditions: Conditions that media are shown under, one pass each.
        seed: Seed of shuffled frames.
        precision: Precision of operations, as Lightning's Trainer takes it.
    """

    sources: Sequence[Reader]
    frames: int
    max_new_tokens: int
    conditions: tuple[Condition, ...] = ("normal",)
    seed: int = 0
    precision: str | int | None = None


class Header(TypedDict):
    """First line of `answers.jsonl` and `predictions.jsonl`: everything that the answers depend on."""

    checkpoint: str | None
    initial_seed: int | None
    model: dict[str, object]
    questions: str
    frames: int
    max_new_tokens: int
    seed: int
    precision: str


def load_for_answers(
    config: ModelConfig, checkpoint: Path | None, device: torch.device, seed: int | None
) -> LoadedModel:
    """Load a model with a checkpoint's weights, or build it with initial weights.

    Args:
        config: All options of the model.
        checkpoint: File of the weights, or None for initial ones.
        device: The device.
        seed: Seed of initial weights; random if None.

    Raises:
        CheckpointError: The checkpoint cannot be read or does not match the options.
    """
    if checkpoint is not None:
        model = restore_model(read_checkpoint(checkpoint, resume=False), str(checkpoint), device, config)
        return LoadedModel(model, config, checkpoint, None)
    seed = torch.seed() if seed is None else seed
    torch.manual_seed(seed)
    return LoadedModel(compose(config).to(device).eval(), config, None, seed)


def measure_accuracy(
    loaded: LoadedModel, data: HeldOut, folder: Path, share: Share, *, quiet: bool = False
) -> Accuracy | None:
    """Compare the model's last answer of each conversation, under each condition, with the conversation's own.

    Each answer is written to `answers.jsonl` at once: if the process is killed, the same call resumes. A file with
    answers of a different checkpoint, model or data is renamed. The result is written to `results.json`.

    Args:
        loaded: The model.
        data: The conversations.
        folder: Folder of the files.
        share: This process's share of the questions.
        quiet: True for no progress bar on standard error.

    Returns:
        The accuracy, or None if another process is still asking and will report it.

    Raises:
        DataError: A record cannot be read, two have the same id, or some cannot be asked (once all others are).
        ConfigError: The precision cannot be used.
    """
    store, keys = _answer(loaded, data, folder, share, ANSWERS, quiet)
    with store.complete(keys) as answers:
        if answers is None:
            return None
        accuracy = measure(answers)
        write_results(accuracy, folder, loaded.checkpoint)
        return accuracy


def predict_answers(
    loaded: LoadedModel, data: HeldOut, folder: Path, share: Share, *, quiet: bool = False
) -> Path | None:
    """Write the model's last answer of each conversation to `predictions.jsonl`.

    Resumes as `measure_accuracy` does; arguments and errors are the same.

    Returns:
        The file, or None if another process is still asking.
    """
    store, keys = _answer(loaded, data, folder, share, PREDICTIONS, quiet)
    with store.complete(keys) as answers:
        return None if answers is None else store.merged


def _answer(
    loaded: LoadedModel, data: HeldOut, folder: Path, share: Share, name: str, quiet: bool
) -> tuple[AnswerFile, list[tuple[str, str]]]:
    """Ask this process's share under each condition. Returns the store and the keys of all answers.

    Raises DataError if some cannot be asked, once all others are.
    """
    model = loaded.model
    casting = cast_operations(data.precision, next(model.parameters()).device)
    prompts, digest = _read(data, model)
    header = _header(loaded, data, digest)
    problems: list[DataError] = []
    with AnswerFile(folder, header, share.rank, share.world, name=name, rename_others=True) as store:
        with store.asking(), casting:
            for condition in data.conditions:
                title = condition if len(data.conditions) > 1 else name
                examples = Conversations(
                    data.sources, model.processor, data.frames, answer=True, condition=condition, seed=data.seed
                )
                problems += ask(store, model, examples, prompts, share, condition, title=title, quiet=quiet)
        refuse_unanswered(store, problems, len(prompts) * len(data.conditions))
    return store, [(condition, prompt.id) for condition in data.conditions for prompt in prompts]


def _header(loaded: LoadedModel, data: HeldOut, digest: str) -> Header:
    return {
        "checkpoint": None if loaded.checkpoint is None else fingerprint(loaded.checkpoint),
        "initial_seed": loaded.seed,
        "model": recorded(loaded.config),
        "questions": digest,
        "frames": data.frames,
        "max_new_tokens": data.max_new_tokens,
        "seed": data.seed,
        "precision": "32-true" if data.precision in FULL else str(data.precision),
    }


def _read(data: HeldOut, model: MultimodalModel) -> tuple[list[Prompt], str]:
    """All prompts, in the order of `Conversations`, and the content hash of the questions.

    Reads every record once and keeps no media. Raises DataError for a record that cannot be read.
    """
    prompts: list[Prompt] = []
    content = hashlib.sha256()
    for sample in unique_samples(data.sources):
        question, answer = split_question(sample)
        expected = model.processor.template.content(answer)  # as it would have been trained on
        kind = str(sample.meta.get("question_type", ""))
        content.update(repr((sample.id, question.messages, kind, expected)).encode())
        prompts.append(Prompt(sample.id, kind, (expected,), data.max_new_tokens))
    return prompts, content.hexdigest()[:16]


def cast_operations(precision: str | int | None, device: torch.device) -> AbstractContextManager[object]:
    """Make a context that runs operations in one of Lightning's precisions.

    Raises:
        ConfigError: The precision casts weights.
    """
    if precision in FULL:
        return nullcontext()
    if precision not in CASTS:
        raise ConfigError(
            f"trainer.precision: got {precision}, expected 32-true, {' or '.join(CASTS)}, in which questions can be "
            "asked: give one of them with --trainer.precision=VALUE"
        )
    return torch.autocast(device.type, dtype=CASTS[str(precision)])
