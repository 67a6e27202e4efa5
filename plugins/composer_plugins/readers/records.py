"""Base of record readers: JSON or parquet files as one sequence, with the record's location in errors.

`path` is a file, a folder (all parquet files in and below it) or a pattern, for example `*/*_cap.json`. Several files
are read in the order of their names.
"""

import glob
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from composer.errors import DataError
from composer.reader import Reader
from composer.records import JsonRecords
from composer.sample import Sample


class Records(Protocol):
    """The records of one file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...

    def location(self, index: int) -> str:
        """Return the location of a record, for messages."""
        ...


class RecordReader(Reader):
    """A reader of JSON objects or parquet rows. Its errors start with the file and the line or row.

    Args:
        path: Data file, folder or pattern.

    Raises:
        DataError: If no file matches the path, or a file cannot be read or is empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.files = _files(Path(path))
        self.records = [_open(file) for file in self.files]
        self._ends = np.cumsum([len(records) for records in self.records])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        index = range(len(self))[index]
        number, row = self._find(index)
        record = self.records[number][row]
        try:
            if not isinstance(record, Mapping):
                raise DataError(f"got {type(record).__name__}, expected a JSON object")
            return self.sample(record, index)
        except DataError as error:
            raise DataError(f"{self.location(index)}: {error}") from None

    def location(self, index: int) -> str:
        """Return "file:line" of a record, or its number (from 1) in a JSON list or parquet file."""
        number, row = self._find(index)
        return self.records[number].location(row)

    def file_of(self, index: int) -> tuple[Path, int]:
        """Return the file of a record, and the record's index within it."""
        number, row = self._find(index)
        return self.files[number], row

    def id_of(self, record: Mapping[str, object], index: int, *keys: str) -> str:
        """Return the value of the first key that is present, else the file's name and the record's index."""
        file, _ = self.file_of(index)
        return next((str(record[key]) for key in keys if record.get(key) is not None), f"{file.stem}-{index}")

    @abstractmethod
    def sample(self, record: Mapping[str, object], index: int) -> Sample:
        """Convert a record to a sample.

        Args:
            record: The record.
            index: Index of the record in all files.

        Raises:
            DataError: If the record is invalid; the caller adds its location.
        """

    def _find(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)


def text_of(record: Mapping[str, object], key: str) -> str:
    """Return the text at a key. Raises DataError if it is missing or blank."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'"{key}": got {value!r}, expected text')
    return value


def _files(path: Path) -> list[Path]:
    if path.is_file():  # also if its name contains characters of a pattern
        return [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        if not files:
            raise DataError(
                f"{path}: got no parquet files in this folder; use a pattern for other files, for example *.json"
            )
        return files
    if not any(character in str(path) for character in "*?["):
        return [path]  # opening it reports that it is missing
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not files:
        raise DataError(f"{path}: no file matches this pattern")
    return files


def _open(file: Path) -> Records:
    if file.suffix != ".parquet":
        return JsonRecords(file)
    from composer_plugins.readers.parquet import ParquetRecords  # needs an optional package

    return ParquetRecords(file)
