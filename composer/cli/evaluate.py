"""`composer evaluate`: a benchmark's questions, asked of a trained model."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.atomic import check_writable
from composer.benchmark import Benchmark, Question
from composer.cli.arguments import natural, positive
from composer.errors import ConfigError, DataError
from composer.evaluation.questions import check_media, digest, first_of_each_task, listed, read_questions
from composer.recipe.components import slot_config
from composer.recipe.evaluation import split_commas
from composer.recipe.explain import validated
from composer.recipe.overrides import from_flags
from composer.recipe.resolve import Layer, recorded, resolve
from composer.recipe.yamlfile import Located, Origin, parse_yaml
from composer.registry import load_registry

if TYPE_CHECKING:
    from composer.evaluation.answers import AnswerFile
    from composer.model.multimodal import MultimodalModel

SUMMARY = "Measure a trained model on a benchmark."

REMEDY = (
    "Mend the media files in place (not the benchmark's records: then it would be another one) and start again: only "
    "these are asked."
)


class Parser(argparse.ArgumentParser):
    """Puts the flags that it does not know aside as `other`: they are options of the benchmark or of the model."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        namespace, other = self.parse_known_args(args, namespace)
        namespace.other = other
        return namespace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run folder: its newest checkpoint")
    parser.add_argument("benchmark", metavar="NAME", help="an installed benchmark")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="answers and results (default: evaluation/NAME by CHECKPOINT)"
    )
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--num-workers", type=natural, default=2, metavar="N", help="processes that decode (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1 ...")
    parser.add_argument("--limit", type=positive, metavar="N", help="ask the first N questions of each task only")
    parser.add_argument(
        "--condition",
        choices=("normal", "blind", "shuffled"),
        default="normal",
        help="how videos are shown: as they are, as grey frames, as their frames in random order",
    )
    options = [f"  {p.component.name}: {' '.join(_flags(p.component.config))}" for p in load_registry().of("benchmark")]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        [
            "options of a benchmark, each as --OPTION=VALUE:",
            *options,
            "",
            "Any option of the model can be changed: --model.reducer.keep_ratio=0.1",
            "Of several processes (RANK, WORLD_SIZE) each asks its share; the last one writes the results.",
        ]
    )


def run(args: argparse.Namespace) -> int:
    args.benchmark = load_registry().canonical_name("benchmark", args.benchmark)
    model_flags, rest = from_flags(args.other, "model")
    options = _options(args.benchmark, rest)
    rank, world = _processes()
    folder = args.output or _folder(args)
    check_writable(folder / "results.json")
    benchmark: Benchmark = load_registry().build("benchmark", options)
    asked = read_questions(benchmark)
    grading = benchmark.grading_options
    header = {"benchmark": args.benchmark, "options": options.model_dump(mode="json", exclude={"name", *grading})}
    header |= {"condition": args.condition, "questions": digest(asked)}
    questions = first_of_each_task(asked, args.limit) if args.limit else asked
    check_media(questions)
    checkpoint, model, about = _model(args, model_flags)
    header |= about
    from composer.evaluation.answers import AnswerFile
    from composer.evaluation.report import refuse_to_shrink
    from composer.inference.answering import refuse

    if args.limit:
        refuse_to_shrink(folder, len(questions))
    kept = AnswerFile(folder, header, rank, world, grading)
    with kept:
        with kept.asking():
            problems = _ask(kept, model, questions[rank::world], args, quiet=rank > 0)
        if problems:
            kept.wait_for_others()
            refuse(problems, len(questions), f"All others are answered in {folder}. {REMEDY}")
    del model  # a local judge needs its memory
    with kept.lock():
        merged = not kept.path.exists()
        records = kept.read()
        missing = sum(question.id not in records for question in questions)
        if missing or merged:
            # Another process is still asking, and reports when it is done; or it has reported.
            return 0
        if kept.shards():
            known = [q.id for q in questions if q.id in records]
            kept.merge({key: records[key] for key in dict.fromkeys((*known, *records))})
        answers = [records[q.id]["answer"] for q in questions]
        own = {"options": options.model_dump(mode="json", exclude={"name"}), "limit": args.limit}
        own |= {"checkpoint": {"file": str(checkpoint), "fingerprint": header["checkpoint"]}}
        _report(benchmark, questions, answers, folder, header, own)
    return 0


