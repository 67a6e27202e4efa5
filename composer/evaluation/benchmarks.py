"""Evaluation on a benchmark: `composer.evaluation.evaluate`. Imports torch only when a model is loaded."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from composer.atomic import check_writable
from composer.benchmark import Benchmark, Question
from composer.evaluation.answers import AnswerFile
from composer.evaluation.grades import grade_answers
from composer.evaluation.questions import check_media, digest, first_of_each_task, read_questions
from composer.evaluation.report import RESULTS, About, Result, refuse_to_shrink, result_record, write_result
from composer.evaluation.share import Share
from composer.plugin import SlotConfig
from composer.recipe.components import slot_config
from composer.recipe.data import Condition
from composer.recipe.explain import validated
from composer.recipe.resolve import Layer, recorded, resolve
from composer.recipe.yamlfile import Origin, located, nested
from composer.registry import load_registry

if TYPE_CHECKING:
    from composer.model.multimodal import MultimodalModel


class Header(TypedDict):
    """First line of a benchmark's `answers.jsonl`: everything that the answers depend on."""

    benchmark: str
    options: dict[str, object]
    condition: str
    questions: str
    checkpoint: str
    model: dict[str, object]


class _Loaded(NamedTuple):
    """A model, the checkpoint's file and fingerprint, and all options of the model as a header has them."""

    network: "MultimodalModel"
    file: Path
    fingerprint: str
    config: dict[str, object]


def evaluate(
    checkpoint: Path | str,
    benchmark: str | SlotConfig,
    *,
    output: Path | str | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    device: str = "auto",
    limit: int | None = None,
    condition: Condition = "normal",
    model: Mapping[str, object] | Layer = (),
    **options: object,
) -> Result | None:
    """Ask a checkpoint the questions of a benchmark, grade the answers and write the result.

    Each answer is stored at once: if the process is killed, the same call resumes. Of several processes (`RANK` and
    `WORLD_SIZE`, as torchrun sets them) each asks its share, and the last one writes the result.

    Args:
        checkpoint: A checkpoint file, or a run folder, which stands for its newest checkpoint.
        benchmark: Name of an installed benchmark, or its validated options.
        output: Folder for answers and result; `evaluation/NAME` next to the checkpoint if not given.
        batch_size: Questions that are answered together.
        num_workers: Processes that decode media.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1` ...
        limit: Ask at most this many questions of each task.
        condition: How media are shown: `normal`, `blind` (gray frames) or `shuffled` (frames in random order).
        model: Options of the model that replace those of the checkpoint, such as `{"reducer.keep_ratio": 0.1}`.
        **options: Options of the benchmark, such as `root="data/MVBench"`.

    Returns:
        The result, or None if another process is still asking questions and will write it.

    Raises:
        ConfigError: An option is unknown or has a wrong value; all problems at once.
        DataError: The benchmark's files cannot be read, some questions cannot be asked, or the folder holds answers of
            another checkpoint, benchmark or model.
        CheckpointError: The checkpoint is missing, damaged or does not match the model's options.
    """
    config = benchmark_options(benchmark, options)
    share = Share.of_this_process(batch_size, num_workers)
    folder = default_folder(Path(checkpoint), config.name, condition) if output is None else Path(output)
    check_writable(folder / RESULTS)
    source: Benchmark = load_registry().build("benchmark", config)
    every = read_questions(source)
    questions = first_of_each_task(every, limit) if limit else every
    check_media(questions)
    loaded = _load(Path(checkpoint), device, model)
    header = _header(config, source, condition, digest(every), loaded)
    about = _about(config, condition, limit, loaded)
    if limit:
        refuse_to_shrink(folder, len(questions))
    with AnswerFile(folder, header, share.rank, share.world, grading=source.grading_options) as store:
        _ask(store, loaded.network, questions, condition, share, config.name)
    del loaded  # a local judge needs the model's memory
    with store.complete([(condition, question.id) for question in questions]) as answers:
        if answers is None:
            return None
        return _grade(source, questions, [answer.answer for answer in answers], folder, header, about)


