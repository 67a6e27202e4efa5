"""A plan as tables."""

from rich.console import Console
from rich.table import Table

from composer.figures.tables import print_table
from composer.planning.plan import Plan
from composer.planning.stage import StagePlan

NOTES = (
    "FLOPs: 2 for each multiply-add, forward and backward, all epochs; attention and matrices, not elementwise work.",
    "Activations: of one batch, or of one packed row, traced on shapes as the device's kernels keep them.",
    "Memory, total: if a step is one batch, gradients take the place of its activations.",
    "Sources are videos if their name or folder says so, and a file given by its path counts as videos.",
)

KINDS = ("image", "video")
SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
COUNTS = ("", "k", "M", "G", "T", "P", "E", "Z")


def show(plan: Plan, console: Console | None = None) -> None:
    """Print the parts, the stages, and everything that does not fit. No table is cut, however narrow the console."""
    console = console or Console()
    for table in (_parts(plan), _stages(plan)):
        print_table(table, console)
    assumed = plan.assumptions
    console.print(
        f"Assumed: {assumed.text_tokens} tokens of text per sample; {assumed.devices} x {assumed.device} at "
        f"{assumed.utilization:.0%} of their peak, decoding and loading not counted."
    )
    for note in NOTES:
        console.print(note, style="dim")
    misfits = [(stage.name, misfit) for stage in plan.stages for misfit in stage.misfits]
    for name, misfit in misfits:
        console.print(f"{name}: {misfit}", style="yellow", markup=False)
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
        ("tokens per frame", f"{stage.tokens_per_frame}"),
        *((f"visual tokens, {kind}", _grouped(stage.visual_tokens.get(kind))) for kind in KINDS),
        ("longest prompt / context", f"{stage.longest_prompt:,} / {_grouped(stage.context)}"),
        ("samples per epoch", "unknown" if stage.samples is None else f"{stage.samples:,}{claim}"),
        ("steps", "unknown" if stage.steps is None else f"{stage.steps:,}"),
        ("tokens", _count(stage.tokens)),
        *((f"FLOPs, {kind}", _count(stage.flops_per_sample.get(kind), missing="-")) for kind in KINDS),
        ("FLOPs", _count(stage.flops)),
        *((f"memory, {what}", _size(size)) for what, size in stage.memory_gib.items()),
        ("checkpoint", _size(stage.checkpoint_gib)),
        ("time", _time(stage.hours)),
    ]


def _grouped(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _count(number: float | None, missing: str = "unknown") -> str:
    return missing if number is None else _scaled(number, 1000, COUNTS)


def _size(gib: float) -> str:
    return _scaled(gib * 2**30, 1024, SIZES)


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    """Three or more digits and the unit in which the number is at least 1."""
    power = 0
    while abs(number) >= base and power < len(units) - 1:
        number, power = number / base, power + 1
    digits = 0 if power == 0 or number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{digits}f} {units[power]}".rstrip()


def _time(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
