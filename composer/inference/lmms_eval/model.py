"""A composed model as lmms-eval's `--model composer`."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from composer.batch import Example
from composer.data.dataset import Examples
from composer.data.media.clip import load_clip
from composer.errors import ConfigError, DataError, MediaError
from composer.inference.answering import greedy_answers, refuse
from composer.inference.device import device_of
from composer.inference.lmms_eval.messages import sample_of
from composer.model.checkpoint import locate, read_checkpoint, restore_model
from composer.model.processor import Processor
from composer.recipe.overrides import from_flags
from composer.recipe.resolve import resolve

log = logging.getLogger(__name__)

LONGEST = 1024
"""Maximum answer length in tokens if the task sets no `max_new_tokens`; as in most of lmms-eval's own models."""

BETWEEN_EXAMPLES = "\n\n"
"""lmms-eval's default of `until`, which is ignored: it would cut answers after their first paragraph."""


class ComposedModel(lmms):
    """A checkpoint that answers lmms-eval's requests for text, greedily.

    Of several processes, each answers the requests that lmms-eval gives it.

    Args:
        checkpoint: A file, or a run folder, which stands for its newest checkpoint.
        frames: Number of frames per video; that of training if not given.
        num_workers: Processes that decode media.
        batch_size: lmms-eval's flag of this name.
        device: lmms-eval's flag of this name.
        **overrides: Options of the model, such as `model.reducer.keep_ratio`.

    Raises:
        CheckpointError: As `read_checkpoint`.
        ConfigError: An option is unknown or has a wrong value.
    """

    is_simple = False

    def __init__(
        self,
        checkpoint: str,
        frames: int | None = None,
        num_workers: int = 2,
        batch_size: str | int = 1,
        device: str | None = None,
        **overrides: object,
    ) -> None:
        super().__init__()
        flags, unknown = from_flags([f"--{key}={value}" for key, value in overrides.items()], "model")
        if unknown:
            raise ConfigError(
                f"--model_args: got {', '.join(flag[2:] for flag in unknown)}, expected checkpoint, frames, "
                "num_workers, or an option of the model such as model.reducer.keep_ratio=0.1"
            )
        self.batch_size, self.num_workers = _positive("--batch_size", batch_size), num_workers
        path = locate(str(checkpoint))
        read = read_checkpoint(path, resume=False)
        resolved = resolve([], flags=flags, checkpoint={"model": read["hyper_parameters"]["model"]})
        if resolved.note:
            log.warning(resolved.note)
        self.device = device_of(device or "auto")
        self.model = restore_model(read, str(path), self.device, resolved.model)
        self.frames = read["composer"]["frames"] if frames is None else _positive("--model_args: frames", frames)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Answer the requests, in order.

        Raises DataError with task and document of those that cannot be asked, once all others are.
        """
        options = [request.args[2] for request in requests]
        for sampling in sorted({str(_not_greedy(option)) for option in options} - {"{}"}):
            log.warning("A task asks for %s; composer decodes greedily.", sampling)
        answers = greedy_answers(
            self.model,
            Requests(requests, self.task_dict, self.model.processor, self.frames),
            {number: int(option.get("max_new_tokens", LONGEST)) for number, option in enumerate(options)},
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            start_method="fork",  # tasks hold functions of files that no import finds, so they cannot be pickled
        )
        bar = tqdm(answers, total=len(requests), disable=self.rank != 0, desc="Model Responding")
        results = [result for _, result in bar]
        problems = [result for result in results if isinstance(result, DataError)]
        refuse(problems, len(requests), "Fix these documents, or exclude them with a task of your own")
        texts = [result for result in results if isinstance(result, str)]
        return [_cut(text, option.get("until")) for text, option in zip(texts, options, strict=True)]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        raise NotImplementedError(f"{_name_of(requests)} asks in several rounds; composer answers generate_until only")

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        raise NotImplementedError(f"{_name_of(requests)} asks for likelihoods; composer answers generate_until only")


class Requests(Examples):
    """Requests as prompts. documents: by task and split, as lmms-eval stores them."""

    def __init__(
        self,
        requests: Sequence[Instance],
        documents: Mapping[str, Mapping[str, Any]],
        processor: Processor,
        frames: int,
    ) -> None:
        self.requests, self.documents, self.processor, self.frames = requests, documents, processor, frames

    def __len__(self) -> int:
        return len(self.requests)

    def example(self, index: int) -> Example:
        """Encode a request. Raises DataError or MediaError with the task and the document."""
        _, messages_of, _, number, task, split = self.requests[index].args
        sample = sample_of(messages_of(self.documents[task][split][number]), str(number), f"{task} ({split})")
        try:
            clips = [load_clip(media, self.processor.transform, self.frames) for media in sample.media]
        except MediaError as error:
            raise MediaError(f"{error} ({sample.source}: document {number})") from None
        return self.processor.encode(sample, clips, answer=True)


def _positive(name: str, value: str | int) -> int:
    if not str(value).isdigit() or int(value) < 1:
        raise ConfigError(f"{name}: got {value!r}, expected an integer of at least 1")
    return int(value)


def _not_greedy(options: Mapping[str, Any]) -> dict[str, Any]:
    """A task's options that greedy decoding ignores."""
    greedy = {"temperature": 0, "do_sample": False, "num_beams": 1}
    return {name: options[name] for name, value in greedy.items() if (options.get(name) or value) != value}


def _cut(answer: str, until: str | Iterable[str] | None) -> str:
    """An answer up to the first of the texts that end it."""
    for end in [until] if isinstance(until, str) else until or ():
        if end and end != BETWEEN_EXAMPLES:
            answer = answer.partition(end)[0]
    return answer.rstrip()


def _name_of(requests: Sequence[Instance]) -> str:
    return f"Task {requests[0].task_name}" if requests else "A task"