def default_folder(checkpoint: Path, benchmark: str, condition: str = "normal") -> Path:
    """Folder for answers and results if none is given: next to the checkpoint."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    suffix = [] if condition == "normal" else [condition]
    return Path(folder, "evaluation", "-".join([benchmark.replace("/", "-"), *suffix]))


def benchmark_options(benchmark: str | SlotConfig, options: Mapping[str, object]) -> SlotConfig:
    """Validate a benchmark's options.

    Args:
        benchmark: Name of an installed benchmark, or its validated options.
        options: Options that override those.

    Raises:
        ConfigError: With every problem.
        PluginError: The benchmark is not installed.
    """
    before = benchmark.model_dump(exclude_unset=True) if isinstance(benchmark, SlotConfig) else {"name": benchmark}
    name = load_registry().canonical_name("benchmark", before["name"])
    return validated(slot_config("benchmark", name), name, located({**before, **options}, Origin("options")))


def _load(checkpoint: Path, device: str, model: Mapping[str, object] | Layer) -> _Loaded:
    """The model of a checkpoint, with the options that `model` replaces."""
    from composer.inference.device import device_of
    from composer.model.checkpoint import fingerprint, locate, read_checkpoint, restore_model

    target = device_of(device)
    file = locate(checkpoint)
    content = read_checkpoint(file, resume=False)
    if isinstance(model, Mapping):
        model = [
            nested(["model", *key.split(".")], located(value, Origin(f"model.{key}"))) for key, value in model.items()
        ]
    resolved = resolve([], flags=model, checkpoint={"model": content["hyper_parameters"]["model"]})
    if resolved.note:
        sys.stderr.write(f"composer: {resolved.note}\n")
    network = restore_model(content, str(file), target, resolved.model)
    return _Loaded(network, file, fingerprint(file), recorded(resolved.model))


def _header(config: SlotConfig, source: Benchmark, condition: str, questions: str, loaded: _Loaded) -> Header:
    return {
        "benchmark": config.name,
        "options": config.model_dump(mode="json", exclude={"name", *source.grading_options}),
        "condition": condition,
        "questions": questions,
        "checkpoint": loaded.fingerprint,
        "model": loaded.config,
    }


def _about(config: SlotConfig, condition: str, limit: int | None, loaded: _Loaded) -> About:
    return {
        "benchmark": config.name,
        "options": config.model_dump(mode="json", exclude={"name"}),
        "condition": condition,
        "checkpoint": {"file": str(loaded.file), "fingerprint": loaded.fingerprint},
        "model": loaded.config,
        "limit": limit,
    }


def _ask(
    store: AnswerFile,
    model: "MultimodalModel",
    questions: Sequence[Question],
    condition: Condition,
    share: Share,
    title: str,
) -> None:
    """Ask this process's share of the questions. Raises DataError if some cannot be asked, once all others are."""
    from composer.evaluation.asking import Prompt, ask, refuse_unanswered
    from composer.inference.answering import Questions

    prompts = [Prompt(q.id, q.task, q.references, q.max_new_tokens) for q in questions]
    examples = Questions(questions, model.processor, condition)
    with store.asking():
        problems = ask(store, model, examples, prompts, share, condition, title=title)
    refuse_unanswered(store, problems, len(questions))


def _grade(
    benchmark: Benchmark,
    questions: Sequence[Question],
    answers: Sequence[str],
    folder: Path,
    header: Header,
    about: About,
) -> Result:
    """Grade the answers and write `results.json`."""
    grades = grade_answers(benchmark, questions, answers, folder, header)
    summary = benchmark.summarize(questions, answers, grades)
    published = benchmark.published()
    if judge := benchmark.judge_id():
        about["judge"] = {**judge, "answered_as": sorted({r.model for grade in grades for r in grade.replies})}
    path = write_result(result_record(summary, benchmark.metric, published, benchmark.skipped, about), folder)
    return Result(summary, benchmark.metrics, published, tuple(benchmark.skipped), path)
