"""Conformance of backbones. Legend: B rows, T positions, D width, V vocabulary."""

import copy
from itertools import accumulate
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
    """Check that a backbone follows the contract of `composer.parts.Backbone`. Leaves it in eval mode.

    The checks run on a copy with perturbed parameters: in some initializations, such as RWKV's own, every block is
    the identity, and the checks would detect nothing.

    Args:
        backbone: A small backbone on the CPU.

    Raises:
        AssertionError: If the contract is broken. Names what to fix.
    """
    _check_attributes(backbone)
    _check_groups(backbone)
    perturbed = _perturb(backbone.eval())
    _check_shapes(perturbed)
    _check_causality(perturbed)
    _check_state(perturbed)
    _check_saved_states(perturbed)
    for left in (False, True):
        _check_padding(perturbed, left)
    _check_packing(perturbed)
    check_step(perturbed, *_pad(_embeds(perturbed), left=False))
    check_module(perturbed, _logits)
    check_checkpointing(perturbed, _logits, perturbed.block_classes)
    _check_input_gradient(perturbed)


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
        f"the tokenizer has {tokenizer.vocab_size} ids, but the head only {backbone.vocab_size} rows",
    )
    require(0 <= tokenizer.end_id < tokenizer.vocab_size, f"the tokenizer's end_id {tokenizer.end_id} is not an id")
    ids = tokenizer.encode(TEXT)
    require(all(0 <= i < tokenizer.vocab_size for i in ids), "the tokenizer returns ids outside its vocab_size")
    require(tokenizer.decode(ids) == TEXT, f"the tokenizer decodes {TEXT!r} to {tokenizer.decode(ids)!r}")


