"""Decoding with a state that is updated in place, next to decoding with `forward`, which every backbone has."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from composer.inference import generate as generation
from composer.inference.decoding import EAGER_STEPS, Decoding, Graph, Growing, Reserved, decoding_of, is_static
from composer.inference.generate import generate, stream
from composer.parts import Backbone
from composer.state import State
from composer.tokenizer import tokenizer_from
from composer_plugins.transformer.backbone import TransformerBackbone
from tests.composer.inference.test_generate import PROMPTS, Scripted, TextModel, make, prompts, randomize
from tests.composer.stand_ins import SumBackbone, SumState

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "rwkv6": lambda: make("rwkv6"),
    "rwkv7": lambda: make("rwkv7"),
    "transformer": lambda: make("transformer"),
    # Windows of four positions, and learned positions that end with the context.
    "windows": lambda: architecture("mistral", 4096, sliding_window=4),
    "learned": lambda: architecture("gpt2", 24),
}


def architecture(name: str, context_length: int, **config: int) -> Backbone:
    torch.manual_seed(0)
    options = {"architecture": name, "width": 32, "depth": 2, "heads": 2, "config": config}
    made = TransformerBackbone(tokenizer=tokenizer_from("bytes"), context_length=context_length, **options)
    return randomize(made)


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return BACKBONES[request.param]().eval()


def reserved(backbone: Backbone, state: State, positions: int) -> Decoding:
    held = backbone.reserve(state, positions)
    assert held is not None
    return Reserved(backbone, held)


def after_prompts(backbone: Backbone, positions: int) -> tuple[Tensor, State]:
    """Ids to continue with, and a reserved state."""
    hidden, state = TextModel(backbone).prefill(prompts(PROMPTS))
    held = backbone.reserve(state, positions)
    assert held is not None
    return backbone.head(hidden).argmax(dim=-1), held


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_a_state_in_place_says_what_a_growing_one_says(
    backbone: Backbone, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of several lengths, which end at their own ends, at the context's end, or together."""
    model = TextModel(backbone)
    rows = [[row] for row in PROMPTS] + ([PROMPTS] if not options else [])
    expected = [generate(model, prompts(batch), max_new_tokens=30, **options) for batch in rows]  # type: ignore[arg-type]
    monkeypatch.setattr(generation, "decoding_of", reserved)
    assert [generate(model, prompts(batch), max_new_tokens=30, **options) for batch in rows] == expected  # type: ignore[arg-type]
    assert len({text for texts in expected for text in texts}) > 2


@torch.no_grad()
def test_no_tensor_of_the_state_moves(backbone: Backbone) -> None:
    ids, state = after_prompts(backbone, 8)
    addresses = {name: (value.data_ptr(), value.shape) for name, value in state.tensors().items()}
    decoding = Reserved(backbone, state)
    for _ in range(8):
        ids = decoding(ids).argmax(dim=-1)
    assert {name: (value.data_ptr(), value.shape) for name, value in state.tensors().items()} == addresses


@torch.no_grad()
def test_a_step_depends_on_no_value_and_compiles_once(backbone: Backbone) -> None:
    ids, state = after_prompts(backbone, 8)
    assert is_static(backbone, state)
    torch._dynamo.reset()

    def step(ids: Tensor, state: State) -> Tensor:
        return backbone.head(backbone.step(backbone.embed(ids[:, None]), state)[:, -1])

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    other = state.clone()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            expected, logits = step(ids, other), compiled(ids, state)
            assert torch.allclose(logits, expected, atol=1e-5)
            ids = expected.argmax(dim=-1)


class Counts(SumBackbone):
    """Steps whose shapes depend on values."""

    def reserve(self, state: State, positions: int) -> State:
        return state.clone()

    def step(self, embeds: Tensor, state: State) -> Tensor:
        return embeds[embeds[:, 0, 0] > 0]


def test_a_step_that_depends_on_values_is_seen() -> None:
    backbone = Counts()
    assert not is_static(backbone, SumState(torch.ones(2, backbone.dim)))


def test_a_backbone_without_a_step_grows_its_state() -> None:
    backbone = SumBackbone()
    assert backbone.reserve(SumState(torch.ones(2, 6)), 3) is None
    assert isinstance(decoding_of(backbone, SumState(torch.ones(2, 6)), 3), Growing)


class Counted(Scripted):
    """A script whose steps in place are counted, with the rows of each."""

    def reserve(self, state: State, positions: int) -> State:
        return state.clone()

    def step(self, embeds: Tensor, state: State) -> Tensor:
        hidden, after = self(embeds, None, state)
        state.tensors()["total"].copy_(after.tensors()["total"])
        return hidden


def test_half_of_the_rows_end_before_they_are_dropped_and_one_step_runs_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of lengths 1 to 4: the row of length n ends with token 9 - n."""
    monkeypatch.setattr(generation, "decoding_of", reserved)
    backbone = Counted("abcdef\n\n")
    rows = [[1] * length for length in (1, 2, 3, 4)]
    assert generate(TextModel(backbone), prompts(rows)) == ["abcdef", "bcdef", "cdef", "def"]
    # The prefill; tokens 2 to 7 by all rows, since the second row's end, token 6, is read after 7 is computed; then by
    # two rows, and by one a token that is dropped.
    assert backbone.read == [4, *[4] * 6, 2, 1]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_step_runs_after_the_last_token(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step too many would be a position beyond the context."""
    monkeypatch.setattr(generation, "decoding_of", reserved)
    backbone = Counted("abcdefghij")
    assert "".join(stream(TextModel(backbone), prompts([[65]]), max_new_tokens=limit)) == "abcdefghij"[:limit]
    assert len(backbone.read) == limit


@pytest.mark.gpu
@pytest.mark.parametrize("name", BACKBONES)
def test_a_cuda_graph_gives_what_growing_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32; the graph is captured after a few steps, and again after rows were dropped."""
    backbone = BACKBONES[name]().eval().cuda()
    model, batch = TextModel(backbone), prompts(PROMPTS)
    batch = batch._replace(ids=batch.ids.cuda(), mask=batch.mask.cuda())
    hidden, state = model.prefill(batch)
    graph, growing = decoding_of(backbone, state, 2 * EAGER_STEPS + 4), Growing(backbone, state)
    assert isinstance(graph, Reserved)
    ids = backbone.head(hidden).argmax(dim=-1)
    with torch.no_grad():
        for step in range(2 * EAGER_STEPS + 4):
            logits = growing(ids)
            assert torch.allclose(graph(ids), logits, atol=1e-3)
            if step == EAGER_STEPS + 1:
                assert isinstance(graph._run, Graph)
                rows = torch.tensor([2, 0], device="cuda")
                graph.select(rows)
                growing.select(rows)
                logits = logits[rows]
            ids = logits.argmax(dim=-1)
    said = generate(model, batch, max_new_tokens=30)
    monkeypatch.setattr(generation, "decoding_of", lambda backbone, state, positions: Growing(backbone, state))
    assert said == generate(model, batch, max_new_tokens=30)
