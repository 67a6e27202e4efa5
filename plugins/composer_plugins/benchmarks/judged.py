"""Base of benchmarks with a judge: yes or no and a score from 0 to 5, with Video-ChatGPT's prompt."""

import ast
import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from statistics import fmean
from typing import ClassVar, NamedTuple, TypedDict

from composer.benchmark import Benchmark, Grade, Metric, Question, Reply, Summary
from composer.errors import ConfigError
from composer_plugins.benchmarks.judge import Judge, JudgeMessage, NoReply

MATCH_SYSTEM = (
    "You are an intelligent chatbot designed for evaluating the correctness of generative outputs for question-answer "
    "pairs. Your task is to compare the predicted answer with the correct answer and determine if they match "
    "meaningfully. Here's how you can accomplish the task:------##INSTRUCTIONS: - Focus on the meaningful match "
    "between the predicted answer and the correct answer.\n- Consider synonyms or paraphrases as valid matches.\n- "
    "Evaluate the correctness of the prediction compared to the answer."
)
MATCH = (
    "Please evaluate the following video-based question-answer pair:\n\nQuestion: {question}\nCorrect Answer: "
    "{answer}\nPredicted Answer: {prediction}\n\nProvide your evaluation only as a yes/no and score where the score "
    "is an integer value between 0 and 5, with 5 indicating the highest meaningful match. Please generate the "
    "response in the form of a Python dictionary string with keys 'pred' and 'score', where value of 'pred' is  a "
    "string of 'yes' or 'no' and value of 'score' is in INTEGER, not STRING.DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR "
    "EXPLANATION. Only provide the Python dictionary string. For example, your response should look like this: "
    "{{'pred': 'yes', 'score': 4.8}}."
)
"""The prompt that defines the metric: Video-ChatGPT, quantitative_evaluation/evaluate_activitynet_qa.py."""

MATCH_TOKENS = 64

RATED = (Metric("accuracy"), Metric("score", "of 5", factor=1.0, digits=2))


class Rating(NamedTuple):
    """Rating of an answer. right: whether it matches the reference. score: how well, 0 to 5."""

    right: bool
    score: float


class JudgeOptions(TypedDict, total=False):
    """Options of a judge, which a benchmark passes on to `Judged`."""

    judge: str
    judge_model: str | None
    judge_revision: str | None
    judge_url: str
    judge_at_once: int


