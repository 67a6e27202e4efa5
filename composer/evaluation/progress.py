"""Progress bar of questions and grades."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(title: str, total: int, done: int, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Draw a bar on standard error, unless `quiet`. Yields a function that advances it by one, from any thread."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)
