"""A benchmark's answers on the disk: each is kept at once, a restart goes on, several processes share a folder."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from composer.atomic import replacing, writing
from composer.errors import DataError

ANSWERS = "answers.jsonl"
_LOCK = ".answers.lock"


class AnswerFile:
    """The answers of one process of `world`, and what all of them have answered before.

    The first line of every file is the header: what the answers are to and from. Alone, a process writes
    `answers.jsonl`; of several, each writes `answers.RANK.jsonl`, and `merge` makes the one of the others.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], rank: int = 0, world: int = 1) -> None:
        self.folder, self.header = folder, json.loads(json.dumps(header))
        self.path = folder / (ANSWERS if world == 1 else f"answers.{rank}.jsonl")
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file to append. Raises DataError where files of the folder are of another header."""
        self.folder.mkdir(parents=True, exist_ok=True)
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

    def append(self, key: str, answer: str, **about: Any) -> None:
        """Keep an answer; it outlives the process from here on. Raises DiskFullError."""
        self._write({"id": key, "answer": answer, **about})

    def read(self) -> dict[str, dict[str, Any]]:
        """Every kept record by the question's id, of all processes. Raises DataError as `__enter__` does."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.folder.glob("answers*.jsonl")):
            lines = _records(path)
            for header in lines:
                self._check(path, header)
                break
            found |= {record["id"]: record for record in lines}
        return found

    def merge(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Make `answers.jsonl` of these records, in this order, and remove the files of single processes."""
        with replacing(self.folder / ANSWERS) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record in (self.header, *records.values()):
                file.write(_line(record))
        for path in self.shards():
            path.unlink()

    def shards(self) -> list[Path]:
        """The files of single processes that are not merged yet."""
        return list(self.folder.glob("answers.*.jsonl"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time, also after another was killed here."""
        with (self.folder / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None, "answers are kept inside the with block"
        with writing(self.path):
            self._file.write(_line(record))
            self._file.flush()

    def _check(self, path: Path, header: Mapping[str, Any]) -> None:
        differing = [
            f"{key}: got {header.get(key)!r}, expected {self.header.get(key)!r}"
            for key in dict.fromkeys((*self.header, *header))
            if header.get(key) != self.header.get(key)
        ]
        if differing:
            raise DataError(
                f"{path} holds answers of another run ({'; '.join(differing)}): give another --output, or remove the "
                "file to ask again."
            )


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """A file's records; a last line that a killed process left unfinished is none."""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or (number > 1 and not {"id", "answer"} <= record.keys()):
            raise DataError(
                f"{path}:{number}: got {line[:60]!r}, expected a record that `composer evaluate` wrote: remove the "
                "line, or the file to ask again."
            )
        yield record


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
