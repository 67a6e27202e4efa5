"""Table of a run's trained parts and learning rates."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from torch import nn

from composer.figures.tables import print_table
from composer.training.optim import OptimizerGroup


def print_parts(
    parts: Mapping[str, nn.Module],
    components: Mapping[str, str],
    groups: Sequence[OptimizerGroup],
    console: Console | None = None,
) -> None:
    """Print a row for each part: component, number of parameters, number of trained ones, peak learning rate.

    Args:
        parts: Result of `MultimodalModel.parts`.
        components: Component of each part.
        groups: Groups of the optimizer.
        console: Where to print; standard error if None.
    """
    table = Table("part", "component", box=None, padding=(0, 2), header_style="bold")
    for heading in ("parameters", "trained", "learning rate"):
        table.add_column(heading, justify="right")
    for name, part in parts.items():
        own = [group for group in groups if group["name"] == name]
        parameters = _count(part.parameters())
        trained = sum(_count(group["params"]) for group in own)
        rates = sorted({f"{group['lr']:.3g}" for group in own}, key=float)
        rate = " to ".join((rates[0], rates[-1])[: len(rates)]) if rates else ("frozen" if parameters else "-")
        table.add_row(name, components[name] or "-", f"{parameters:,}", f"{trained:,}", rate)
    total = _count(p for part in parts.values() for p in part.parameters())
    trained = sum(_count(group["params"]) for group in groups)
    table.add_row("all", "", f"{total:,}", f"{trained:,}", "", style="bold")
    print_table(table, console or Console(stderr=True))


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
