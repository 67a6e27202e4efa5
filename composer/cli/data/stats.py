"""`composer data stats`: count the tokens and frames of a recipe's samples."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.atomic import check_writable, replacing
from composer.cli.data.recipe import StageData, add_recipe, read_stages
from composer.errors import ConfigError
from composer.recipe.overrides import from_environment
from composer.recipe.resolve import Recipe, resolve

if TYPE_CHECKING:
    from rich.table import Table

    from composer.data.tools.stats import Lengths

SUMMARY = "count tokens and frames, and samples that exceed the context"
DESCRIPTION = (
    "Count the text and media tokens of training samples and the frames of videos, per stage. Prints a table, and "
    "writes stats.json and a figure per stage to DIR. Needs no weights, and decodes at most one frame per media item."
)


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument(
        "--limit", type=int, default=2000, metavar="N", help="records to read per source (default: 2000)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice of records (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="output folder (default: runs/RECIPE/data)")


def run(args: argparse.Namespace) -> int:
    if args.limit < 1 or args.seed < 0:
        raise ConfigError(f"--limit, --seed: got {args.limit} and {args.seed}, expected at least 1 and at least 0")
    environment = from_environment(os.environ)
    stages = [
        (stage, resolve(stage.files, environment=environment)) for stage in read_stages(args) if stage.sources["train"]
    ]
    if not stages:
        raise ConfigError(f"{args.recipe}: data.train: got no source in any stage, expected at least one")
    name = (args.recipe if args.recipe.is_file() else args.recipe.resolve()).stem
    output = args.output or Path("runs") / name / "data"
    check_writable(output / "stats.json")
    from rich.console import Console

    from composer.data.tools.stats import METRICS, histogram
    from composer.figures.histograms import draw_histograms
    from composer.figures.tables import print_table

    console = Console(highlight=False)
    summaries: dict[str, object] = {}
    for stage, recipe in stages:
        lengths, context, frames = _measure(stage, recipe, args.limit, args.seed)
        if bad := [reason for source in lengths for reason in source.unreadable]:
            sys.stderr.write(
                f"composer: {len(bad):,} records could not be read; the first: {bad[0]}. `composer data check` lists "
                "all\n"
            )
        if not any(source.read for source in lengths):
            raise ConfigError(f"{stage.name}: no record could be read: run `composer data check`")
        described = _describe(lengths, context)
        print_table(
            _table(f"{stage.name}: context {context or 'unlimited'}, {frames} frames per video", described), console
        )
        counted = {metric: histogram(lengths, metric) for metric in METRICS}
        summaries[stage.name] = {
            "context": context,
            "frames": frames,
            "sources": described,
            "histograms": {m: {"edges": e.tolist(), "shares": s.tolist()} for m, (e, s) in counted.items()},
        }
        with replacing(output / f"{stage.name}.png") as temporary:
            limits = {} if context is None else {"positions": context}
            shown = {m: h for m, h in counted.items() if h[1].any()}
            draw_histograms(shown, limits, temporary, title=f"{stage.name}: {', '.join(s.name for s in lengths)}")
    with replacing(output / "stats.json") as temporary:
        record = {"limit": args.limit, "seed": args.seed, "stages": summaries}
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"At most {args.limit:,} records of each source, spread evenly, seed {args.seed}. Figures: {output}")
    return 0


def _measure(stage: StageData, recipe: Recipe, limit: int, seed: int) -> tuple[list["Lengths"], int | None, int]:
    """Measure a stage's training sources. Returns their lengths, the context length and the frames per video."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.data.tools.stats import stats
    from composer.planning.build import build_meta

    processor = build_meta(recipe.model).processor
    if processor.tokenizer.vocab_size == 257 and getattr(recipe.model.backbone, "pretrained", None):
        sys.stderr.write(
            f"composer: {stage.name}: text is counted in bytes, because the tokenizer of "
            f"{recipe.model.backbone.name!r} is stored with its weights, which are not loaded; set "
            "model.prompt.tokenizer to count tokens\n"
        )
    frames = stage.data.frames
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(stage.name, total=None)
        lengths = stats(
            stage.sources["train"],
            processor,
            frames=frames,
            limit=limit,
            seed=seed,
            on_start=lambda records: bar.update(task, total=records),
            on_progress=lambda: bar.advance(task),
        )
    return lengths, processor.context_length, frames


def _describe(lengths: Sequence["Lengths"], context: int | None) -> dict[str, dict[str, Any]]:
    """Summarize each source, and all of them as mixed in training."""
    from composer.data.tools.stats import summarize

    summaries: dict[str, dict[str, Any]] = {
        source.name: {
            "records": source.records,
            "read": source.read,
            "unreadable": len(source.unreadable),
            "samples": source.samples,
            **summarize([source], context),
        }
        for source in lengths
    }
    counts = {key: sum(one[key] for one in summaries.values()) for key in ("records", "read", "unreadable", "samples")}
    return summaries | {"all": {**counts, **summarize(lengths, context)}}


def _table(title: str, sources: Mapping[str, Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    shown = {
        "text tokens": ("p50", "p95", "max"),
        "visual tokens": ("p50", "p95", "max"),
        "positions": ("p50", "p95", "p99", "max"),
        "frames of a video": ("p50", "max"),
    }
    table = Table("source", title=title, title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for column in ("read", *(f"{metric}\n{' / '.join(names)}" for metric, names in shown.items()), "over context"):
        table.add_column(column, justify="right")
    for name, about in sources.items():
        cells = [" / ".join(f"{about[m][n]:,}" for n in names) if m in about else "-" for m, names in shown.items()]
        over = about.get("positions", {}).get("over context")
        table.add_row(
            name,
            f"{about['read']:,} of {about['records']:,}",
            *cells,
            "-" if over is None else f"{over:.1%}",
            style="bold" if name == "all" else None,
        )
    return table
