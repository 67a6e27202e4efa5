"""Text generation for a batch of prompts. Legend: B rows, b rows that are not finished, D width, V vocabulary."""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from composer.batch import Batch
from composer.inference.decoding import decoding_of
from composer.inference.transcript import Transcript
from composer.model.multimodal import MultimodalModel


def generate(
    model: MultimodalModel,
    batch: Batch,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> list[str]:
    """Generate an answer for each row, in order. The rows of a batch do not affect each other.

    An answer ends at the end of the turn or text, after `max_new_tokens`, or if the backbone's context is full.

    Args:
        model: Model in evaluation mode.
        batch: Prompts from `Processor.encode(..., answer=True)`, on the model's device.
        max_new_tokens: Maximum length of an answer in tokens.
        temperature: Temperature of sampling; 0 for the most likely tokens.
        top_p: Sample from the fewest tokens whose probabilities sum to this.
        seed: Seed of sampling; random if None.
    """
    texts = [""] * len(batch.ids)
    for pieces in _steps(model, batch, max_new_tokens, temperature, top_p, seed):
        for row, piece in pieces.items():
            texts[row] += piece
    return [text.rstrip() for text in texts]


def stream(
    model: MultimodalModel,
    batch: Batch,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> Iterator[str]:
    """Generate the answer to a batch of one prompt, in pieces of complete characters.

    Arguments are those of `generate`.
    """
    assert len(batch.ids) == 1, "stream() takes one row; generate() takes several"
    for pieces in _steps(model, batch, max_new_tokens, temperature, top_p, seed):
        if pieces[0]:
            yield pieces[0]


@torch.no_grad()
def _steps(
    model: MultimodalModel, batch: Batch, max_new_tokens: int, temperature: float, top_p: float, seed: int | None
) -> Iterator[dict[int, str]]:
    """The next token of each row that is not finished, as pieces of text by row."""
    backbone = model.backbone
    limits = [_limit(max_new_tokens, backbone.context_length, length) for length in batch.mask.sum(dim=1).tolist()]
    transcripts = [Transcript(backbone.tokenizer, backbone.template, limit) for limit in limits]
    generator = torch.Generator(batch.ids.device)
    generator.seed() if seed is None else generator.manual_seed(seed)

    def choose(logits: Tensor) -> Tensor:
        # Rows of the head beyond the tokenizer's ids are padding.
        return _choose(logits[:, : backbone.tokenizer.vocab_size].float(), temperature, top_p, generator)

    rows = list(range(len(transcripts)))
    hidden, state = model.prefill(batch)
    ids = choose(backbone.head(hidden))
    decoding = decoding_of(backbone, state, max(1, *limits))
    for count in itertools.count(1):
        read = _to_host(ids)
        # The last token of a row is not decoded, because its position may be beyond the context.
        ahead = decoding.ahead and all(count < limits[row] for row in rows)
        if ahead:
            ids = choose(decoding(ids))
        tokens = [(row, token) for row, token in zip(rows, read(), strict=True) if not transcripts[row].done]
        yield {row: transcripts[row].push(token) for row, token in tokens}
        active = [index for index, row in enumerate(rows) if not transcripts[row].done]
        if not active:
            return
        # Finished rows are dropped at once; if steps run ahead, only when half are finished: a graph has a fixed shape.
        if len(active) < len(rows) and (not ahead or 2 * len(active) <= len(rows)):
            selection = torch.tensor(active, device=ids.device)
            ids, rows = ids[selection], [rows[index] for index in active]
            decoding.select(selection)
        if not ahead:
            ids = choose(decoding(ids))


def _to_host(ids: Tensor) -> Callable[[], list[int]]:
    """Start to copy ids to the host. The returned function waits for the copy, but not for later work."""
    if not ids.is_cuda:
        return ids.tolist
    copy, copied = ids.to("cpu", non_blocking=True), torch.cuda.Event()
    copied.record()

    def read() -> list[int]:
        copied.synchronize()
        return copy.tolist()

    return read


def _limit(max_new_tokens: int, context_length: int | None, prompt: int) -> int:
    """Maximum number of tokens of a row. The last one is not decoded, so it needs no position in the context."""
    return max_new_tokens if context_length is None else min(max_new_tokens, context_length - prompt + 1)


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """[b, V] to [b] ids."""
    if temperature <= 0:
        return logits.argmax(dim=-1)
    probabilities, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before >= top_p, 0)
    return order.gather(1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(1)
