"""VATEX: one-sentence captions of ten-second clips, each compared with ten references; public test split, zero-shot.

The captions are in `vatex_public_test_english_v1.1.json`, a list of `videoID` and `enCap`. Clips are named after their
`videoID` (YouTube's id, start and end) and are in `videos/` or `vatex_test/`. This format is from the website of
the data set and from lmms-eval's code; the files themselves were not inspected.
"""

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from composer.benchmark import Benchmark, Grade, Metric, Question, Summary
from composer.errors import ConfigError, DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.captions import caption_scores, has_ptb
from composer_plugins.benchmarks.files import check_record, first_of, is_text, read_list, video_path

FILES = ("vatex_public_test_english_v1.1.json", "annotations/vatex_public_test_english_v1.1.json")
VIDEOS = ("videos", "vatex_test")
TASK = "captions"
PROMPT = "Provide a one-sentence caption for the provided video."
"""Prompt of lmms-eval, without its four captions of other videos, which are not zero-shot."""


class VATEX(Benchmark):
    """See `composer_plugins.benchmarks.VATEXConfig` for the options."""

    metrics = (
        Metric("CIDEr", "x100"),
        Metric("BLEU-1"),
        Metric("BLEU-4"),
        Metric("METEOR"),
        Metric("ROUGE-L"),
    )
    grading_options = frozenset({"tokenizer"})

    def __init__(
        self,
        root: str,
        frames: int = 16,
        tokenizer: Literal["auto", "ptb", "words"] = "auto",
        missing: Literal["refuse", "skip"] = "refuse",
    ) -> None:
        if tokenizer == "ptb" and not has_ptb():
            raise ConfigError(
                "vatex.tokenizer: got ptb, which needs Java and pycocoevalcap: install a Java runtime and "
                "`pip install 'multimodal-composer[captions]'`, or use --tokenizer=words"
            )
        self.root, self.frames, self.skip = Path(root), frames, missing == "skip"
        self.tokenizer: Literal["ptb", "words"] = "ptb" if tokenizer != "words" and has_ptb() else "words"
        self.absent = self.total = 0

    def questions(self) -> Sequence[Question]:
        path = first_of(self.root / name for name in FILES)
        folder = first_of(self.root / name for name in VIDEOS)
        questions = []
        self.absent = self.total = 0
        for number, value in enumerate(read_list(path), start=1):
            source = f"{path}: record {number}"
            with self.skipping(source):
                question = self._question(value, folder, source)
                self.total += 1
                if self.skip and not os.path.exists(question.sample.media[0].path):
                    self.absent += 1
                else:
                    questions.append(question)
        return questions

    def _question(self, value: object, folder: Path, source: str) -> Question:
        record = check_record(value, ("videoID",))
        captions = record.get("enCap")
        if not isinstance(captions, list) or not captions or not all(map(_is_caption, captions)):
            raise DataError(f"enCap: got {captions!r}, expected a list of captions")
        key = str(record["videoID"])
        message = Message("user", (Media("video", str(video_path(folder, key))), PROMPT))
        sample = Sample(key, source, (message,), {"question_type": TASK})
        return Question(key, TASK, sample, tuple(captions), frames=self.frames, max_new_tokens=64)

    def grade(self, question: Question, answer: str) -> Grade:
        """Return an empty grade: the metrics are computed over all captions."""
        return Grade()

    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        scores = caption_scores(answers, [question.references for question in questions], self.tokenizer)
        notes = []
        if self.tokenizer == "words":
            notes.append(
                "Captions were not tokenized by PTB, so scores are not comparable with papers; METEOR is omitted."
            )
        if self.absent:
            notes.append(f"{self.absent} of {self.total} videos are missing and were skipped.")
        return Summary({TASK: scores}, {TASK: len(questions)}, averages={}, unparsed=None, notes=tuple(notes))


def _is_caption(value: object) -> bool:
    return isinstance(value, str) and is_text(value) and bool(value.strip())
