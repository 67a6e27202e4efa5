"""Durable JSON Lines files: a header that identifies the run, then records."""

import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TextIO, TypeVar

from composer.atomic import writing
from composer.errors import DataError
from composer.recipe.explain import differing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
Header = Mapping[str, object]
"""The first line of a journal: plain values that JSON can hold. Every run with the same header may share the file."""


class Contents(NamedTuple, Generic[Record]):
    """Kind of a journal's records.

    Attributes:
        noun: Name of the records in errors, such as "answers".
        verb: What makes them, in errors, such as "ask".
        parse: Converts a line's mapping to a record; raises KeyError, TypeError or ValueError if it is not one.
    """

    noun: str
    verb: str
    parse: Callable[[dict[str, Any]], Record]


class Journal(Generic[Record]):
    """A journal file. An incomplete last line of a killed process is ignored and overwritten.

    Args:
        path: The file.
        header: Its header.
        contents: Kind of its records.
        free: Names in the header's `options` that may differ from the file's or be missing from it.
    """

    def __init__(self, path: Path, header: Header, contents: Contents[Record], free: Set[str] = frozenset()) -> None:
        self.path, self.contents, self.free = path, contents, free
        self.header: Header = json.loads(json.dumps(header))
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file to append. Raises DataError if its header differs."""
        self.read()
        _drop_torn_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write(self.header)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with writing(self.path):
                self._file.close()

    def append(self, record: Record) -> None:
        """Write a record; it is durable when the method returns. Raises DiskFullError."""
        self._write(asdict(record))

    def read(self) -> list[Record]:
        """Read all records. Raises DataError if the header differs, and for a line that is not a record."""
        if differences := self.differences():
            raise DataError(
                f"{self.path} contains {self.contents.noun} of a different run ({'; '.join(differences)}): give "
                f"another --output, or remove the file to {self.contents.verb} again"
            )
        return [self._record(number, line) for number, line in enumerate(self._lines(), start=1) if number > 1]

    def differences(self) -> list[str]:
        """Differences between the file's header and this one; [] if the file has no header yet."""
        first = next(self._lines(), None)
        if first is None:
            return []
        got, expected = self._comparable(self._mapping(1, first)), self._comparable(self.header)
        return [
            f"{place}: got {old!r}, expected {new!r}"
            for key in dict.fromkeys((*expected, *got))
            for place, old, new in differing(got.get(key), expected.get(key), key)
        ]

    def _write(self, line: Header) -> None:
        assert self._file is not None, "records are written inside the with block"
        with writing(self.path):
            self._file.write(line_of(line))
            self._file.flush()

    def _lines(self) -> Iterator[bytes]:
        """The complete lines."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return (line for line in content.splitlines(keepends=True) if line.endswith(b"\n"))

    def _record(self, number: int, line: bytes) -> Record:
        mapping = self._mapping(number, line)
        try:
            return self.contents.parse(mapping)
        except (KeyError, TypeError, ValueError) as error:
            raise self._not_a_record(number, line) from error

    def _mapping(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            mapping = json.loads(line)
        except ValueError as error:
            raise self._not_a_record(number, line) from error
        if not isinstance(mapping, dict):
            raise self._not_a_record(number, line)
        return mapping

    def _not_a_record(self, number: int, line: bytes) -> DataError:
        return DataError(
            f"{self.path}:{number}: got {line[:60]!r}, expected a record written by composer: remove the line, or the "
            f"file to {self.contents.verb} again"
        )

    def _comparable(self, header: Header) -> Header:
        """A header without the options that are free."""
        options = header.get("options")
        if not isinstance(options, dict):
            return header
        return {**header, "options": {name: value for name, value in options.items() if name not in self.free}}


def line_of(mapping: Header) -> str:
    """Convert a mapping to a line."""
    return json.dumps(mapping, ensure_ascii=False) + "\n"


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            with path.open("r+b") as file:
                file.truncate(end)
