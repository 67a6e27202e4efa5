"""ActivityNet-QA: open questions about the videos of ActivityNet, in the official format.

The questions are `test_q.json` and `test_a.json` of the repository MILVLG/activitynet-qa (there in `dataset/`), which
were inspected. Videos are `v_NAME` in `all_test` (lmms-eval's archive) or `Test_Videos` (Video-ChatGPT's); these
names are from the code of the two projects, the archives themselves were not opened. The prompt is lmms-eval's, the
judge's is Video-ChatGPT's.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Unpack

from composer.benchmark import Grade, Metric, Question, Reply
from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.benchmarks.files import check_record, first_of, read_list, video_path
from composer_plugins.benchmarks.judge import Judge
from composer_plugins.benchmarks.judged import Judged, JudgeOptions, means_of, rate
from composer_plugins.benchmarks.tasks import select_tasks

TYPES = ("motion", "spatial", "temporal", "yes_no", "color", "object", "location", "number", "other")
"""Names of the types 0 to 8; from 3 on they are the official script's `free`."""
FREE = TYPES[3:]
VIDEOS = ("all_test", "Test_Videos", "videos")
EXACT = Metric("exact match")


class ActivityNetQA(Judged):
    """See `composer_plugins.benchmarks.ActivityNetQAConfig` for the options.

    Without a judge, the metric is the official script's exact match, except that case and a final period are ignored:
    the script was written for models that choose from a list of answers.
    """

    name = "activitynet-qa"
    needs_judge = False

    def __init__(self, root: str, frames: int = 16, tasks: Sequence[str] = (), **judge: Unpack[JudgeOptions]) -> None:
        super().__init__(**judge)
        if self.judge_id() is None:
            self.metrics = (EXACT,)
        self.root, self.frames = Path(root), frames
        self.tasks = select_tasks(tasks, TYPES, self.name)

    def questions(self) -> Sequence[Question]:
        questions_file = first_of(self.root / folder / "test_q.json" for folder in (".", "dataset"))
        answers_file = questions_file.with_name("test_a.json")
        answers = self._answers(answers_file)
        videos = first_of(self.root / folder for folder in VIDEOS)
        questions = []
        for number, value in enumerate(read_list(questions_file), start=1):
            source = f"{questions_file}: record {number}"
            with self.skipping(source):
                record = check_record(value, ("question_id", "question", "video_name"))
                answer = answers.get(record["question_id"])
                if answer is None:
                    raise DataError(
                        f"question_id: got {record['question_id']!r}, which has no answer in {answers_file}"
                    )
                task, right = answer
                if task in self.tasks:
                    questions.append(self._question(record, task, right, videos, source))
        return questions

    def _answers(self, path: Path) -> dict[object, tuple[str, str]]:
        """Type of question and correct answer, by the question's id."""
        answers: dict[object, tuple[str, str]] = {}
        for number, value in enumerate(read_list(path), start=1):
            with self.skipping(f"{path}: record {number}"):
                record = check_record(value, ("question_id", "answer", "type"))
                if type(record["type"]) is not int or not 0 <= record["type"] < len(TYPES):
                    raise DataError(f"type: got {record['type']!r}, expected 0 to {len(TYPES) - 1}")
                if record["question_id"] in answers:
                    raise DataError(f"question_id: got {record['question_id']!r}, which an earlier record already has")
                answers[record["question_id"]] = (TYPES[record["type"]], str(record["answer"]))
        return answers

    def _question(self, record: Mapping[str, object], task: str, right: str, videos: Path, source: str) -> Question:
        media = Media("video", str(video_path(videos, f"v_{record['video_name']}")))
        key, text = str(record["question_id"]), str(record["question"])
        # capitalize() is lmms-eval's: it lower-cases all other letters, including those of names.
        prompt = f"{text.capitalize()}? Answer the question using a single word or phrase."
        sample = Sample(key, source, (Message("user", (media, prompt)),), {"question_type": task, "question": text})
        return Question(key, task, sample, (right,), frames=self.frames, max_new_tokens=64)

    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        rating = rate(judge, question.sample.meta["question"], question.references[0], answer, replies)
        return {"accuracy": float(rating.right), "score": rating.score, EXACT.name: _exact(question, answer)}

    def without_judge(self, question: Question, answer: str) -> Grade:
        return Grade({EXACT.name: _exact(question, answer)})

    def averages(self, grades: Mapping[str, Sequence[Grade]]) -> Mapping[str, Mapping[str, float]]:
        """Averages over questions, as in the official script; the name has the number of types if some are missing."""
        graded = {task: values for task, values in grades.items() if means_of(values)}
        free = [task for task in FREE if task in graded]
        name = "free" if len(free) == len(FREE) else f"{len(free)} of {len(FREE)} free types"
        overall = "all questions" if len(graded) == len(TYPES) else f"{len(graded)} of {len(TYPES)} types"
        return {
            average: means_of(list(chain.from_iterable(graded[task] for task in tasks)))
            for average, tasks in ((name, free), (overall, list(graded)))
        }


def _exact(question: Question, answer: str) -> float:
    return float(_plain(answer) == _plain(question.references[0]))


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".").rstrip()
