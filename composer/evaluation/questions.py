"""Reads, checks, hashes and limits a benchmark's questions. Does not import torch."""

import hashlib
import os.path
from collections import Counter
from collections.abc import Sequence

from composer.benchmark import Benchmark, Question, Skipped
from composer.errors import DataError

SHOWN = 3


def read_questions(benchmark: Benchmark) -> list[Question]:
    """Read the benchmark's questions. Of several questions with one id, all but the first go to `benchmark.skipped`.

    Raises:
        DataError: No question remains.
    """
    benchmark.skipped.clear()
    unique: dict[str, Question] = {}
    for question in benchmark.questions():
        if question.id in unique:
            reason = f"id: got {question.id!r}, which {unique[question.id].sample.source} has too"
            benchmark.skipped.append(Skipped(question.sample.source, reason))
        else:
            unique[question.id] = question
    if not unique:
        raise DataError(
            "\n".join(["The benchmark gave no question, expected at least one", *skipped_lines(benchmark.skipped)])
        )
    return list(unique.values())


def skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    """Make a line for each of the first few skipped records, and one with the number of the others."""
    lines = [f"skipped: {place}: {reason}" for place, reason in skipped[:SHOWN]]
    return [*lines, f"skipped: {len(skipped) - SHOWN} more"] if len(skipped) > SHOWN else lines


def check_media(questions: Sequence[Question]) -> None:
    """Raise DataError if media files are missing, before the first question is asked."""
    media = {m.path: q.sample.source for q in questions for m in q.sample.media if m.data is None}
    missing = [f"{path} ({source})" for path, source in media.items() if not os.path.exists(path)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{len(missing)} of {len(media)} media files are missing: {'; '.join(missing[:3])}{more}. "
            "Unpack the benchmark's videos there, or ask other tasks"
        )


def digest(questions: Sequence[Question]) -> str:
    """Content hash of questions."""
    contents = [(q.id, q.references, q.options, q.prefill, q.frames, repr(q.sample.messages)) for q in questions]
    return hashlib.sha256(repr(contents).encode()).hexdigest()[:16]


def first_of_each_task(questions: Sequence[Question], limit: int) -> list[Question]:
    """Select at most `limit` questions of each task, in order."""
    seen: Counter[str] = Counter()
    first = []
    for question in questions:
        seen[question.task] += 1
        if seen[question.task] <= limit:
            first.append(question)
    return first
