"""JSON Lines that outlive the process which appends them: a header that says what they are of, then records."""

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

from composer.atomic import writing
from composer.errors import DataError
from composer.recipe.explain import differing


class Contents(NamedTuple):
    """What a journal holds, for its errors: "answers", and "ask" for how to get others. fields: of every record."""

    noun: str
    verb: str
    fields: frozenset[str]


class Journal:
    """One file. A line that a killed process left unfinished is none, and is written over.

    free: options that may be others in the file's header, or be there at all.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], contents: Contents, free: Set[str] = frozenset()) -> None:
        self.path, self.header, self.contents, self.free = path, json.loads(json.dumps(header)), contents, free
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file to append. Raises DataError where it has another header."""
        self.read()
        _drop_torn_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self.append(self.header)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with writing(self.path):
                self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record; it outlives the process from here on. Raises DiskFullError."""
        assert self._file is not None, "records are kept inside the with block"
        with writing(self.path):
            self._file.write(line_of(record))
            self._file.flush()

    def read(self) -> list[dict[str, Any]]:
        """The records so far. Raises DataError for another header, and for a line that nobody wrote."""
        if not self.path.exists():
            return []
        lines = self._lines()
        for header in lines:
            self._check(header)
            break
        return list(lines)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or (number > 1 and not self.contents.fields <= record.keys()):
                raise DataError(
                    f"{self.path}:{number}: got {line[:60]!r}, expected a record that `composer evaluate` wrote: "
                    f"remove the line, or the file to {self.contents.verb} again."
                )
            yield record

    def _check(self, header: Mapping[str, Any]) -> None:
        got, expected = self._compared(header), self._compared(self.header)
        others = [
            f"{place}: got {old!r}, expected {new!r}"
            for key in dict.fromkeys((*expected, *got))
            for place, old, new in differing(got.get(key), expected.get(key), key)
        ]
        if others:
            raise DataError(
                f"{self.path} holds {self.contents.noun} of another run ({'; '.join(others)}): give another "
                f"--output, or remove the file to {self.contents.verb} again."
            )

    def _compared(self, header: Mapping[str, Any]) -> Mapping[str, Any]:
        """A header without the options that are free."""
        options = header.get("options")
        if not isinstance(options, dict):
            return header
        return {**header, "options": {name: value for name, value in options.items() if name not in self.free}}


def line_of(record: Mapping[str, Any]) -> str:
    """A record as its line."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
