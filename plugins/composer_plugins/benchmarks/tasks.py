"""Which tasks of a benchmark to ask."""

from collections.abc import Sequence

from composer.errors import DataError


def chosen(tasks: Sequence[str], known: Sequence[str], benchmark: str) -> tuple[str, ...]:
    """The tasks to ask, in the order of `known`; all where none is named. Raises DataError for an unknown one."""
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise DataError(f"{benchmark}.tasks: got {', '.join(unknown)}, expected some of {', '.join(known)}.")
    return tuple(task for task in known if task in tasks) if tasks else tuple(known)
