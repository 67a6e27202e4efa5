"""MovieChat-1K: questions about whole films of minutes (global) and about a moment of them (breakpoint), test split.

Read is a file for each video, as MovieChat's own script (rese1f/MovieChat, eval_code/result_prepare) and the page of
the LOVEU track of 2024 show it: `info` with `video_path`, `fps` and `num_frame`, lists `global` and `breakpoint` of
questions, and at a breakpoint its `time` as the number of a frame. They lie in `gt/`, or `annotations/`, which first
came without answers; videos in `videos/`. The data set itself was not opened, so that `gt/` holds the same form is an
assumption.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.benchmark import Question, Reply
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.files import check_record, first_of, is_number, read_json, video_path
from composer_plugins.benchmarks.judge import Judge
from composer_plugins.benchmarks.judged import Judged, rate
from composer_plugins.benchmarks.tasks import select_tasks

MODES = ("global", "breakpoint")
ANNOTATIONS = ("gt", "annotations")
VIDEOS = ("videos", "Test_Videos")
SYSTEM = (
    "You are able to understand the visual content that the user provides.Follow the instructions carefully and "
    "explain your answers."
)
"""What MovieChat's own script says before the user's turn."""


class MovieChat(Judged):
    """See `composer_plugins.benchmarks.MovieChatConfig` for the options.

    A global question sees frames of the whole video, one at a breakpoint those up to it, as in MovieChat's own script.
    """

    name = "moviechat-1k"

    def __init__(self, root: str, frames: int = 48, tasks: Sequence[str] = (), **judge: Any) -> None:
        super().__init__(**judge)
        self.root, self.frames = Path(root), frames
        self.tasks = select_tasks(tasks, MODES, self.name)

    def questions(self) -> Sequence[Question]:
        folder = first_of(self.root / name for name in ANNOTATIONS)
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise DataError(
                f"{folder}: got no file *.json, expected one for each video; give --root their folder's parent."
            )
        videos = first_of(self.root / name for name in VIDEOS)
        found = [question for path in paths for question in self._of(path, videos)]
        return sorted(found, key=lambda question: MODES.index(question.task))

    def _of(self, path: Path, videos: Path) -> list[Question]:
        content = read_json(path)
        found: list[Question] = []
        with self.skipping(f"{path}: info"):
            info = check_record(content.get("info") if isinstance(content, dict) else None, ("video_path", "fps"))
            video = str(video_path(videos, str(info["video_path"])))
            for task in self.tasks:
                with self.skipping(f"{path}: {task}"):
                    records = content.get(task)
                    if not isinstance(records, list):
                        raise DataError(f"got {type(records).__name__}, expected a list of questions")
                    found += self._of_task(task, records, info, video, path)
        return found

    def _of_task(
        self, task: str, records: Sequence[Any], info: Mapping[str, Any], video: str, path: Path
    ) -> list[Question]:
        found = []
        for place, given in enumerate(records):
            source = f"{path}: {task} {place + 1}"
            with self.skipping(source):
                record = check_record(given, ("question", "answer"))
                media = Media("video", video, end=None if task == "global" else _seconds(record, info))
                found.append(self._question(f"{path.stem}-{task}-{place}", task, media, record, source))
        return found

    def _question(self, key: str, task: str, media: Media, record: Mapping[str, Any], where: str) -> Question:
        text = str(record["question"])
        messages = (Message("system", (SYSTEM,)), Message("user", (media, text)))
        sample = Sample(key, where, messages, {"question_type": task, "question": text})
        return Question(key, task, sample, (str(record["answer"]),), frames=self.frames, max_new_tokens=300)

    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        rating = rate(judge, question.sample.meta["question"], question.references[0], answer, replies)
        return {"accuracy": float(rating.right), "score": rating.score}


def _seconds(record: Mapping[str, Any], info: Mapping[str, Any]) -> float:
    """When a breakpoint is; at frame 0 the first frame is still seen. Raises DataError if there is no time."""
    time, rate = record.get("time"), info["fps"]
    if not is_number(time) or time < 0:
        raise DataError(f"time: got {time!r}, expected a number of frames")
    if not is_number(rate) or rate <= 0:
        raise DataError(f"info.fps: got {rate!r}, expected frames per second")
    return max(float(time), 1.0) / float(rate)
