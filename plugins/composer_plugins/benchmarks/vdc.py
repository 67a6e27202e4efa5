"""VDC (Video Detailed Captions): five kinds of captions; a judge answers questions from each caption (VDCscore).

The files are `KIND.jsonl`; each line maps a video's id to its questions and answers. They were inspected in AuroraCap's
repository (rese1f/aurora, `post_eval/`); the data set wchai/Video-Detailed-Caption has them in `VDCScore_qa/`. Four
videos are listed twice; the later line counts, as in the script. Three of 97,000 questions and their answers are empty
and are skipped. Videos are `ID.mp4`, or with another suffix, in `videos/` or `Test_Videos/`; if `VDC_1k.jsonl` exists,
its `video_name` of an id is tried first. The names of these folders and of `VDC_1k.jsonl` are from code that reads the
data set, which was not inspected itself.
"""

import os.path
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Unpack

from composer.benchmark import Grade, Question, Reply
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.files import check_record, first_of, parse_json, read_text, video_path
from composer_plugins.benchmarks.judge import Judge, JudgeMessage
from composer_plugins.benchmarks.judged import MATCH, MATCH_SYSTEM, Judged, JudgeOptions, means_of, rate
from composer_plugins.benchmarks.tasks import select_tasks
from composer_plugins.benchmarks.vdc_prompts import ANSWER, ANSWER_SYSTEM, CAPTION

KINDS = tuple(CAPTION)
QUESTIONS = (".", "VDCScore_qa", "post_eval")
VIDEOS = ("videos", "Test_Videos", "videos/videos")
ANSWER_TOKENS = 64

AURORACAP = {"detailed": 41.30, "camera": 43.50, "short": 32.07, "background": 35.92, "main_object": 39.02}
"""Accuracy of AuroraCap-7B from the README of lmms-eval's task, which names gpt-4o-mini as judge; not verified."""

Pairs = tuple[tuple[str, str], ...]
"""Questions about a video with their correct answers."""


class VDC(Judged):
    """See `composer_plugins.benchmarks.VDCConfig` for the options.

    The judge answers each question from the caption alone, then compares its answer with the correct one. Accuracy and
    score of a caption are means over its questions; those of a task are means over all captions. AuroraCap's script
    instead drops captions with accuracy 0 and those with a reply that it cannot parse.
    """

    name = "vdc"
    prompts = (ANSWER_SYSTEM, ANSWER, MATCH_SYSTEM, MATCH)

    def __init__(self, root: str, frames: int = 16, tasks: Sequence[str] = (), **judge: Unpack[JudgeOptions]) -> None:
        super().__init__(**judge)
        self.root, self.frames = Path(root), frames
        self.tasks = select_tasks(tasks, KINDS, self.name)

    def questions(self) -> Sequence[Question]:
        names = self._names()
        videos = first_of(self.root / folder for folder in VIDEOS)
        return [question for kind in self.tasks for question in self._read_kind(kind, videos, names)]

    def _names(self) -> Mapping[str, str]:
        """File names of videos by id, from `VDC_1k.jsonl` if it exists."""
        path = self.root / "VDC_1k.jsonl"
        names = {}
        for line, place in _lines(path) if path.exists() else ():
            with self.skipping(place):
                record = check_record(parse_json(line), ("video_id",))
                if record.get("video_name"):
                    names[record["video_id"]] = str(check_record(record, ("video_name",))["video_name"])
        return names

    def _read_kind(self, kind: str, videos: Path, names: Mapping[str, str]) -> Iterator[Question]:
        """Read the questions of one kind of captions, one per video."""
        path = first_of(self.root / folder / f"{kind}.jsonl" for folder in QUESTIONS)
        for video, (pairs, place) in self._pairs(path).items():
            file = video_path(videos, names.get(video, video))
            if not os.path.exists(file):
                file = video_path(videos, video)
            yield self._question(kind, video, file, pairs, place)

    def _pairs(self, path: Path) -> dict[str, tuple[Pairs, str]]:
        """Pairs and location in the file, by video."""
        pairs = {}
        for line, place in _lines(path):
            with self.skipping(place):
                for video, records in check_record(parse_json(line), ()).items():
                    with self.skipping(f"{place}: {video}"):
                        check_record({"video": video}, ("video",))
                        pairs[video] = (self._check_pairs(records, f"{place}: {video}"), place)
        return pairs

    def _check_pairs(self, records: object, place: str) -> Pairs:
        """Check the questions about a video; invalid ones are skipped. Raises DataError if none is valid."""
        pairs = []
        for number, value in enumerate(records if isinstance(records, list) else (), start=1):
            with self.skipping(f"{place} {number}"):
                pair = check_record(value, ("question", "answer"))
                pairs.append((str(pair["question"]), str(pair["answer"])))
        if not pairs:
            raise DataError(f"got {records!r}, expected a list of questions with answers")
        return tuple(pairs)

    def _question(self, kind: str, video: str, file: Path, pairs: Pairs, source: str) -> Question:
        key = f"{kind}-{video}"
        message = Message("user", (Media("video", str(file)), _prompt(kind, key)))
        sample = Sample(key, source, (message,), {"question_type": kind, "pairs": pairs})
        references = tuple(answer for _, answer in pairs)
        return Question(key, kind, sample, references, frames=self.frames, max_new_tokens=512)

    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        ratings = []
        for text, right in question.sample.meta["pairs"]:
            messages = (
                JudgeMessage("system", ANSWER_SYSTEM),
                JudgeMessage("user", ANSWER.format(caption=answer, question=text)),
            )
            prediction = judge.ask(messages, _text_of, replies, max_tokens=ANSWER_TOKENS)
            ratings.append(rate(judge, text, right, prediction, replies))
        return {"accuracy": fmean(r.right for r in ratings), "score": fmean(r.score for r in ratings)}

    def averages(self, grades: Mapping[str, Sequence[Grade]]) -> Mapping[str, Mapping[str, float]]:
        means = [mean for values in grades.values() if (mean := means_of(values))]
        name = "all kinds" if len(means) == len(KINDS) else f"{len(means)} of {len(KINDS)} kinds"
        return {name: {metric: fmean(mean[metric] for mean in means) for metric in means[0]}} if means else {}

    def published(self) -> Mapping[str, Mapping[str, float]]:
        return {"AuroraCap-7B": AURORACAP}


def _prompt(kind: str, key: str) -> str:
    """Select one of the kind's prompts by a hash of the video; lmms-eval draws one at random in each run."""
    choices = CAPTION[kind]
    return choices[int.from_bytes(sha256(key.encode()).digest()[:8]) % len(choices)]


def _text_of(text: str) -> str | None:
    """Parse a reply: stripped text, None if it is blank."""
    return text.strip() or None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a JSON Lines file with their location. Unlike in splitlines(), U+2028 ends no line."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield line, f"{path}: record {number}"
