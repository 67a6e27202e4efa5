"""MovieChat-1K, test split: questions about complete videos of several minutes (global) or one moment (breakpoint).

There is one JSON file per video with `info` (`video_path`, `fps`, `num_frame`) and the lists of questions `global` and
`breakpoint`; a breakpoint's `time` is a frame number. This format is that of MovieChat's script (rese1f/MovieChat,
eval_code/result_prepare) and of the website of the LOVEU track of 2024. The files are in `gt/` or `annotations/`
(at first published without answers), the videos in `videos/`. The data set itself was not inspected; that `gt/` has
the same format is an assumption.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from composer.benchmark import Question, Reply
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.files import check_record, first_of, is_number, read_json, video_path
from composer_plugins.benchmarks.judge import Judge
from composer_plugins.benchmarks.judged import Judged, JudgeOptions, rate
from composer_plugins.benchmarks.tasks import select_tasks

MODES = ("global", "breakpoint")
ANNOTATIONS = ("gt", "annotations")
VIDEOS = ("videos", "Test_Videos")
SYSTEM = (
    "You are able to understand the visual content that the user provides.Follow the instructions carefully and "
    "explain your answers."
)
"""System prompt of MovieChat's script."""


class MovieChat(Judged):
    """See `composer_plugins.benchmarks.MovieChatConfig` for the options.

    As in MovieChat's script, a global question uses frames of the complete video, a breakpoint those up to its time.
    """

    name = "moviechat-1k"

    def __init__(self, root: str, frames: int = 48, tasks: Sequence[str] = (), **judge: Unpack[JudgeOptions]) -> None:
        super().__init__(**judge)
        self.root, self.frames = Path(root), frames
        self.tasks = select_tasks(tasks, MODES, self.name)

    def questions(self) -> Sequence[Question]:
        folder = first_of(self.root / name for name in ANNOTATIONS)
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise DataError(
                f"{folder}: found no *.json, expected one per video; set --root to the parent of their folder"
            )
        videos = first_of(self.root / name for name in VIDEOS)
        questions = [question for path in paths for question in self._read_video(path, videos)]
        return sorted(questions, key=lambda question: MODES.index(question.task))

    def _read_video(self, path: Path, videos: Path) -> list[Question]:
        """Read the questions about one video."""
        content = read_json(path)
        questions: list[Question] = []
        with self.skipping(f"{path}: info"):
            info = check_record(content.get("info") if isinstance(content, dict) else None, ("video_path", "fps"))
            video = str(video_path(videos, str(info["video_path"])))
            for task in self.tasks:
                with self.skipping(f"{path}: {task}"):
                    records = content.get(task)
                    if not isinstance(records, list):
                        raise DataError(f"got {type(records).__name__}, expected a list of questions")
                    questions += self._read_task(task, records, info, video, path)
        return questions

    def _read_task(
        self, task: str, records: Sequence[object], info: Mapping[str, object], video: str, path: Path
    ) -> list[Question]:
        questions = []
        for index, value in enumerate(records):
            source = f"{path}: {task} {index + 1}"
            with self.skipping(source):
                record = check_record(value, ("question", "answer"))
                media = Media("video", video, end=None if task == "global" else _seconds(record, info))
                questions.append(self._question(f"{path.stem}-{task}-{index}", task, media, record, source))
        return questions

    def _question(self, key: str, task: str, media: Media, record: Mapping[str, object], source: str) -> Question:
        text = str(record["question"])
        messages = (Message("system", (SYSTEM,)), Message("user", (media, text)))
        sample = Sample(key, source, messages, {"question_type": task, "question": text})
        return Question(key, task, sample, (str(record["answer"]),), frames=self.frames, max_new_tokens=300)

    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        rating = rate(judge, question.sample.meta["question"], question.references[0], answer, replies)
        return {"accuracy": float(rating.right), "score": rating.score}


def _seconds(record: Mapping[str, object], info: Mapping[str, object]) -> float:
    """Time of a breakpoint in seconds, at least that of frame 1, so that one frame is used. Raises DataError."""
    time, rate = record.get("time"), info["fps"]
    if not is_number(time) or time < 0:
        raise DataError(f"time: got {time!r}, expected a number of frames")
    if not is_number(rate) or rate <= 0:
        raise DataError(f"info.fps: got {rate!r}, expected frames per second")
    return max(float(time), 1.0) / float(rate)