def _check_groups(backbone: Backbone) -> None:
    grouped = [parameter for group in backbone.parameter_groups() for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    trainable = {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    counts = {key: sum(id(parameter) == key for parameter in grouped) for key in {id(p) for p in grouped} | trainable}
    wrong = [
        names.get(key, "a tensor that is not a parameter")
        for key, count in counts.items()
        if count != (key in trainable)
    ]
    require(
        not wrong,
        f"parameter_groups() must contain each trainable parameter exactly once, and nothing else; wrong: "
        f"{', '.join(wrong)}",
    )


@torch.no_grad()
def _check_shapes(backbone: Backbone) -> None:
    ids = torch.arange(2 * T).view(2, T) % backbone.vocab_size
    embeds = backbone.embed(ids)
    expected = (2, T, backbone.dim)
    require(embeds.shape == expected, f"embed() returned {tuple(embeds.shape)}, expected {expected}")
    before = embeds.clone()
    hidden, state = backbone(embeds)
    require(torch.equal(embeds, before), "forward changed its input embeddings: copy them before writing")
    require(hidden.shape == expected, f"forward returned {tuple(hidden.shape)}, expected {expected}")
    require(hidden.dtype == embeds.dtype, f"forward returned {hidden.dtype} for embeddings of {embeds.dtype}")
    kind = backbone.state_class
    require(
        type(state) is kind,
        f"forward's second value is a {type(state).__name__}, expected the state_class {kind.__name__}",
    )
    logits = backbone.head(hidden)
    expected = (2, T, backbone.vocab_size)
    require(logits.shape == expected, f"head() returned {tuple(logits.shape)}, expected {expected}")
    flat = backbone.head(hidden[0, 0])
    require(close(flat, logits[0, 0]), "head() of one position differs from head() of a batch of positions")
    last = torch.tensor([[backbone.vocab_size - 1]])
    require(backbone.embed(last).shape == (1, 1, backbone.dim), "embed() does not accept the last id of the vocabulary")
    for wrong in (-1, backbone.vocab_size):
        try:
            backbone.embed(torch.tensor([[wrong]]))
        except ValueError:
            continue
        except Exception as error:
            require(
                False, f"embed() raised {error!r} for id {wrong}, expected ValueError: call composer.parts.check_ids"
            )
        require(False, f"embed() accepts id {wrong}, which is outside the vocabulary: call parts.check_ids")


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
    require(
        not close(other[:, 1:], hidden[:, 1:]),
        "the first position has no effect on later ones: check that the blocks mix positions",
    )


@torch.no_grad()
def _check_state(backbone: Backbone) -> None:
    embeds = _embeds(backbone)
    whole, end = backbone(embeds)
    _, state = backbone(embeds[:, :5])
    kept = state.clone()
    rest, _ = backbone(embeds[:, 5:], None, state)
    require(
        close(rest, whole[:, 5:]),
        "a sequence in two pieces, with the state between them, differs from one piece",
    )
    again, _ = backbone(embeds[:, 5:], None, state)
    require(torch.equal(again, rest), "forward changed its input state: using the state again gives different values")
    cloned, _ = backbone(embeds[:, 5:], None, kept)
    require(torch.equal(cloned, rest), "a clone of the state gives different values")
    steps, step_state = [], state
    for position in range(5, T):
        hidden, step_state = backbone(embeds[:, position : position + 1], None, step_state)
        steps.append(hidden)
    require(
        close(torch.cat(steps, dim=1), whole[:, 5:]),
        "a sequence position by position differs from one piece",
    )
    rows = torch.tensor([2, 0, 2])
    chosen, _ = backbone(embeds[rows, 5:], None, state.select(rows))
    require(close(chosen, whole[rows, 5:]), "select() does not return the states of these rows in this order")
    more, _ = backbone(embeds[:, :3], None, end)
    fresh, _ = backbone(embeds[:, :3])
    require(not close(more, fresh), "the state has no effect: earlier positions make no difference")


@torch.no_grad()
def _check_saved_states(backbone: Backbone) -> None:
    """Check states of rows of several lengths, concatenated and saved to a file."""
    embeds = _embeds(backbone)
    alone = [backbone(embeds[row : row + 1, :length])[1] for row, length in enumerate(LENGTHS)]
    expected = torch.cat([backbone(embeds[:1, :2], None, state)[0] for state in alone])
    joined = backbone.state_class.cat(alone)
    then, _ = backbone(embeds[:1, :2].expand(len(LENGTHS), -1, -1), None, joined)
    require(close(then, expected), "cat() does not return the rows of all states in their order")
    require(joined.rows == len(LENGTHS), f"the state's rows is {joined.rows}, expected {len(LENGTHS)}")
    with TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        joined.save(path, fingerprint(backbone))
        loaded = backbone.state_class.load(path, fingerprint(backbone))
    again, _ = backbone(embeds[:1, :2].expand(len(LENGTHS), -1, -1), None, loaded)
    require(torch.equal(again, then), "a state that was saved and loaded gives different values")


@torch.no_grad()
def _check_packing(backbone: Backbone) -> None:
    """Compare sequences packed in one row with each alone: without a state, then with one state per sequence."""
    embeds = _embeds(backbone)
    cu_seqlens = tuple(accumulate(LENGTHS, initial=0))
    packed = torch.cat([embeds[row, :length] for row, length in enumerate(LENGTHS)])[None]
    state: State | None = None
    alone: list[State | None] = [None] * len(LENGTHS)
    for what in ("packed sequences", "packed sequences after a state"):
        hidden, state = backbone(packed, state=state, cu_seqlens=cu_seqlens)
        singles = [_row(backbone, embeds[row, :length], alone[row]) for row, length in enumerate(LENGTHS)]
        require(
            hidden.shape == packed.shape,
            f"with {what}, forward returned {tuple(hidden.shape)}",
        )
        for start, (expected, _) in zip(cu_seqlens, singles, strict=False):
            require(
                close(hidden[0, start : start + len(expected)], expected),
                f"with {what}, a sequence's hidden states differ from the sequence alone",
            )
        alone = [after for _, after in singles]
    then, _ = backbone(embeds[:, :2], None, state)
    expected = torch.cat([backbone(embeds[row : row + 1, :2], None, after)[0] for row, after in enumerate(alone)])
    require(close(then, expected), "the states after packed sequences differ from those after each sequence alone")
    for wrong in ([0, packed.shape[1] - 1], [1, packed.shape[1]], [0, 5, 5, packed.shape[1]]):
        try:
            backbone(packed, cu_seqlens=wrong)
        except ValueError:
            continue
        require(False, f"forward accepts cu_seqlens {wrong} for {packed.shape[1]} positions: call check_packed")


@torch.no_grad()
def _check_padding(backbone: Backbone, left: bool) -> None:
    """Compare rows of several lengths in one batch with each row alone: without a state, then with one."""
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
    require(close(after, alone), f"the state after {side} padding differs from that after the last real position")


def _row(backbone: Backbone, embeds: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Run one row [t, D] alone. Returns its hidden states and the state after it."""
    hidden, after = backbone(embeds[None], None, state)
    return hidden[0], after


def _pad(embeds: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    """Pad the first positions of each row with a constant. Returns the embeddings and the mask."""
    padded, mask = torch.full_like(embeds, 3.0), torch.zeros(embeds.shape[:2], dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        positions = slice(T - length, T) if left else slice(0, length)
        padded[row, positions], mask[row, positions] = embeds[row, :length], True
    return padded, mask


def _require_rows(hidden: Tensor, mask: Tensor, alone: list[Tensor], what: str) -> None:
    for row, expected in enumerate(alone):
        require(
            close(hidden[row, mask[row]], expected),
            f"with {what}, a row's hidden states differ from the row alone",
        )


def _check_input_gradient(backbone: Backbone) -> None:
    embeds = _embeds(backbone).requires_grad_(True)
    hidden, _ = backbone(embeds)
    hidden[:, -1].square().sum().backward()
    require(embeds.grad is not None, "no gradient reaches the embeddings: the projector could not be trained")
    backbone.zero_grad(set_to_none=True)


def _logits(backbone: nn.Module) -> Tensor:
    assert isinstance(backbone, Backbone)
    ids = torch.arange(2 * T).view(2, T) % backbone.vocab_size
    hidden, _ = backbone(backbone.embed(ids), torch.arange(T)[None] < torch.tensor([[T], [T - 3]]))
    return backbone.head(hidden[:, : T - 3])


def _embeds(backbone: Backbone) -> Tensor:
    """Create embeddings of four rows, equal on every call: [4, T, D]."""
    return torch.randn(len(LENGTHS), T, backbone.dim, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _perturb(backbone: Backbone) -> Backbone:
    """Copy a backbone and add noise to its parameters."""
    other = copy.deepcopy(backbone)
    generator = torch.Generator().manual_seed(0)
    for parameter in other.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return other
