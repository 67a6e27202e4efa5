"""Reading of official benchmark files: JSON, validation of records, and paths of videos."""

import json
import os.path
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from composer.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".MP4", ".avi", ".mov")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises DataError if it cannot be read or is not JSON."""
    text = read_text(path)
    try:
        return parse_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; set --root to the folder of the official files"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); download it again") from error


def parse_json(text: str) -> Any:
    """Parse JSON. Raises DataError if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"got no JSON ({error}), expected the official list; download it again") from error


def read_list(path: Path) -> list[object]:
    """Return the records of a JSON list in a file. Raises DataError if it is not a list, or empty."""
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: got {type(records).__name__}, expected a list of records; download it again")
    return records


def check_record(record: object, names: Iterable[str], *, may_be_empty: Iterable[str] = ()) -> Mapping[str, Any]:
    """Check that a record is a mapping with text at the given keys.

    Args:
        record: The record.
        names: Keys of non-blank text.
        may_be_empty: Keys of text that may be empty.

    Returns:
        The record.

    Raises:
        DataError: If the record is invalid.
    """
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
    """Return whether a value is text or a number that can be encoded as UTF-8."""
    if not isinstance(value, str | int | float):
        return False
    try:
        str(value).encode()
    except ValueError:  # half of a surrogate pair, or an integer of more than 4,300 digits
        return False
    return True


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def first_of(paths: Iterable[Path]) -> Path:
    """Return the first path that exists, else the first one, for the error message."""
    candidates = list(paths)
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def video_path(folder: Path, name: str) -> Path:
    """Return the path of a video, by its name with or without suffix; the expected path if it does not exist."""
    path = folder / name
    if path.suffix in VIDEO_SUFFIXES and os.path.exists(path):
        return path
    return first_of(folder / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES)
