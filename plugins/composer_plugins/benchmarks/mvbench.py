"""MVBench: 20 tasks, each with one file of questions and one folder of videos, in the official format."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from composer.benchmark import Question
from composer.sample import Media
from composer_plugins.benchmarks import Compat
from composer_plugins.benchmarks.choice import lmms_mvbench, official_mvbench
from composer_plugins.benchmarks.files import read_list
from composer_plugins.benchmarks.multiple import MultipleChoice, check_choice
from composer_plugins.benchmarks.tasks import select_tasks


class Task(NamedTuple):
    """A task.

    Attributes:
        short: Short name.
        folder: Folder of its videos in `video/`.
        bounded: Whether its questions are about segments.
        fps: Frames per second, if its videos are folders of frames.
    """

    short: str
    folder: str
    bounded: bool = False
    fps: float | None = None


TASKS = {
    "action_sequence": Task("AS", "star/Charades_v1_480", bounded=True),
    "action_prediction": Task("AP", "star/Charades_v1_480", bounded=True),
    "action_antonym": Task("AA", "ssv2_video"),
    "fine_grained_action": Task("FGA", "Moments_in_Time_Raw/videos"),
    "unexpected_action": Task("UA", "FunQA_test/test"),
    "object_existence": Task("OE", "clevrer/video_validation"),
    "object_interaction": Task("OI", "star/Charades_v1_480", bounded=True),
    "object_shuffle": Task("OS", "perception/videos"),
    "moving_direction": Task("MD", "clevrer/video_validation"),
    "action_localization": Task("AL", "sta/sta_video", bounded=True),
    "scene_transition": Task("ST", "scene_qa/video"),
    "action_count": Task("AC", "perception/videos"),
    "moving_count": Task("MC", "clevrer/video_validation"),
    "moving_attribute": Task("MA", "clevrer/video_validation"),
    "state_change": Task("SC", "perception/videos"),
    "fine_grained_pose": Task("FP", "nturgbd"),
    "character_order": Task("CO", "perception/videos"),
    "egocentric_navigation": Task("EN", "vlnqa"),
    "episodic_reasoning": Task("ER", "tvqa/frames_fps3_hq", bounded=True, fps=3.0),
    "counterfactual_inference": Task("CI", "clevrer/video_validation"),
}

NOT_IN_PAPER = ("action_antonym", "fine_grained_pose", "episodic_reasoning")
PAPERS = "paper's 17 tasks"

AURORALONG = {
    "unexpected_action": 75.0,
    "action_count": 52.0,
    "moving_attribute": 65.5,
    "object_existence": 62.5,
    "scene_transition": 87.0,
    "action_localization": 48.0,
    "action_prediction": 47.5,
    "action_sequence": 49.5,
    "character_order": 47.0,
    "counterfactual_inference": 52.0,
    "egocentric_navigation": 35.0,
    "fine_grained_action": 46.5,
    "moving_count": 48.5,
    "moving_direction": 44.0,
    "object_interaction": 54.0,
    "object_shuffle": 37.5,
    "state_change": 53.5,
    PAPERS: 53.2,
}
"""Accuracy of AuroraLong in table B6 of its paper."""


class MVBench(MultipleChoice):
    """See `composer_plugins.benchmarks.MVBenchConfig` for the options."""

    system = (
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
        "objects, and the action and pose of persons. Based on your observations, select the best option that "
        "accurately addresses the question."
    )
    prefill = "Best option:("
    all_tasks = tuple(TASKS)
    subset = tuple(task for task in TASKS if task not in NOT_IN_PAPER)
    subset_name = PAPERS

    def __init__(self, root: str, frames: int = 16, compat: Compat = "strict", tasks: Sequence[str] = ()) -> None:
        super().__init__(root, frames, compat)
        self.tasks = select_tasks(tasks, self.all_tasks, "mvbench")

    def lead(self) -> str:
        """Return the system prompt, which the official script repeats before each question."""
        return f"{self.system}\n"

    def questions(self) -> Sequence[Question]:
        return [question for task in self.tasks for question in self._read_task(task)]

    def _read_task(self, name: str) -> list[Question]:
        """Read the questions of one task."""
        path, task = self.root / "json" / f"{name}.json", TASKS[name]
        questions = []
        for index, value in enumerate(read_list(path)):
            source = f"{path}: record {index + 1}"
            with self.skipping(source):
                record = check_choice(value, seconds=("start", "end") if task.bounded else ())
                media = Media(
                    "video",
                    str(self.root / "video" / task.folder / str(record["video"])),
                    start=float(record["start"]) if task.bounded else None,
                    end=float(record["end"]) if task.bounded else None,
                    fps=task.fps,
                    rule="mvbench",
                )
                questions.append(self.question(f"{name}-{index}", name, media, record, source))
        return questions

    def counts(self, answer: str, question: Question) -> bool | None:
        # If options are equal, the correct one is the first in lmms-eval, and the last in the official script.
        if self.compat == "lmms":
            return lmms_mvbench(answer, question.references[0])
        right = question.references[-1]
        return official_mvbench(answer, right, question.options[ord(right) - ord("A")])

    def published(self) -> Mapping[str, Mapping[str, float]]:
        return {"AuroraLong": AURORALONG}