class Judged(Benchmark):
    """A benchmark with open answers. Options: `composer_plugins.benchmarks.JudgeConfig`.

    Attributes:
        name: Name on the command line.
        tasks: Selected tasks.
        needs_judge: Whether all metrics need a judge.
        prompts: All prompts of the judge.
    """

    metrics: tuple[Metric, ...] = RATED
    grading_options = frozenset({"judge", "judge_model", "judge_revision", "judge_url", "judge_at_once"})
    name: ClassVar[str]
    tasks: tuple[str, ...]
    needs_judge: ClassVar[bool] = True
    prompts: tuple[str, ...] = (MATCH_SYSTEM, MATCH)

    def __init__(
        self,
        judge: str = "none",
        judge_model: str | None = None,
        judge_revision: str | None = None,
        judge_url: str = "",
        judge_at_once: int = 1,
    ) -> None:
        if judge == "none" and self.needs_judge:
            raise ConfigError(
                f"{self.name}.judge: got none, but all its metrics need a judge: give --judge-model=NAME, or "
                "--judge=local --judge-model=FOLDER"
            )
        self._create_judge = partial(_judge_of, judge, judge_model, judge_revision, judge_url)
        self._about = {"kind": judge, "model": judge_model, "revision": judge_revision}
        if judge == "openai":
            self._about |= {"url": judge_url}
        # All threads share a local model.
        self.at_once = judge_at_once if judge == "openai" else 1

    @cached_property
    def _judge(self) -> Judge | None:
        """The judge, created on first use: a local one imports torch, which checking options does not need."""
        return self._create_judge()

    def judge_id(self) -> Mapping[str, object] | None:
        if self._judge is None:
            return None
        return {**self._about, "prompts": hashlib.sha256("\0".join(self.prompts).encode()).hexdigest()[:16]}

    def grade(self, question: Question, answer: str) -> Grade:
        if self._judge is None:
            return self.without_judge(question, answer)
        replies: list[Reply] = []
        try:
            scores = self.judge_answer(self._judge, question, answer, replies)
        except NoReply as problem:
            return Grade(problem=str(problem), replies=tuple(replies))
        return Grade(scores, replies=tuple(replies))

    @abstractmethod
    def judge_answer(self, judge: Judge, question: Question, answer: str, replies: list[Reply]) -> Mapping[str, float]:
        """Return the judge's scores of an answer; its replies are appended to `replies`. Raises NoReply."""

    def without_judge(self, question: Question, answer: str) -> Grade:
        """Return the grade of an answer without a judge, for benchmarks that do not need one."""
        raise NotImplementedError

    def averages(self, grades: Mapping[str, Sequence[Grade]]) -> Mapping[str, Mapping[str, float]]:
        """Return averages by name and metric, from the grades of each task; {} for an average without grades."""
        return {}

    def summarize(self, questions: Sequence[Question], answers: Sequence[str], grades: Sequence[Grade]) -> Summary:
        of_task: dict[str, list[Grade]] = {task: [] for task in self.tasks}
        for question, grade in zip(questions, grades, strict=True):
            of_task[question.task].append(grade)
        tasks = {task: means for task, graded in of_task.items() if (means := means_of(graded))}
        averages = {name: values for name, values in self.averages(of_task).items() if values}
        return Summary(
            tasks=tasks,
            counts={task: len(graded) for task, graded in of_task.items() if graded},
            averages={name: values[self.metric] for name, values in averages.items()},
            other_metrics={
                name: {metric: value for metric, value in values.items() if metric != self.metric}
                for name, values in averages.items()
            },
            unparsed=None,
            ungraded=sum(grade.problem is not None for grade in grades),
        )


def means_of(grades: Sequence[Grade]) -> dict[str, float]:
    """Return the mean of each metric over the grades with scores; {} if there are none."""
    scored = [grade.scores for grade in grades if grade.scores]
    return {name: fmean(scores[name] for scores in scored) for name in scored[0]} if scored else {}


def rate(judge: Judge, question: str, answer: str, prediction: str, replies: list[Reply]) -> Rating:
    """Return the judge's rating of a prediction compared with the correct answer. Raises NoReply."""
    prompt = MATCH.format(question=question, answer=answer, prediction=prediction)
    messages = (JudgeMessage("system", MATCH_SYSTEM), JudgeMessage("user", prompt))
    return judge.ask(messages, read_rating, replies, max_tokens=MATCH_TOKENS)


def read_rating(text: str) -> Rating | None:
    """Parse a reply, for example `{'pred': 'yes', 'score': 4}` with or without other text; None if it has no rating.

    Decimals of a score are kept, as in the prompt's example. Scores outside 0 to 5 are ignored.
    """
    for match in re.findall(r"\{[^{}]*\}", text):
        try:
            rating = ast.literal_eval(match)  # JSON of two plain values is a Python literal too
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if not isinstance(rating, dict):
            continue
        right, score = str(rating.get("pred")).strip().lower(), rating.get("score")
        if (
            right in ("yes", "no")
            and isinstance(score, int | float)
            and not isinstance(score, bool)
            and 0 <= score <= 5
        ):
            return Rating(right == "yes", float(score))
    return None


def _judge_of(kind: str, model: str | None, revision: str | None, url: str) -> Judge | None:
    """Judge of the options, which `JudgeConfig` has checked; None for no judge."""
    if kind == "none" or model is None:
        return None
    if kind == "openai":
        from composer_plugins.benchmarks.judge_openai import OpenAIJudge

        return OpenAIJudge(model, url)
    from composer_plugins.benchmarks.judge_local import LocalJudge

    return LocalJudge(model, revision)
