"""VDC, Video Detailed Captions: five kinds of captions, each scored by what a judge can answer from it (VDCscore).

Read are `KIND.jsonl`, lines that map a video's id to its questions and answers, as AuroraCap's repository
(rese1f/aurora, `post_eval/`) holds them, which were seen; they may lie in `VDCScore_qa/`, as in the data set
wchai/Video-Detailed-Caption. Four videos stand there twice, of which the later line counts, as in its script; three of
97,000 questions are empty with their answers, and are skipped. Videos are `ID.mp4` or another suffix in `videos/` or
`Test_Videos/`; where `VDC_1k.jsonl` lies beside, its `video_name` of an id is tried first. Names of folders and of
`VDC_1k.jsonl` are those of code that reads the data set, which was not opened itself.
"""

import os.path
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from composer.benchmark import Grade, Question, Reply
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.files import check_record, first_of, parse_json, read_text, video_path
from composer_plugins.benchmarks.judge import Judge, JudgeMessage
from composer_plugins.benchmarks.judged import MATCH, MATCH_SYSTEM, Judged, means_of, rate
from composer_plugins.benchmarks.tasks import select_tasks
from composer_plugins.benchmarks.vdc_prompts import ANSWER, ANSWER_SYSTEM, CAPTION

KINDS = tuple(CAPTION)
QUESTIONS = (".", "VDCScore_qa", "post_eval")
VIDEOS = ("videos", "Test_Videos", "videos/videos")
ANSWER_TOKENS = 64

AURORACAP = {"detailed": 41.30, "camera": 43.50, "short": 32.07, "background": 35.92, "main_object": 39.02}
"""Accuracy of AuroraCap-7B in the README of lmms-eval's task, whose judge is said to be gpt-4o-mini; not checked."""

Pairs = tuple[tuple[str, str], ...]
"""Questions about a video and their right answers."""


class VDC(Judged):
    """See `composer_plugins.benchmarks.VDCConfig` for the options.

    A caption's accuracy and score are means over its questions: the judge answers each from the caption alone, then
    rates its own answer beside the right one. Both are means over captions, and none is left out, unlike in AuroraCap's
    script, which drops captions of accuracy 0 and those with a reply that it cannot read.
    """

    name = "vdc"
    prompts = (ANSWER_SYSTEM, ANSWER, MATCH_SYSTEM, MATCH)

    def __init__(self, root: str, frames: int = 16, tasks: Sequence[str] = (), **judge: Any) -> None:
        super().__init__(**judge)
        self.root, self.frames = Path(root), frames
        self.tasks = select_tasks(tasks, KINDS, self.name)

    def questions(self) -> Sequence[Question]:
        names = self._names()
        videos = first_of(self.root / folder for folder in VIDEOS)
        return [question for kind in self.tasks for question in self._of(kind, videos, names)]

    def _names(self) -> Mapping[str, str]:
        """The file of each video, where `VDC_1k.jsonl` says so."""
        path = self.root / "VDC_1k.jsonl"
        names = {}
        for line, place in _lines(path) if path.exists() else ():
            with self.skipping(place):
                record = check_record(parse_json(line), ("video_id",))
                if record.get("video_name"):
                    names[record["video_id"]] = str(check_record(record, ("video_name",))["video_name"])
        return names

    def _of(self, kind: str, videos: Path, names: Mapping[str, str]) -> Iterator[Question]:
        path = first_of(self.root / folder / f"{kind}.jsonl" for folder in QUESTIONS)
        for video, (pairs, place) in self._pairs(path).items():
            file = video_path(videos, names.get(video, video))
            if not os.path.exists(file):
                file = video_path(videos, video)
            yield self._question(kind, video, file, pairs, place)

    def _pairs(self, path: Path) -> dict[str, tuple[Pairs, str]]:
        """The questions about each video, and their place in the file."""
        found = {}
        for line, place in _lines(path):
            with self.skipping(place):
                for video, records in check_record(parse_json(line), ()).items():
                    with self.skipping(f"{place}: {video}"):
                        check_record({"video": video}, ("video",))
                        found[video] = (self._of_video(records, f"{place}: {video}"), place)
        return found

    def _of_video(self, records: object, place: str) -> Pairs:
        """Raises DataError if none of the records is a question with its answer."""
        pairs = []
        for number, given in enumerate(records if isinstance(records, list) else (), start=1):
            with self.skipping(f"{place} {number}"):
                pair = check_record(given, ("question", "answer"))
                pairs.append((str(pair["question"]), str(pair["answer"])))
        if not pairs:
            raise DataError(f"got {records!r}, expected a list of questions")
        return tuple(pairs)

    def _question(self, kind: str, video: str, file: Path, pairs: Pairs, where: str) -> Question:
        key = f"{kind}-{video}"
        message = Message("user", (Media("video", str(file)), _prompt(kind, key)))
        sample = Sample(key, where, (message,), {"question_type": kind, "pairs": pairs})
        references = tuple(answer for _, answer in pairs)
        return Question(key, kind, sample, references, frames=self.frames, max_new_tokens=512)

    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        ratings = []
        for asked, right in question.sample.meta["pairs"]:
            messages = (
                JudgeMessage("system", ANSWER_SYSTEM),
                JudgeMessage("user", ANSWER.format(caption=answer, question=asked)),
            )
            found = judge.ask(messages, _text_of, replies, max_tokens=ANSWER_TOKENS)
            ratings.append(rate(judge, asked, right, found, replies))
        return {"accuracy": fmean(r.right for r in ratings), "score": fmean(r.score for r in ratings)}

    def averages(self, grades: Mapping[str, Sequence[Grade]]) -> Mapping[str, Mapping[str, float]]:
        means = [found for given in grades.values() if (found := means_of(given))]
        name = "all kinds" if len(means) == len(KINDS) else f"{len(means)} of {len(KINDS)} kinds"
        return {name: {metric: fmean(mean[metric] for mean in means) for metric in means[0]}} if means else {}

    def published(self) -> Mapping[str, Mapping[str, float]]:
        return {"AuroraCap-7B": AURORACAP}


def _prompt(kind: str, key: str) -> str:
    """One of the kind's prompts. lmms-eval draws one at random at every run; here the video says which."""
    choices = CAPTION[kind]
    return choices[int.from_bytes(sha256(key.encode()).digest()[:8]) % len(choices)]


def _text_of(text: str) -> str | None:
    return text.strip() or None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file of JSON lines, and its place. Text may hold U+2028, which splitlines() takes for an end."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield line, f"{path}: record {number}"
