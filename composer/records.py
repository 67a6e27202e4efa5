"""Any record of a large file at once: JSON Lines, one JSON list, CSV. What readers are made of. No torch here."""

import csv
import io
import json
import mmap
import os
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.errors import DataError

CHUNK = 2**26
STRIDE = 2**20
SHORT = 64
"""Bytes of a line that may be blank: no record of use is so short, and looking at each costs time."""

ROW = re.compile(
    rb'(?:[^"\n]++'  # neither a quote nor the end
    rb'|"(?:(?<![^,\r\n]")|(?<=\A\xef\xbb\xbf"))[^"]*+(?:""[^"]*+)*+"?'  # quoted: the quote begins the value
    rb'|")*+\n?'  # any other quote stands for itself
)
"""A row of CSV as Python's csv module reads it, whatever its encoding: all that are offered keep ASCII."""

SPACE, COMMA = re.compile(r"[ \t\n\r]*"), re.compile(r"[ \t\n\r]*,?[ \t\n\r]*")
"""What stands before, and between, the elements of a JSON list."""


class _Lines(ABC):
    """The lines of a file that hold something. Only where they start is kept, 8 bytes each."""

    def __init__(self, path: str | Path, starts: NDArray[np.int64], encoding: str = "utf-8-sig") -> None:
        self.path, self.encoding = Path(path), encoding
        self._starts = starts
        self._breaks = array("q", [0])
        """Line breaks before each `STRIDE` of the file, as far as counted: a place in any order is found fast."""

    def __len__(self) -> int:
        return len(self._starts)

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    def location(self, index: int) -> str:
        """Where a record stands: "file:line"."""
        start = int(self._starts[index])
        stride, rest = divmod(start, STRIDE)
        with self.path.open("rb") as file:
            file.seek((len(self._breaks) - 1) * STRIDE)
            while len(self._breaks) <= stride:
                self._breaks.append(self._breaks[-1] + file.read(STRIDE).count(b"\n"))
            file.seek(stride * STRIDE)
            line = self._breaks[stride] + file.read(rest).count(b"\n") + 1
        return f"{self.path}:{line}"

    def _text(self, index: int) -> str:
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            size = self._starts[index + 1] - self._starts[index] if index + 1 < len(self._starts) else -1
            line = file.read(size)
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError as error:
            name = self.encoding.removesuffix("-sig").upper()
            raise DataError(f"{_Lines.location(self, index)}: not {name}: {error}") from None


class JsonRecords(_Lines):
    """The values of a JSON Lines file or of one JSON list. Only where each value starts is kept of either.

    Opening JSON Lines parses the first line; opening a list parses all of it once. Raises DataError, with file and
    line, for a file that cannot be read or is empty, for a list that is broken, and for a value that is no JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self._listed = _head(Path(path)).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        super().__init__(path, (_element_starts if self._listed else _line_starts)(Path(path)))
        if not len(self):
            raise DataError(f"{path}: no records in it, expected a JSON list or one JSON object a line")
        if not self._listed and len(self) > 1:
            _check_lines(self)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        text = self._text(index)
        try:  # behind an element stand a comma and what follows
            value = json.JSONDecoder().raw_decode(text)[0] if self._listed else json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.location(index)}: not JSON: {error.msg} (column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
            raise DataError(f"{self.location(index)}: not JSON that Python reads: {error}") from None
        if "\\ud" in text or "\\uD" in text:
            self._check_whole(value, index)
        return value

    def location(self, index: int) -> str:
        """Where a record stands: "file:line", or its number (from 1) in a JSON list."""
        return f"{self.path}: record {index + 1}" if self._listed else super().location(index)

    def _check_whole(self, value: Any, index: int) -> None:
        """Raises DataError for half of a surrogate pair, which is no text and fails in every tokenizer."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise DataError(
                f"{self.location(index)}: got {half!r}, half of a character, expected both halves: mend the text"
            ) from None


