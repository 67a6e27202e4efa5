"""What the official files of all benchmarks need: JSON that is checked, fields that are there, videos by name."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from composer.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".MP4", ".avi", ".mov")


def read_json(path: Path) -> Any:
    """What an official file holds. Raises DataError where it cannot be read or is no JSON."""
    return parse_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Raises DataError where an official file cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; give --root the folder of the official files."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: got no UTF-8 text ({error}); download it again.") from error


def parse_json(text: str, where: str) -> Any:
    """Raises DataError for what is no JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: got no JSON ({error}), expected the official list; download it again.") from error


def read_list(path: Path) -> list[Any]:
    """The records of a file that is a list. Raises DataError where it is another thing, or empty."""
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: got {type(records).__name__}, expected a list of records; download it again.")
    return records


def problem_of(record: object, names: Iterable[str]) -> str | None:
    """What is wrong with a record that must be a mapping with text at each of these names."""
    if not isinstance(record, dict):
        return f"got {record!r}, expected a mapping"
    for name in names:
        value = record.get(name)
        if not isinstance(value, str | int | float) or not str(value).strip():
            return f"{name}: got {value!r}, expected text"
    return None


def checked(record: object, names: Iterable[str], where: str) -> Mapping[str, Any]:
    """The record, a mapping with text at each of these names. Raises DataError with `where`."""
    if problem := problem_of(record, names):
        raise DataError(f"{where}: {problem}; download the file again, or mend the record.")
    assert isinstance(record, dict)
    return record


def first_of(paths: Iterable[Path]) -> Path:
    """The first of these that exists, else the first, for the error that names it."""
    candidates = list(paths)
    return next((path for path in candidates if path.exists()), candidates[0])


def video_named(folder: Path, name: str) -> Path:
    """The video of this name, with or without its suffix; where there is none, the path that was expected."""
    own = folder / name
    if own.suffix in VIDEO_SUFFIXES and own.exists():
        return own
    return first_of(folder / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)
