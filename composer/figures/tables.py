"""Tables for a terminal or a pipe."""

from rich.console import Console
from rich.table import Table

WIDEST = 10_000


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table without cutting or wrapping a cell, however narrow the console.

    Args:
        table: Any table. Its lines are longer than the console if its cells need that.
        console: Where to print; stdout if not given.
    """
    console = console or Console()
    width = console.width
    console.width = max(width, console.measure(table, options=console.options.update(max_width=WIDEST)).maximum)
    console.print(table)
    console.width = width