class CsvRecords(_Lines):
    """The rows of a CSV file as mappings from column to text. columns: the names in its first line.

    Raises DataError, with file and line, for a file without rows, and for a row that has not one value per column.
    """

    def __init__(self, path: str | Path, encoding: str = "utf-8-sig") -> None:
        _head(Path(path))
        super().__init__(path, _row_starts(Path(path)), encoding)
        if len(self._starts) < 2:
            raise DataError(f"{path}: no rows in it, expected CSV: a line of column names, then one row a record")
        self.columns = tuple(self._row(0))

    def __len__(self) -> int:
        return super().__len__() - 1

    def __getitem__(self, index: int) -> dict[str, str]:
        index = range(len(self))[index]
        row = self._row(index + 1)
        if len(row) != len(self.columns):
            raise DataError(
                f"{self.location(index)}: got {len(row)} values, expected {len(self.columns)}, one per column"
            )
        return dict(zip(self.columns, row, strict=True))

    def location(self, index: int) -> str:
        """Where a row stands: the file and its first line."""
        return super().location(index + 1)

    def _row(self, line: int) -> list[str]:
        try:
            row, *more = csv.reader(io.StringIO(self._text(line), newline=""), strict=True)
        except csv.Error as error:
            raise DataError(f"{super().location(line)}: not CSV: {error}") from None
        if any("".join(other).strip() for other in more):
            raise DataError(
                f"{super().location(line)}: got several rows, expected one: "
                "end rows in a line feed, not in a carriage return alone"
            )
        return row


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot read the data file: {error.strerror}") from error


def _element_starts(path: Path) -> NDArray[np.int64]:
    """Where each element of a JSON list starts. Elements are parsed to find their ends, one at a time."""
    decode, starts = json.JSONDecoder().raw_decode, array("q")
    with _mapped(path) as data:
        text = str(data, "latin-1")  # a character a byte: places in the text are places in the file
    try:
        at = _behind(SPACE, text, text.index("[") + 1)
        more = not text.startswith("]", at)
        while more:
            starts.append(at)
            _, end = decode(text, at)
            at = _behind(COMMA, text, end)
            more = "," in text[end:at]
        if not text.startswith("]", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _behind(SPACE, text, at + 1)
        if at < len(text):
            raise json.JSONDecodeError("Extra data", text, at)
    except json.JSONDecodeError as error:
        line = text[text.rfind("\n", 0, error.pos) + 1 : error.pos].encode("latin-1").decode("utf-8-sig", "replace")
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {len(line) + 1})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: record {len(starts)}: not JSON that Python reads: {error}") from None
    return np.array(starts, np.int64)


def _check_lines(records: JsonRecords) -> None:
    """Raises DataError if a file is not JSON Lines but an object over several lines.

    A first line that is broken alone is an error of its record.
    """
    with records.path.open("rb") as file:
        head = file.read(int(records._starts[1]))
        with suppress(ValueError, RecursionError):
            json.loads(head)
            return
        text = (head + file.read(CHUNK)).decode("utf-8-sig", "replace")
    lists: list[str] = []
    try:
        value, end = json.JSONDecoder().raw_decode(text, _behind(SPACE, text, 0))
        if not isinstance(value, dict) or "\n" not in text[:end].strip():
            return
        lists = [key for key, item in value.items() if isinstance(item, list)]
    except json.JSONDecodeError as error:  # in one of the first lines: records follow a broken one
        if len(records) < 3 or error.lineno <= int(records.location(2).rpartition(":")[2]):
            return
    except (ValueError, RecursionError):
        return
    advice = f": save its list {lists[0]!r} alone" if len(lists) == 1 else ""
    raise DataError(
        f"{records.path}: got a JSON object over several lines, expected a JSON list or one object per line{advice}"
    )


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where what matches ends."""
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _line_starts(path: Path) -> NDArray[np.int64]:
    """Where each line that is not blank starts. The file is mapped, not read into memory."""
    with _mapped(path) as data:
        ends = [
            np.flatnonzero(np.frombuffer(data[offset : offset + CHUNK], np.uint8) == ord("\n")) + offset + 1
            for offset in range(0, len(data), CHUNK)
        ]
        return _full(data, np.concatenate([np.zeros(1, np.int64), *ends]))


def _row_starts(path: Path) -> NDArray[np.int64]:
    """Where each row of CSV that is not blank starts: a line break between quotes belongs to the row."""
    with _mapped(path) as data:
        ends = np.fromiter((row.end() for row in ROW.finditer(data)), np.int64)
        return _full(data, np.concatenate([np.zeros(1, np.int64), ends]))


def _full(data: bytes | mmap.mmap, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The starts of what is not blank."""
    lengths = np.diff(starts, append=len(data))
    full = lengths > 0
    for line in np.flatnonzero(full & (lengths < SHORT)):
        full[line] = bool(data[starts[line] : starts[line] + lengths[line]].strip())
    return starts[full]


@contextmanager
def _mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    """A file's bytes, read where they are looked at."""
    with path.open("rb") as file:
        if not os.path.getsize(path):  # which cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