def _folder(args: argparse.Namespace) -> Path:
    """Where answers and results are stored if no --output is given: next to the checkpoint."""
    beside = args.checkpoint if args.checkpoint.is_dir() else args.checkpoint.parent
    condition = [] if args.condition == "normal" else [args.condition]
    return Path(beside, "evaluation", "-".join([args.benchmark.replace("/", "-"), *condition]))


def _flags(config: type) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in config.model_fields]  # type: ignore[attr-defined]


def _options(name: str, arguments: Sequence[str]) -> Any:
    """The benchmark's options. Raises ConfigError with every problem, PluginError where there is no such benchmark."""
    config = slot_config("benchmark", name)
    origin = Origin("command line")
    given = {"name": Located(name, origin)}
    remaining = list(arguments)
    while remaining:
        flag, equals, text = remaining.pop(0).partition("=")
        if not flag.startswith("--") or len(flag) < 3:
            raise ConfigError(f"{flag!r}: got a word, expected an option as --OPTION=VALUE.")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{flag}: a value is missing: {flag}=VALUE.")
            text = remaining.pop(0)
        option = flag[2:].replace("-", "_")
        given[option] = split_commas(config, option, parse_yaml(text, Origin(flag)))
    return validated(config, name, Located(given, origin))


def _processes() -> tuple[int, int]:
    """This process's rank, and the number of processes."""
    texts = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
    if not all(text.isdigit() for text in texts.values()) or not int(texts["RANK"]) < int(texts["WORLD_SIZE"]):
        raise ConfigError(f"$RANK, $WORLD_SIZE: got {texts}, expected a rank from 0 up to the number of processes.")
    return int(texts["RANK"]), int(texts["WORLD_SIZE"])


def _model(args: argparse.Namespace, flags: Layer) -> tuple[Path, "MultimodalModel", dict[str, Any]]:
    """The checkpoint's file, its model with the options that flags change, and what tells it from others."""
    from composer.inference.device import device_of
    from composer.model.checkpoint import fingerprint, locate, read_checkpoint, restore_model

    device = device_of(args.device)
    path = locate(args.checkpoint)
    checkpoint = read_checkpoint(path, resume=False)
    resolved = resolve([], flags=flags, checkpoint={"model": checkpoint["hyper_parameters"]["model"]})
    if resolved.note:
        sys.stderr.write(f"composer: {resolved.note}\n")
    model = restore_model(checkpoint, str(path), device, resolved.model)
    about = {"checkpoint": fingerprint(path), "model": recorded(resolved.model)}
    return path, model, about


def _ask(
    kept: "AnswerFile", model: "MultimodalModel", questions: Sequence[Question], args: argparse.Namespace, quiet: bool
) -> list[DataError]:
    """Answer what is not answered yet; each answer is kept at once. Returns what is wrong with those left aside."""
    from composer.evaluation.progress import progress
    from composer.inference.answering import answers

    with kept.lock():
        known = kept.read()
    problems: list[DataError] = []
    left = [question for question in questions if question.id not in known]
    with progress(args.benchmark, len(questions), len(questions) - len(left), quiet=quiet) as advance:
        found = answers(model, left, batch_size=args.batch_size, num_workers=args.num_workers, condition=args.condition)
        for question, answer in found:
            if isinstance(answer, DataError):
                if not problems:  # it may be wrong with all of them
                    sys.stderr.write(f"composer: set aside: {answer}\n")
                problems.append(answer)
            else:
                kept.append(question.id, answer, task=question.task, references=question.references)
                advance()
    return problems


def _report(
    benchmark: Benchmark,
    questions: Sequence[Question],
    answers: Sequence[str],
    folder: Path,
    header: dict[str, Any],
    own: dict[str, Any],
) -> None:
    """Grade the answers, write `results.json` and print the table. own: what replaces entries of the header there."""
    from rich.console import Console

    from composer.evaluation.grades import graded
    from composer.evaluation.report import result_record, result_table, write_result

    grades = graded(benchmark, questions, answers, folder, header)
    summary = benchmark.summarize(questions, answers, grades)
    published = benchmark.published()
    about = header | own
    if judge := benchmark.judge_id():
        about["judge"] = {**judge, "answered_as": sorted({r.model for grade in grades for r in grade.replies})}
    path = write_result(result_record(summary, benchmark.metric, published, benchmark.skipped, **about), folder)
    Console().print(result_table(summary, benchmark.metrics, published, benchmark.skipped))
    sys.stdout.write("\n".join([*listed(benchmark.skipped), f"{path}\n"]))
