"""A benchmark's questions before they are asked: checked, told from others, limited. No torch here."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from composer.benchmark import Question
from composer.errors import DataError


def check(questions: Sequence[Question]) -> None:
    """Raises DataError where there is no question, or several have one id."""
    twice = [key for key, count in Counter(question.id for question in questions).items() if count > 1]
    if twice or not questions:
        what = f"the id {twice[0]!r} for several questions" if twice else "no question"
        raise DataError(f"The benchmark gave {what}, expected at least one, each with its own id.")


def check_media(questions: Sequence[Question]) -> None:
    """Refuse to start where files are missing, rather than stop at each of them. Raises DataError."""
    media = {m.path: q.sample.source for q in questions for m in q.sample.media if m.data is None}
    missing = [f"{path} ({source})" for path, source in media.items() if not Path(path).exists()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{len(missing)} of {len(media)} media files are missing: {'; '.join(missing[:3])}{more}. "
            "Unpack the benchmark's videos there, or ask other tasks."
        )


def digest(questions: Sequence[Question]) -> str:
    """What tells these questions from others of the same benchmark."""
    asked = [(q.id, q.references, q.options, q.prefill, q.frames, repr(q.sample.messages)) for q in questions]
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def first_of_each_task(questions: Sequence[Question], limit: int) -> list[Question]:
    """At most `limit` questions of each task, in their order."""
    seen: Counter[str] = Counter()
    kept = []
    for question in questions:
        seen[question.task] += 1
        if seen[question.task] <= limit:
            kept.append(question)
    return kept
