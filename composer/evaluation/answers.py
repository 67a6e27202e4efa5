"""Durable store of answers: each is written at once, a restart resumes, several processes share a folder."""

import fcntl
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from composer.atomic import replacing
from composer.errors import DataError
from composer.evaluation.journal import Contents, Header, Journal, line_of

ANSWERS = "answers"
SHOWN = 3
"""Differences between two headers that a message lists."""


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question.

    Attributes:
        id: The question's id.
        answer: The model's text.
        task: The question's task or type; "" if it has none.
        references: The right answers; () if they are not known.
        condition: How the media were shown, see `composer.data.dataset.Condition`.
    """

    id: str
    answer: str
    task: str = ""
    references: tuple[str, ...] = ()
    condition: str = "normal"

    @property
    def key(self) -> tuple[str, str]:
        """Condition and question id, of which the store has one answer."""
        return self.condition, self.id


def _parse(record: dict[str, Any]) -> Answer:
    return Answer(**{**record, "references": tuple(record.get("references", ()))})


_CONTENTS = Contents("answers", "ask", _parse)


class AnswerFile:
    """Answers of one process of `world`, and those that all processes stored before.

    The first line of every file is the header, which identifies model and questions. A single process writes
    `NAME.jsonl`; of several, each writes `NAME.RANK.jsonl`, and `merge` makes one file of them.

    Args:
        folder: Where the files are stored.
        header: What the answers depend on.
        rank: This process's number.
        world: The number of processes.
        name: The stem of the files' names.
        grading: Options in the header that change no answer, so that they may differ from a file's.
        rename_others: True renames files with a different header when the store is opened; otherwise they are refused.
    """

    def __init__(
        self,
        folder: Path,
        header: Header,
        rank: int = 0,
        world: int = 1,
        *,
        name: str = ANSWERS,
        grading: Set[str] = frozenset(),
        rename_others: bool = False,
    ) -> None:
        self.folder, self.name, self.grading, self.rename_others = folder, name, grading, rename_others
        self.merged = folder / f"{name}.jsonl"
        self.path = self.merged if world == 1 else folder / f"{name}.{rank}.jsonl"
        self._own = self._journal(self.path, header)

    def __enter__(self) -> Self:
        """Open the file to append. Raises DataError if files of the folder have another header."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if self.rename_others:
                self._rename_others()
            self.read()
            self._own.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._own.__exit__(*error)

    def append(self, answer: Answer) -> None:
        """Write an answer; it is durable when the method returns."""
        self._own.append(answer)

    def read(self) -> dict[tuple[str, str], Answer]:
        """Read the answers of all processes, by key. Raises DataError as `__enter__` does.

        Call it under `lock` if other processes may run: the last of them merges files and removes them.
        """
        paths = (self.merged, *self.shards())
        return {answer.key: answer for path in paths for answer in self._journal(path, self._own.header).read()}

    def merge(self, answers: Mapping[tuple[str, str], Answer]) -> None:
        """Write `NAME.jsonl` with these answers, in this order, and remove the files of single processes."""
        with replacing(self.merged) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(line_of(self._own.header))
            file.writelines(line_of(asdict(answer)) for answer in answers.values())
        for path in self.shards():
            path.unlink()

    def shards(self) -> list[Path]:
        """List the files of single processes that are not merged yet."""
        pattern = re.compile(re.escape(self.name) + r"\.[0-9]+\.jsonl")
        return sorted(path for path in self.folder.glob(f"{self.name}.*.jsonl") if pattern.fullmatch(path.name))

    @contextmanager
    def complete(self, keys: Sequence[tuple[str, str]]) -> Iterator[list[Answer] | None]:
        """Give the answers to `keys`, in order, merged into one file. Other processes wait until the block ends.

        Yields:
            The answers, or None if another process is still asking and will report, or has reported already.
        """
        with self.lock():
            reported = not self.path.exists()
            answers = self.read()
            if reported or any(key not in answers for key in keys):
                yield None
                return
            if self.shards():
                self.merge({key: answers[key] for key in dict.fromkeys((*keys, *answers))})
            yield [answers[key] for key in keys]

    def lock(self) -> AbstractContextManager[None]:
        """Lock against the other processes; the lock ends with the block or the process."""
        return self._lock_file("lock", fcntl.LOCK_EX)

    def asking(self) -> AbstractContextManager[None]:
        """Mark this process as asking, until the block ends."""
        return self._lock_file("asking", fcntl.LOCK_SH)

    def wait_for_others(self) -> None:
        """Wait until no process is asking. torchrun ends all of them with the first that fails."""
        with self._lock_file("asking", fcntl.LOCK_EX):
            pass

    def _journal(self, path: Path, header: Header) -> Journal[Answer]:
        return Journal(path, header, _CONTENTS, self.grading)

    def _rename_others(self) -> None:
        """Rename files with a different header to the first free name; nothing is deleted."""
        for path in (self.merged, *self.shards()):
            differences = "; ".join(self._journal(path, self._own.header).differences()[:SHOWN])
            if not differences:
                continue
            try:
                with self._lock_file("asking", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    names = (path.with_name(f"{path.stem}.replaced-{number}.jsonl") for number in count(1))
                    free = next(name for name in names if not name.exists())
                    path.rename(free)
            except BlockingIOError:
                raise DataError(
                    f"{path} is being written by another run ({differences}): wait for it, or use another folder"
                ) from None
            sys.stderr.write(f"composer: {path} belongs to a different run ({differences}): renamed to {free.name}\n")

    @contextmanager
    def _lock_file(self, name: str, operation: int) -> Iterator[None]:
        with (self.folder / f".{self.name}.{name}").open("w") as file:
            fcntl.flock(file, operation)
            yield
