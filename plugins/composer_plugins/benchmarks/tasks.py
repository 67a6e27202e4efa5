"""Selection of a benchmark's tasks."""

from collections.abc import Sequence

from composer.errors import DataError


def select_tasks(tasks: Sequence[str], known: Sequence[str], benchmark: str) -> tuple[str, ...]:
    """Return the tasks in the order of `known`; all if `tasks` is empty. Raises DataError for unknown tasks."""
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise DataError(f"{benchmark}.tasks: got {', '.join(unknown)}, expected some of {', '.join(known)}")
    return tuple(task for task in known if task in tasks) if tasks else tuple(known)
