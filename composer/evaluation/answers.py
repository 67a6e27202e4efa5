"""A benchmark's answers on the disk: each is kept at once, a restart goes on, several processes share a folder."""

import fcntl
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from composer.atomic import replacing
from composer.evaluation.journal import Contents, Journal, line_of

ANSWERS = "answers.jsonl"
_SHARD = re.compile(r"answers\.[0-9]+\.jsonl")
_LOCK = ".answers.lock"
_ASKING = ".asking.lock"
_CONTENTS = Contents("answers", "ask", frozenset({"id", "answer"}))


class AnswerFile:
    """The answers of one process of `world`, and what all of them have answered before.

    The first line of every file is the header: what the answers are to and from. Alone, a process writes
    `answers.jsonl`; of several, each writes `answers.RANK.jsonl`, and `merge` makes the one of the others. grading:
    options that change no answer, and may be others in the header of a file.
    """

    def __init__(
        self,
        folder: Path,
        header: Mapping[str, Any],
        rank: int = 0,
        world: int = 1,
        grading: Set[str] = frozenset(),
    ) -> None:
        self.folder, self.grading = folder, grading
        self.path = folder / (ANSWERS if world == 1 else f"answers.{rank}.jsonl")
        self._own = Journal(self.path, header, _CONTENTS, grading)

    def __enter__(self) -> Self:
        """Open the file to append. Raises DataError where files of the folder are of another header."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.read()
            self._own.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._own.__exit__(*error)

    def append(self, key: str, answer: str, **about: Any) -> None:
        """Keep an answer; it outlives the process from here on."""
        self._own.append({"id": key, "answer": answer, **about})

    def read(self) -> dict[str, dict[str, Any]]:
        """Every kept record by the question's id, of all processes. Raises DataError as `__enter__` does.

        Beside other processes to be called under `lock`: one that is done merges files and removes them.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in (self.folder / ANSWERS, *self.shards()):
            found |= {
                record["id"]: record for record in Journal(path, self._own.header, _CONTENTS, self.grading).read()
            }
        return found

    def merge(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Make `answers.jsonl` of these records, in this order, and remove the files of single processes."""
        with replacing(self.folder / ANSWERS) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record in (self._own.header, *records.values()):
                file.write(line_of(record))
        for path in self.shards():
            path.unlink()

    def shards(self) -> list[Path]:
        """The files of single processes that are not merged yet."""
        return sorted(path for path in self.folder.glob("answers.*.jsonl") if _SHARD.fullmatch(path.name))

    def lock(self) -> AbstractContextManager[None]:
        """One process at a time, also after another was killed here."""
        return self._locked(_LOCK, fcntl.LOCK_EX)

    def asking(self) -> AbstractContextManager[None]:
        """While a process asks questions."""
        return self._locked(_ASKING, fcntl.LOCK_SH)

    def wait_for_others(self) -> None:
        """Until no process is asking. torchrun ends all of them with the first that fails."""
        with self._locked(_ASKING, fcntl.LOCK_EX):
            pass

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        with (self.folder / name).open("w") as file:
            fcntl.flock(file, how)
            yield
