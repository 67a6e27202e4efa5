"""Conformance of backbones. Legend: B rows, T positions, D width, V vocabulary."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from composer.parts import Backbone
from composer.prompt import Template
from composer.state import State, fingerprint
from composer.testing.module import check_checkpointing, check_module, close, require
from composer.testing.step import check_step

T = 12
LENGTHS = (7, 12, 1, 4)
TEXT = "What moves?\n\n"


def check_backbone(backbone: Backbone) -> None:
    """Whether a backbone keeps the contract of `composer.parts.Backbone`; leaves it in eval mode on the CPU.

    The checks run on a copy whose parameters have been stirred: at some initialisations (the author's of RWKV) every
    block is the identity, and nothing could be seen. Raises AssertionError with what to mend.
    """
    _check_attributes(backbone)
    _check_groups(backbone)
    stirred = _stirred(backbone.eval())
    _check_shapes(stirred)
    _check_causality(stirred)
    _check_state(stirred)
    _check_kept_states(stirred)
    for left in (False, True):
        _check_padding(stirred, left)
    _check_packing(stirred)
    check_step(stirred, *_pad(_embeds(stirred), left=False))
    check_module(stirred, _logits)
    check_checkpointing(stirred, _logits, stirred.block_classes)
    _check_input_gradient(stirred)


def _check_attributes(backbone: Backbone) -> None:
    for name in ("dim", "vocab_size"):
        value = getattr(backbone, name, None)
        require(isinstance(value, int) and value > 0, f"{name} is {value!r}: set it to a positive int in __init__")
    context = getattr(backbone, "context_length", 0)
    require(
        context is None or (isinstance(context, int) and context > 0),
        f"context_length is {context!r}: set it in __init__ to a positive int, or None if unknown",
    )
    template = getattr(backbone, "template", None)
    require(isinstance(template, Template), f"template is {template!r}: set it to a ChatTemplate")
    classes = getattr(backbone, "block_classes", None)
    require(
        isinstance(classes, tuple) and all(isinstance(c, type) and issubclass(c, nn.Module) for c in classes),
        f"block_classes is {classes!r}: set it to a tuple of module classes (it may be empty)",
    )
    state_class = getattr(backbone, "state_class", None)
    require(
        isinstance(state_class, type) and issubclass(state_class, State),
        f"state_class is {state_class!r}: set it to the subclass of composer.state.State that forward returns",
    )
    tokenizer = backbone.tokenizer
    require(
        tokenizer.vocab_size <= backbone.vocab_size,
        f"the tokenizer has {tokenizer.vocab_size} ids, and the head only {backbone.vocab_size} rows",
    )
    require(0 <= tokenizer.end_id < tokenizer.vocab_size, f"the tokenizer's end_id {tokenizer.end_id} is not an id")
    ids = tokenizer.encode(TEXT)
    require(all(0 <= i < tokenizer.vocab_size for i in ids), "the tokenizer encodes to ids beyond its vocab_size")
    require(tokenizer.decode(ids) == TEXT, f"the tokenizer decodes {TEXT!r} to {tokenizer.decode(ids)!r}")


def _check_groups(backbone: Backbone) -> None:
    grouped = [parameter for group in backbone.parameter_groups() for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    trainable = {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    counts = {key: sum(id(parameter) == key for parameter in grouped) for key in {id(p) for p in grouped} | trainable}
    wrong = [names.get(key, "a foreign tensor") for key, count in counts.items() if count != (key in trainable)]
    require(
        not wrong,
        f"parameter_groups() must hold every trainable parameter once and nothing else; wrong: {', '.join(wrong)}",
    )


@torch.no_grad()
def _check_shapes(backbone: Backbone) -> None:
    ids = torch.arange(2 * T).view(2, T) % backbone.vocab_size
    embeds = backbone.embed(ids)
    expected = (2, T, backbone.dim)
    require(embeds.shape == expected, f"embed() gives {tuple(embeds.shape)}, expected {expected}")
    before = embeds.clone()
    hidden, state = backbone(embeds)
    require(torch.equal(embeds, before), "forward changed the embeddings it was given: copy before writing")
    require(hidden.shape == expected, f"forward gives {tuple(hidden.shape)}, expected {expected}")
    require(hidden.dtype == embeds.dtype, f"forward gives {hidden.dtype} for embeddings of {embeds.dtype}")
    kind = backbone.state_class
    require(
        type(state) is kind,
        f"forward's second value is a {type(state).__name__}, expected the state_class {kind.__name__}",
    )
    logits = backbone.head(hidden)
    expected = (2, T, backbone.vocab_size)
    require(logits.shape == expected, f"head() gives {tuple(logits.shape)}, expected {expected}")
    flat = backbone.head(hidden[0, 0])
    require(close(flat, logits[0, 0]), "head() of one position differs from head() of a batch of positions")
    last = torch.tensor([[backbone.vocab_size - 1]])
    require(backbone.embed(last).shape == (1, 1, backbone.dim), "embed() does not take the last id of the vocabulary")
    for wrong in (-1, backbone.vocab_size):
        try:
            backbone.embed(torch.tensor([[wrong]]))
        except ValueError:
            continue
        except Exception as error:
            require(False, f"embed() raises {error!r} for id {wrong}: call composer.parts.check_ids, a ValueError")
        require(False, f"embed() takes id {wrong}, which is no row of the vocabulary: call composer.parts.check_ids")


@torch.no_grad()
def _check_causality(backbone: Backbone) -> None:
    embeds = _embeds(backbone)
    # Not a constant added to all channels: a norm at the input removes that.
    changed = embeds.clone()
    changed[:, T // 2 :] = changed[:, T // 2 :].flip(-1)
    hidden, _ = backbone(embeds)
    other, _ = backbone(changed)
    require(close(other[:, : T // 2], hidden[:, : T // 2]), "a later position changes the hidden state of earlier ones")
    require(not close(other[:, -1], hidden[:, -1]), "the hidden state does not depend on its own position's embedding")
    changed = embeds.clone()
    changed[:, 0] = changed[:, 0].flip(-1)
    other, _ = backbone(changed)
    require(not close(other[:, 1:], hidden[:, 1:]), "the first position reaches no later one: is anything mixed?")


@torch.no_grad()
def _check_state(backbone: Backbone) -> None:
    embeds = _embeds(backbone)
    whole, end = backbone(embeds)
    _, state = backbone(embeds[:, :5])
    kept = state.clone()
    rest, _ = backbone(embeds[:, 5:], None, state)
    require(close(rest, whole[:, 5:]), "reading in two pieces with the state between differs from reading at once")
    again, _ = backbone(embeds[:, 5:], None, state)
    require(torch.equal(again, rest), "forward changed the state it was given: a second use of it gives other values")
    cloned, _ = backbone(embeds[:, 5:], None, kept)
    require(torch.equal(cloned, rest), "a clone of the state is not the state")
    steps, step_state = [], state
    for place in range(5, T):
        hidden, step_state = backbone(embeds[:, place : place + 1], None, step_state)
        steps.append(hidden)
    require(close(torch.cat(steps, dim=1), whole[:, 5:]), "reading position by position differs from reading at once")
    rows = torch.tensor([2, 0, 2])
    chosen, _ = backbone(embeds[rows, 5:], None, state.select(rows))
    require(close(chosen, whole[rows, 5:]), "select() does not give the states of these rows in this order")
    more, _ = backbone(embeds[:, :3], None, end)
    fresh, _ = backbone(embeds[:, :3])
    require(not close(more, fresh), "the state carries nothing: what was read before makes no difference")


@torch.no_grad()
def _check_kept_states(backbone: Backbone) -> None:
    """States of rows that have read texts of several lengths, joined and kept in a file."""
    embeds = _embeds(backbone)
    alone = [backbone(embeds[row : row + 1, :length])[1] for row, length in enumerate(LENGTHS)]
    expected = torch.cat([backbone(embeds[:1, :2], None, state)[0] for state in alone])
    joined = backbone.state_class.cat(alone)
    then, _ = backbone(embeds[:1, :2].expand(len(LENGTHS), -1, -1), None, joined)
    require(close(then, expected), "cat() does not give the rows of all states in their order")
    require(joined.rows == len(LENGTHS), f"a state of {len(LENGTHS)} rows says that it has {joined.rows}")
    with TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        joined.save(path, fingerprint(backbone))
        loaded = backbone.state_class.load(path, fingerprint(backbone))
    again, _ = backbone(embeds[:1, :2].expand(len(LENGTHS), -1, -1), None, loaded)
    require(torch.equal(again, then), "a state that was saved and loaded is not the state")


@torch.no_grad()
def _check_packing(backbone: Backbone) -> None:
    """Sequences in one row, first from nothing and then from a state of one row each, beside each alone."""
    embeds = _embeds(backbone)
    cu_seqlens = torch.tensor([0, *LENGTHS]).cumsum(0)
    packed = torch.cat([embeds[row, :length] for row, length in enumerate(LENGTHS)])[None]
    state: State | None = None
    alone: list[State | None] = [None] * len(LENGTHS)
    for what in ("packed sequences", "packed sequences after a state"):
        hidden, state = backbone(packed, state=state, cu_seqlens=cu_seqlens)
        found = [_row(backbone, embeds[row, :length], alone[row]) for row, length in enumerate(LENGTHS)]
        require(hidden.shape == packed.shape, f"with {what}, forward gives {tuple(hidden.shape)}")
        for start, (expected, _) in zip(cu_seqlens.tolist(), found, strict=False):
            require(
                close(hidden[0, start : start + len(expected)], expected),
                f"with {what}, a sequence's hidden states are not those of it alone",
            )
        alone = [after for _, after in found]
    then, _ = backbone(embeds[:, :2], None, state)
    expected = torch.cat([backbone(embeds[row : row + 1, :2], None, after)[0] for row, after in enumerate(alone)])
    require(close(then, expected), "the states after packed sequences are not those after each alone")
    for wrong in ([0, packed.shape[1] - 1], [1, packed.shape[1]], [0, 5, 5, packed.shape[1]]):
        try:
            backbone(packed, cu_seqlens=torch.tensor(wrong))
        except ValueError:
            continue
        require(False, f"forward takes cu_seqlens {wrong} for {packed.shape[1]} positions: call check_packed")


@torch.no_grad()
def _check_padding(backbone: Backbone, left: bool) -> None:
    """Rows of several lengths in one batch, first from nothing and then from a state, beside each row alone."""
    side = "left" if left else "right"
    embeds, then = _embeds(backbone), _embeds(backbone).flip(0)
    first = [_row(backbone, embeds[row, :length], None) for row, length in enumerate(LENGTHS)]
    second = [_row(backbone, then[row, : LENGTHS[row]], state) for row, (_, state) in enumerate(first)]
    padded, mask = _pad(embeds, left)
    hidden, state = backbone(padded, mask)
    _require_rows(hidden, mask, [alone for alone, _ in first], f"{side} padding")
    padded, mask = _pad(then, left)
    hidden, state = backbone(padded, mask, state)
    _require_rows(hidden, mask, [alone for alone, _ in second], f"{side} padding after a state that was padded too")
    after, _ = backbone(embeds[:, :2], None, state)
    alone = torch.cat([backbone(embeds[row : row + 1, :2], None, end)[0] for row, (_, end) in enumerate(second)])
    require(close(after, alone), f"the state after {side} padding is not the state after the row's last real position")


def _row(backbone: Backbone, embeds: Tensor, state: State | None) -> tuple[Tensor, State]:
    """One row [t, D] alone: its hidden states and the state after it."""
    hidden, after = backbone(embeds[None], None, state)
    return hidden[0], after


def _pad(embeds: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    """The first positions of each row, with noise as padding, and the mask."""
    padded, mask = torch.full_like(embeds, 3.0), torch.zeros(embeds.shape[:2], dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        places = slice(T - length, T) if left else slice(0, length)
        padded[row, places], mask[row, places] = embeds[row, :length], True
    return padded, mask


def _require_rows(hidden: Tensor, mask: Tensor, alone: list[Tensor], what: str) -> None:
    for row, expected in enumerate(alone):
        require(
            close(hidden[row, mask[row]], expected), f"with {what}, a row's hidden states are not those of it alone"
        )


def _check_input_gradient(backbone: Backbone) -> None:
    embeds = _embeds(backbone).requires_grad_(True)
    hidden, _ = backbone(embeds)
    hidden[:, -1].square().sum().backward()
    require(embeds.grad is not None, "no gradient reaches the embeddings: the projector could not learn")
    backbone.zero_grad(set_to_none=True)


def _logits(backbone: nn.Module) -> Tensor:
    assert isinstance(backbone, Backbone)
    ids = torch.arange(2 * T).view(2, T) % backbone.vocab_size
    hidden, _ = backbone(backbone.embed(ids), torch.arange(T)[None] < torch.tensor([[T], [T - 3]]))
    return backbone.head(hidden[:, : T - 3])


def _embeds(backbone: Backbone) -> Tensor:
    """Embeddings of four rows, the same on every call: [4, T, D]."""
    return torch.randn(len(LENGTHS), T, backbone.dim, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _stirred(backbone: Backbone) -> Backbone:
    other = copy.deepcopy(backbone)
    generator = torch.Generator().manual_seed(0)
    for parameter in other.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return other
