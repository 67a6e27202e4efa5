"""MLVU: multiple-choice questions about long videos, in the official format."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from composer.benchmark import Question
from composer.errors import DataError
from composer.sample import Media
from composer_plugins.benchmarks import Compat, Split
from composer_plugins.benchmarks.choice import lmms_mlvu, official_mlvu
from composer_plugins.benchmarks.files import check_record, first_of, read_list
from composer_plugins.benchmarks.multiple import MultipleChoice, check_choice
from composer_plugins.benchmarks.tasks import select_tasks

DEV = {
    "plotQA": "1_plotQA",
    "needle": "2_needle",
    "ego": "3_ego",
    "count": "4_count",
    "order": "5_order",
    "anomaly_reco": "6_anomaly_reco",
    "topic_reasoning": "7_topic_reasoning",
}
"""File in `json/` and folder in `video/` of each task; those of the official script have no number."""

TEST = (
    *("plotQA", "needleQA", "ego", "count", "order", "anomaly_reco", "topic_reasoning"),
    *("sportsQA", "tutorialQA"),
)
TEST_FILE = Path("test-ground-truth/test_mcq_gt.json")
TEST_VIDEOS = (Path("MLVU_Test/video"), Path("video"))

PAPERS = "paper's 7 tasks"

AURORALONG = {
    "anomaly_reco": 59.5,
    "ego": 57.1,
    "order": 33.2,
    "count": 42.9,
    "topic_reasoning": 69.0,
    "needle": 45.2,
    "needleQA": 45.2,
    "plotQA": 61.9,
    PAPERS: 52.7,
}
"""Accuracy of AuroraLong in table B5 of its paper, which names no split; `needle` is `needleQA` in the test split."""


class MLVU(MultipleChoice):
    """See `composer_plugins.benchmarks.MLVUConfig` for the options."""

    system = (
        "Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
        "option that accurately addresses the question."
    )
    prefill = "Best Option: ("
    subset_name = PAPERS

    def __init__(
        self,
        root: str,
        frames: int = 48,
        compat: Compat = "strict",
        tasks: Sequence[str] = (),
        split: Split = "dev",
    ) -> None:
        super().__init__(root, frames, compat)
        self.split = split
        self.all_tasks = tuple(DEV) if split == "dev" else TEST
        self.subset = tuple(task for task in self.all_tasks if task in AURORALONG)
        self.tasks = select_tasks(tasks, self.all_tasks, f"mlvu ({split})")

    def questions(self) -> Sequence[Question]:
        if self.split == "dev":
            return [question for task in self.tasks for question in self._read_dev(task)]
        return self._read_test()

    def counts(self, answer: str, question: Question) -> bool | None:
        if self.compat == "lmms":
            return lmms_mlvu(answer, question.references[0])
        return official_mlvu(answer, question.references[-1])

    def published(self) -> Mapping[str, Mapping[str, float]]:
        known = (*self.all_tasks, PAPERS)
        return {"AuroraLong": {name: value for name, value in AURORALONG.items() if name in known}}

    def _read_dev(self, task: str) -> list[Question]:
        """Read the questions of a task of the split dev."""
        path = first_of(self.root / "json" / f"{stem}.json" for stem in (DEV[task], task))
        videos = first_of(self.root / "video" / folder for folder in (DEV[task], task))
        questions = []
        for index, value in enumerate(read_list(path)):
            source = f"{path}: record {index + 1}"
            with self.skipping(source):
                record = check_choice(value)
                media = Media("video", str(videos / str(record["video"])))
                questions.append(self.question(f"{task}-{index}", task, media, record, source))
        return questions

    def _read_test(self) -> list[Question]:
        """Read the questions of the selected tasks of the split test."""
        path = self.root / TEST_FILE
        videos = first_of(self.root / folder for folder in TEST_VIDEOS)
        questions = []
        for index, value in enumerate(read_list(path)):
            source = f"{path}: record {index + 1}"
            with self.skipping(source):
                record = check_record(
                    {"question_id": f"test-{index}", **check_record(value, ())}, ("question_id", "question_type")
                )
                task = record["question_type"]
                if task not in TEST:
                    raise DataError(f"question_type: got {task!r}, expected one of {', '.join(TEST)}")
                if task in self.tasks:
                    record = check_choice(record)
                    media = Media("video", str(videos / str(record["video"])))
                    questions.append(self.question(str(record["question_id"]), task, media, record, source))
        return questions
