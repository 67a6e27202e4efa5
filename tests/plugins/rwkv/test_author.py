"""RWKV-6 and RWKV-7 against the author's `rwkv` package, on random weights in his layout."""

from typing import Any

import pytest
import torch
from torch import Tensor

from composer_plugins.rwkv.backbone import RWKVBackbone
from tests.plugins.rwkv.author import authors, distance, random_model

TOLERANCE = 5e-6
SIZES = {
    "64x4": {"width": 64, "head_size": 32, "depth": 4},
    "128x3": {"width": 128, "head_size": 64, "depth": 3},
    "192x1": {"width": 192, "head_size": 64, "depth": 1},
    "256x2": {"width": 256, "head_size": 64, "depth": 2, "ffn_width": 320},
}
Pair = tuple[RWKVBackbone, Any]


@pytest.fixture(scope="module", params=[(v, s) for v in "67" for s in SIZES], ids=lambda p: f"v{p[0]}-{p[1]}")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Our model and the author's with the same weights."""
    version, size = request.param
    made = random_model(version, **SIZES[size])
    return made, authors(made, tmp_path_factory.mktemp("rwkv") / "model.pth")


def random_ids(length: int) -> Tensor:
    return torch.randint(0, 257, (1, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
def read(made: RWKVBackbone, ids: Tensor, pieces: tuple[int, ...]) -> tuple[Tensor, Any]:
    """Logits [T, V] and the state after reading ids [1, T] in pieces of these lengths."""
    logits, state = [], None
    for piece in ids.split(pieces, dim=1):
        hidden, state = made(made.embed(piece), None, state)
        logits.append(made.head(hidden)[0])
    return torch.cat(logits), state


@pytest.mark.parametrize(
    "pieces", [(1,), (2,), (33,), (150,), (1, 7, 64, 1, 40, 37), (1,) * 12, (600,), (300, 300)], ids=str
)
def test_logits_argmax_and_states_equal_the_authors(pair: Pair, pieces: tuple[int, ...]) -> None:
    made, author = pair
    ids = random_ids(sum(pieces))
    expected, expected_state = author.forward(ids[0].tolist(), None, full_output=True)
    expected = expected.view(ids.shape[1], -1)  # of a single id, the package gives a vector
    logits, state = read(made, ids, pieces)
    assert distance(logits, expected) < TOLERANCE  # measured: 2.7e-6 v6, 8e-7 v7
    assert torch.equal(logits.argmax(dim=-1), expected.argmax(dim=-1))
    for layer, own in enumerate(state.layers):
        shift, wkv, ffn_shift = expected_state[3 * layer : 3 * layer + 3]
        assert distance(own.shift[0], shift) < TOLERANCE
        assert distance(own.ffn_shift[0], ffn_shift) < TOLERANCE
        # In version 7 the package keeps (value, key).
        assert distance(own.wkv[0], wkv.mT if made.version == "7" else wkv) < TOLERANCE


@torch.no_grad()
def test_greedy_generation_says_the_authors_tokens(pair: Pair) -> None:
    made, author = pair
    prompt = random_ids(20)
    logits, theirs = author.forward(prompt[0].tolist(), None)
    expected = []
    for _ in range(40):
        expected.append(int(logits.argmax()))
        logits, theirs = author.forward([expected[-1]], theirs)
    hidden, state = made(made.embed(prompt))
    tokens = []
    for _ in range(40):
        tokens.append(int(made.head(hidden[:, -1]).argmax()))
        hidden, state = made(made.embed(torch.tensor([[tokens[-1]]])), None, state)
    assert tokens == expected
    assert len(set(tokens)) > 3, "a model that repeats itself would hide differences"
