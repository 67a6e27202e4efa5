"""What the readers of JSON records share."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.errors import DataError
from composer.reader import Reader
from composer.records import JsonRecords
from composer.sample import Sample


class JsonReader(Reader):
    """A reader of JSON objects. Its errors start with file and line."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.records = Path(path), JsonRecords(path)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        index = range(len(self))[index]
        record = self.records[index]
        try:
            if not isinstance(record, Mapping):
                raise DataError(f"expected a JSON object, got {type(record).__name__}")
            return self.sample(record, index)
        except DataError as error:
            raise DataError(f"{self.place(index)}: {error}") from None

    def place(self, index: int) -> str:
        """Where a record stands: "file:line", or its number (from 1) in a JSON list."""
        return self.records.place(index)

    @abstractmethod
    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        """A record as a sample. Raises DataError, which does not name the record's place."""


def text_of(record: Mapping[str, Any], key: str) -> str:
    """A text that must be there. Raises DataError."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'"{key}": expected text, got {value!r}')
    return value
