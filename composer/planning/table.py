"""A plan as tables."""

from rich.console import Console
from rich.table import Table

from composer.planning.plan import Plan
from composer.planning.stage import StagePlan

NOTES = (
    "FLOPs: 2 for each multiply-add, forward and backward, all epochs; attention and matrices, not elementwise work.",
    "Activations: measured on shapes without fused kernels, so an upper bound; of one batch, or of one packed row.",
    "Sources are videos where their name or folder says so, and a file given by its path counts as videos.",
)


KINDS = ("image", "video")


def show(plan: Plan, console: Console | None = None) -> None:
    """Print the parts, the stages, and everything that does not fit."""
    console = console or Console()
    console.print(_parts(plan))
    console.print(_stages(plan))
    assumed = plan.assumptions
    console.print(
        f"Assumed: {assumed.text_tokens} tokens of text a sample; {assumed.devices} x {assumed.device} at "
        f"{assumed.utilization:.0%} of their peak, decoding and loading not counted."
    )
    for note in NOTES:
        console.print(note, style="dim")
    misfits = [(stage.name, said) for stage in plan.stages for said in stage.misfits]
    for name, said in misfits:
        console.print(f"{name}: {said}", style="yellow", markup=False)
    if not misfits:
        console.print("Everything fits together.", style="green")


def _parts(plan: Plan) -> Table:
    table = Table("part", box=None, padding=(0, 2), header_style="bold")
    table.add_column("parameters", justify="right")
    for stage in plan.stages:
        table.add_column(stage.name)
    for part, count in plan.parameters.items():
        if part == "total":
            cells = [f"{stage.trained_parameters:,}" for stage in plan.stages]
            table.add_row("all", f"{count:,}", *cells, style="bold")
        else:
            cells = [f"trained, {s.learning_rates[part]:g}" if part in s.trains else "frozen" for s in plan.stages]
            table.add_row(part, f"{count:,}", *(cells if count else ["-"] * len(cells)))
    return table


def _stages(plan: Plan) -> Table:
    table = Table("stage", box=None, padding=(0, 2), header_style="bold")
    for stage in plan.stages:
        table.add_column(stage.name, justify="right")
    columns = [dict(_lines(stage)) for stage in plan.stages]
    for line in dict.fromkeys(key for column in columns for key in column):
        table.add_row(line, *(column.get(line, "-") for column in columns))
    return table


def _lines(stage: StagePlan) -> list[tuple[str, str]]:
    claim = "" if stage.expected_samples is None else f" of {stage.expected_samples:,}"
    return [
        ("epochs", f"{stage.epochs}"),
        ("peak learning rate", f"{stage.peak_lr:g}"),
        ("batch size", f"{stage.batch_size:,}"),
        ("kept ratio", f"{stage.keep_ratio:.0%}"),
        ("tokens a frame", f"{stage.tokens_per_frame}"),
        *((f"visual tokens, {kind}", _thousands(stage.visual_tokens.get(kind))) for kind in KINDS),
        ("longest prompt / context", f"{stage.longest_prompt:,} / {_thousands(stage.context)}"),
        ("samples of an epoch", "unknown" if stage.samples is None else f"{stage.samples:,}{claim}"),
        ("steps", "unknown" if stage.steps is None else f"{stage.steps:,}"),
        ("tokens", "unknown" if stage.tokens is None else f"{stage.tokens / 1e9:,.2f} G"),
        *((f"GFLOP, {kind}", _thousands(stage.flops_per_sample.get(kind), 1e9)) for kind in KINDS),
        ("EFLOP", "unknown" if stage.flops is None else f"{stage.flops / 1e18:,.1f}"),
        *((f"GiB, {what}", f"{size:.1f}") for what, size in stage.memory_gib.items()),
        ("GiB, checkpoint", f"{stage.checkpoint_gib:.1f}"),
        ("hours", "unknown" if stage.hours is None else f"{stage.hours:,.1f}"),
    ]


def _thousands(number: float | None, unit: float = 1) -> str:
    return "-" if number is None else f"{number / unit:,.0f}"
