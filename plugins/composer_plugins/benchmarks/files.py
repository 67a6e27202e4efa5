"""What the official files of all benchmarks need: JSON that is checked, fields that are there, videos by name."""

import json
import os.path
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from composer.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".MP4", ".avi", ".mov")


def read_json(path: Path) -> Any:
    """What an official file holds. Raises DataError where it cannot be read or is no JSON."""
    text = read_text(path)
    try:
        return parse_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


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


def parse_json(text: str) -> Any:
    """Raises DataError for what is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"got no JSON ({error}), expected the official list; download it again") from error


def read_list(path: Path) -> list[Any]:
    """The records of a file that is a list. Raises DataError where it is another thing, or empty."""
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: got {type(records).__name__}, expected a list of records; download it again.")
    return records


def checked(record: object, names: Iterable[str], *, may_be_empty: Iterable[str] = ()) -> Mapping[str, Any]:
    """The record, if it is a mapping with text at each of these names. Raises DataError with what is wrong."""
    if not isinstance(record, dict):
        raise DataError(f"got {record!r}, expected a mapping")
    for name in names:
        if not is_text(record.get(name)) or not str(record[name]).strip():
            raise DataError(f"{name}: got {record.get(name)!r}, expected text")
    for name in may_be_empty:
        if not is_text(record.get(name)):
            raise DataError(f"{name}: got {record.get(name)!r}, expected text")
    return record


def is_text(value: object) -> bool:
    """Whether a value is text or a number that can be written as UTF-8; JSON can hold halves of characters."""
    if not isinstance(value, str | int | float):
        return False
    try:
        str(value).encode()
    except ValueError:  # half of a character, or an integer of more than 4,300 digits
        return False
    return True


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def first_of(paths: Iterable[Path]) -> Path:
    """The first of these that exists, else the first, for the error that names it."""
    candidates = list(paths)
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def video_named(folder: Path, name: str) -> Path:
    """The video of this name, with or without its suffix; where there is none, the path that was expected."""
    own = folder / name
    if own.suffix in VIDEO_SUFFIXES and os.path.exists(own):
        return own
    return first_of(folder / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)
