"""What readers of records share: files of JSON or parquet as one sequence, and errors that name the place.

`path` is one file, a folder (all parquet files in and below it) or a pattern such as `*/*_cap.json`; several files are
read in the order of their names.
"""

import glob
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from composer.errors import DataError
from composer.reader import Reader
from composer.records import JsonRecords
from composer.sample import Sample


class Records(Protocol):
    """The records of one file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def location(self, index: int) -> str:
        """Where a record stands, for messages."""
        ...


class RecordReader(Reader):
    """A reader of JSON objects or parquet rows. Its errors start with file and line, or row.

    Raises DataError for a path that names no file, and for files that cannot be read or hold nothing.
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
                raise DataError(f"expected a JSON object, got {type(record).__name__}")
            return self.sample(record, index)
        except DataError as error:
            raise DataError(f"{self.location(index)}: {error}") from None

    def location(self, index: int) -> str:
        """Where a record stands: "file:line", or its number (from 1) in a JSON list or a parquet file."""
        number, row = self._find(index)
        return self.records[number].location(row)

    def where(self, index: int) -> tuple[Path, int]:
        """The file that holds a record, and the record's number (from 0) in it."""
        number, row = self._find(index)
        return self.files[number], row

    def id_of(self, record: Mapping[str, Any], index: int, *keys: str) -> str:
        """The first of these keys that holds something; else the file's name and the record's number in all files."""
        file, _ = self.where(index)
        return next((str(record[key]) for key in keys if record.get(key) is not None), f"{file.stem}-{index}")

    @abstractmethod
    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        """A record as a sample. Raises DataError, which does not name the record's place."""

    def _find(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)


def text_of(record: Mapping[str, Any], key: str) -> str:
    """A text that must be there. Raises DataError."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'"{key}": expected text, got {value!r}')
    return value


def _files(path: Path) -> list[Path]:
    if path.is_file():  # also one whose name has brackets, which a pattern gives a meaning
        return [path]
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
        if not found:
            raise DataError(f"{path}: no parquet file in this folder; name other files by a pattern, such as *.json")
        return found
    if not any(sign in str(path) for sign in "*?["):
        return [path]  # its records say that it is missing
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found:
        raise DataError(f"{path}: no file has a name of this pattern")
    return found


def _open(file: Path) -> Records:
    if file.suffix != ".parquet":
        return JsonRecords(file)
    from composer_plugins.readers.parquet import ParquetRecords  # needs a package that JSON does not

    return ParquetRecords(file)
