"""Text generation for a batch of prompts. Legend: B rows, b rows that still speak, D width, V vocabulary."""

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
    """The answer of each row, in order; greedy unless `temperature` is above 0.

    batch: prompts, as `Processor.encode(..., answer=True)` makes them. top_p: sample from the fewest tokens whose
    probabilities sum to it. seed: makes sampling repeatable. A row answers as it would alone, and ends at the end of
    a turn or of the text, after `max_new_tokens`, or where the backbone's context is full.
    """
    said = [""] * len(batch.ids)
    for pieces in _steps(model, batch, max_new_tokens, temperature, top_p, seed):
        for row, piece in pieces.items():
            said[row] += piece
    return [text.rstrip() for text in said]


def stream(
    model: MultimodalModel,
    batch: Batch,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> Iterator[str]:
    """The answer to a batch of one prompt, in pieces of whole characters as they become certain.

    Options as in `generate`.
    """
    assert len(batch.ids) == 1, "stream() speaks for one row; generate() takes more"
    for pieces in _steps(model, batch, max_new_tokens, temperature, top_p, seed):
        if pieces[0]:
            yield pieces[0]


@torch.no_grad()
def _steps(
    model: MultimodalModel, batch: Batch, max_new_tokens: int, temperature: float, top_p: float, seed: int | None
) -> Iterator[dict[int, str]]:
    """The next token of each row that still speaks, as pieces of text by row."""
    backbone = model.backbone
    limits = [_limit(max_new_tokens, backbone.context_length, length) for length in batch.mask.sum(dim=1).tolist()]
    transcripts = [Transcript(backbone.tokenizer, backbone.template, limit) for limit in limits]
    generator = torch.Generator(batch.ids.device)
    generator.seed() if seed is None else generator.manual_seed(seed)

    def choose(logits: Tensor) -> Tensor:
        # Rows of the head beyond the tokenizer's ids pad the matrix and mean nothing.
        return _choose(logits[:, : backbone.tokenizer.vocab_size].float(), temperature, top_p, generator)

    rows = list(range(len(transcripts)))
    hidden, state = model.prefill(batch)
    ids = choose(backbone.head(hidden))
    decoding = decoding_of(backbone, state, max(1, *limits))
    for count in itertools.count(1):
        read = _to_host(ids)
        # The last token of a row is never read again: its position may be beyond the context.
        ahead = decoding.ahead and all(count < limits[row] for row in rows)
        if ahead:
            ids = choose(decoding(ids))
        speaking = [(row, token) for row, token in zip(rows, read(), strict=True) if not transcripts[row].done]
        yield {row: transcripts[row].push(token) for row, token in speaking}
        left = [place for place, row in enumerate(rows) if not transcripts[row].done]
        if not left:
            return
        # Rows that have ended are dropped at once, but while steps run ahead only by the half: a graph has one shape.
        if len(left) < len(rows) and (not ahead or 2 * len(left) <= len(rows)):
            kept = torch.tensor(left, device=ids.device)
            ids, rows = ids[kept], [rows[place] for place in left]
            decoding.select(kept)
        if not ahead:
            ids = choose(decoding(ids))


def _to_host(ids: Tensor) -> Callable[[], list[int]]:
    """Starts to copy ids to the host; calling what it returns waits for the copy, and for no later work."""
    if not ids.is_cuda:
        return ids.tolist
    copy, copied = ids.to("cpu", non_blocking=True), torch.cuda.Event()
    copied.record()

    def read() -> list[int]:
        copied.synchronize()
        return copy.tolist()

    return read


def _limit(max_new_tokens: int, context_length: int | None, prompt: int) -> int:
    """Tokens that a row may say; the last of them is never read again, so it needs no place in the context."""
    return max_new_tokens if context_length is None else min(max_new_tokens, context_length - prompt + 1)


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """[b, V] to [b] ids."""
    if temperature <= 0:
        return logits.argmax(dim=-1)
    probabilities, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before >= top_p, 0)
    return order.gather(1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(1)
