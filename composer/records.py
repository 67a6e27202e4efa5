"""Random access to the records of large files: JSON Lines, a JSON list, or CSV. Does not import torch."""

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
"""Lines of at least this many bytes are not blank: checking each line takes time, and blank lines are short."""

ROW = re.compile(
    rb'(?:[^"\n]++'  # neither a quote nor a line break
    rb'|"(?:(?<![^,\r\n]")|(?<=\A\xef\xbb\xbf"))[^"]*+(?:""[^"]*+)*+"?'  # quoted: the quote starts the value
    rb'|")*+\n?'  # any other quote is a plain character
)
"""A CSV row as Python's csv module reads it, in any supported encoding: all are supersets of ASCII."""

SPACE, COMMA = re.compile(r"[ \t\n\r]*"), re.compile(r"[ \t\n\r]*,?[ \t\n\r]*")
"""Text before the first element of a JSON list, and between elements."""


class _Lines(ABC):
    """The non-blank lines of a file. Only their offsets are stored, 8 bytes each."""

    def __init__(self, path: str | Path, starts: NDArray[np.int64], encoding: str = "utf-8-sig") -> None:
        self.path, self.encoding = Path(path), encoding
        self._starts = starts
        self._breaks = array("q", [0])
        """Line breaks before each `STRIDE` bytes of the file, counted on demand, for fast line numbers."""

    def __len__(self) -> int:
        return len(self._starts)

    @abstractmethod
    def __getitem__(self, index: int) -> object: ...

    def location(self, index: int) -> str:
        """Return the location of a record: "file:line"."""
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
    """The values of a JSON Lines file or a JSON list. Only their offsets are kept in memory.

    The constructor parses only the first line of JSON Lines, but all of a list.

    Args:
        path: The file.

    Raises:
        DataError: If the file cannot be read, is empty, or contains invalid JSON, with its line.
    """

    def __init__(self, path: str | Path) -> None:
        self._is_list = _head(Path(path)).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        super().__init__(path, (_element_starts if self._is_list else _line_starts)(Path(path)))
        if not len(self):
            raise DataError(f"{path}: no records, expected a JSON list or one JSON object per line")
        if not self._is_list and len(self) > 1:
            _check_lines(self)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        text = self._text(index)
        try:  # a comma and the next elements follow
            value = json.JSONDecoder().raw_decode(text)[0] if self._is_list else json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.location(index)}: not JSON: {error.msg} (column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
            raise DataError(f"{self.location(index)}: not JSON that Python can parse: {error}") from None
        if "\\ud" in text or "\\uD" in text:
            self._check_surrogates(value, index)
        return value

    def location(self, index: int) -> str:
        """Return the location of a record: "file:line", or its number (from 1) in a JSON list."""
        return f"{self.path}: record {index + 1}" if self._is_list else super().location(index)

    def _check_surrogates(self, value: object, index: int) -> None:
        """Raises DataError for half of a surrogate pair, which every tokenizer rejects."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise DataError(
                f"{self.location(index)}: got {half!r}, half of a surrogate pair, expected both halves: fix the text"
            ) from None


class CsvRecords(_Lines):
    """The rows of a CSV file as mappings from column to text. Only their offsets are kept in memory.

    Args:
        path: The file; its first row contains the column names.
        encoding: Encoding of the file, a superset of ASCII.

    Attributes:
        columns: Column names.

    Raises:
        DataError: If the file has no rows, or a row does not have one value per column, with its line.
    """

    def __init__(self, path: str | Path, encoding: str = "utf-8-sig") -> None:
        _head(Path(path))
        super().__init__(path, _row_starts(Path(path)), encoding)
        if len(self._starts) < 2:
            raise DataError(f"{path}: no rows, expected CSV: a line of column names, then one row per record")
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
        """Return the location of a row: the file and the first line of the row."""
        return super().location(index + 1)

    def _row(self, line: int) -> list[str]:
        try:
            row, *more = csv.reader(io.StringIO(self._text(line), newline=""), strict=True)
        except csv.Error as error:
            raise DataError(f"{super().location(line)}: not CSV: {error}") from None
        if any("".join(other).strip() for other in more):
            raise DataError(
                f"{super().location(line)}: got several rows, expected one: "
                "end rows with a line feed, not with a carriage return alone"
            )
        return row


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot read the data file: {error.strerror}") from error


def _element_starts(path: Path) -> NDArray[np.int64]:
    """Offset of each element of a JSON list. Elements are parsed one at a time to find their ends."""
    decode, starts = json.JSONDecoder().raw_decode, array("q")
    with _map_file(path) as data:
        text = str(data, "latin-1")  # one character per byte: offsets in the text are offsets in the file
    try:
        at = _match_end(SPACE, text, text.index("[") + 1)
        more = not text.startswith("]", at)
        while more:
            starts.append(at)
            _, end = decode(text, at)
            at = _match_end(COMMA, text, end)
            more = "," in text[end:at]
        if not text.startswith("]", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _match_end(SPACE, text, at + 1)
        if at < len(text):
            raise json.JSONDecodeError("Extra data", text, at)
    except json.JSONDecodeError as error:
        line = text[text.rfind("\n", 0, error.pos) + 1 : error.pos].encode("latin-1").decode("utf-8-sig", "replace")
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {len(line) + 1})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: record {len(starts)}: not JSON that Python can parse: {error}") from None
    return np.array(starts, np.int64)


def _check_lines(records: JsonRecords) -> None:
    """Raises DataError if the file is a JSON object over several lines instead of JSON Lines.

    If only the first line is invalid, it is an error of this record.
    """
    with records.path.open("rb") as file:
        head = file.read(int(records._starts[1]))
        with suppress(ValueError, RecursionError):
            json.loads(head)
            return
        text = (head + file.read(CHUNK)).decode("utf-8-sig", "replace")
    lists: list[str] = []
    try:
        value, end = json.JSONDecoder().raw_decode(text, _match_end(SPACE, text, 0))
        if not isinstance(value, dict) or "\n" not in text[:end].strip():
            return
        lists = [key for key, item in value.items() if isinstance(item, list)]
    except json.JSONDecodeError as error:  # in one of the first lines: an invalid record before valid ones
        if len(records) < 3 or error.lineno <= int(records.location(2).rpartition(":")[2]):
            return
    except (ValueError, RecursionError):
        return
    advice = f": save only its list {lists[0]!r}" if len(lists) == 1 else ""
    raise DataError(
        f"{records.path}: got a JSON object over several lines, expected a JSON list or one object per line{advice}"
    )


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Offset of the end of a match."""
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _line_starts(path: Path) -> NDArray[np.int64]:
    """Offset of each non-blank line. The file is memory-mapped, not read."""
    with _map_file(path) as data:
        ends = [
            np.flatnonzero(np.frombuffer(data[offset : offset + CHUNK], np.uint8) == ord("\n")) + offset + 1
            for offset in range(0, len(data), CHUNK)
        ]
        return _drop_blank(data, np.concatenate([np.zeros(1, np.int64), *ends]))


def _row_starts(path: Path) -> NDArray[np.int64]:
    """Offset of each non-blank CSV row. A line break between quotes is part of the row."""
    with _map_file(path) as data:
        ends = np.fromiter((row.end() for row in ROW.finditer(data)), np.int64)
        return _drop_blank(data, np.concatenate([np.zeros(1, np.int64), ends]))


def _drop_blank(data: bytes | mmap.mmap, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The offsets without those of blank lines."""
    lengths = np.diff(starts, append=len(data))
    full = lengths > 0
    for line in np.flatnonzero(full & (lengths < SHORT)):
        full[line] = bool(data[starts[line] : starts[line] + lengths[line]].strip())
    return starts[full]


@contextmanager
def _map_file(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Memory-mapped bytes of a file."""
    with path.open("rb") as file:
        if not os.path.getsize(path):  # an empty file cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
