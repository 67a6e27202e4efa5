"""Generation against a loop that reads the whole text again for every token, and the edges of a transcript."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from composer.batch import Batch
from composer.inference.generate import generate, stream
from composer.inference.transcript import Transcript
from composer.parts import Backbone
from composer.prompt import CHATML, WORLD, ChatTemplate
from composer.tokenizer import Tokenizer, tokenizer_from
from composer_plugins.rwkv.backbone import RWKV6Backbone, RWKV7Backbone
from composer_plugins.transformer.backbone import TransformerBackbone
from tests.composer.stand_ins import Characters, SumBackbone, SumState


class TextModel:
    """What generation asks of a model, for text alone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone.eval()

    def prefill(self, batch: Batch):
        hidden, state = self.backbone(self.backbone.embed(batch.ids), batch.mask)
        last = batch.mask.sum(dim=1) - 1
        return hidden[torch.arange(len(last)), last], state


def prompts(rows: Sequence[Sequence[int]]) -> Batch:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]
    names = tuple(str(row) for row in range(len(rows)))
    return Batch(ids, torch.full_like(ids, -100), mask, (), (), torch.zeros(0, dtype=torch.int64), names, names, names)


def randomize(backbone: Backbone) -> Backbone:
    """Add noise to the weights: at the author's initialization every block is the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return backbone


def make(name: str) -> Backbone:
    small = {"tokenizer": tokenizer_from("bytes"), "width": 32, "depth": 2}
    torch.manual_seed(0)
    made = {
        "rwkv6": lambda: RWKV6Backbone(**small, head_size=16),
        "rwkv7": lambda: RWKV7Backbone(**small, head_size=16),
        "transformer": lambda: TransformerBackbone(**small, heads=2),
    }
    return randomize(made[name]())


@pytest.fixture(scope="module", params=["rwkv6", "rwkv7", "transformer"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return make(request.param)


PROMPTS = [[5, 9, 77, 31], [100], [7] * 11, [3, 250, 4, 4, 90, 12, 33]]


@torch.no_grad()
def by_rereading(backbone: Backbone, ids: list[int], count: int) -> list[int]:
    """Greedy generation without a state: one forward over the whole text for each token."""
    ids, said = list(ids), []
    for _ in range(count):
        hidden, _ = backbone(backbone.embed(torch.tensor([ids])))
        token = int(backbone.head(hidden[0, -1])[: backbone.tokenizer.vocab_size].argmax())
        if token == backbone.tokenizer.end_id:
            break
        said.append(token)
        ids.append(token)
    return said


def test_a_batch_says_what_each_row_says_alone_and_what_rereading_says(backbone: Backbone) -> None:
    model = TextModel(backbone)
    together = generate(model, prompts(PROMPTS), max_new_tokens=12)
    alone = [generate(model, prompts([row]), max_new_tokens=12)[0] for row in PROMPTS]
    assert together == alone
    for row, text in zip(PROMPTS, together, strict=True):
        whole = backbone.tokenizer.decode(by_rereading(backbone, row, 12))
        assert text == whole.partition("\n\n")[0].strip()
    assert len(set(together)) > 1


def test_the_stream_joins_to_the_generated_text(backbone: Backbone) -> None:
    model = TextModel(backbone)
    for row in PROMPTS:
        pieces = list(stream(model, prompts([row]), max_new_tokens=12))
        assert "".join(pieces).rstrip() == generate(model, prompts([row]), max_new_tokens=12)[0]


def test_sampling_repeats_with_a_seed_and_tends_to_greedy(backbone: Backbone) -> None:
    model, batch = TextModel(backbone), prompts(PROMPTS)
    first, again, other = (generate(model, batch, max_new_tokens=8, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    greedy = generate(model, batch, max_new_tokens=8)
    assert generate(model, batch, max_new_tokens=8, temperature=1.0, top_p=1e-6, seed=3) == greedy
    assert generate(model, batch, max_new_tokens=8, temperature=1e-4, seed=3) == greedy


class Scripted(SumBackbone):
    """Says a fixed text: the state counts positions, and the head looks up what comes after so many."""

    def __init__(self, script: str, context_length: int | None = None) -> None:
        super().__init__(dim=1, context_length=context_length)
        self.script = script
        self.template = WORLD
        self.read: list[int] = []

    def forward(self, embeds: Tensor, mask=None, state=None):
        self.read.append(embeds.shape[0])
        hidden, state = super().forward(torch.ones_like(embeds), mask, state)
        return hidden, SumState(hidden[:, -1])

    def head(self, hidden: Tensor) -> Tensor:
        places = hidden[..., 0].long() - 1
        logits = torch.zeros(*places.shape, self.vocab_size)
        ids = torch.tensor([ord(c) for c in self.script] + [0] * 50)[places]
        return logits.scatter(-1, ids[..., None], 1.0)


def say(script: str, **options) -> list[str]:
    return list(stream(TextModel(Scripted(script)), prompts([[65]]), **options))


def test_a_row_ends_at_the_templates_end_and_no_part_of_it_is_said() -> None:
    assert say(" red\n\nUser: next") == ["r", "e", "d"]
    assert "".join(say(" a\nb\n\nc")) == "a\nb"


def test_a_row_ends_at_the_end_id_and_says_what_it_held_back() -> None:
    assert "".join(say(" red\n")) == "red\n"


def test_a_row_ends_after_max_new_tokens() -> None:
    assert "".join(say("abcdef", max_new_tokens=3)) == "abc"
    assert "".join(say("ab\n", max_new_tokens=3)) == "ab\n"


def test_a_row_ends_where_the_context_is_full() -> None:
    model = TextModel(Scripted("abcdefghij", context_length=4))
    assert generate(model, prompts([[65]])) == ["abcd"]
    assert generate(model, prompts([[65, 66]])) == ["bcd"]


def test_rows_that_have_ended_are_not_computed_on() -> None:
    backbone = Scripted("abcde\n\n")
    assert generate(TextModel(backbone), prompts([[1], [1, 1, 1, 1], [1, 1]])) == ["abcde", "de", "bcde"]
    assert backbone.read == [3, 3, 3, 3, 2, 2, 1][: len(backbone.read)]
    assert backbone.read[-1] == 1


class MarkedWords(Characters):
    """A tokenizer whose id 1 is the special token that ends a turn: it has an id and no text."""

    def encode(self, text: str) -> list[int]:
        return [1] if text == CHATML.end else super().encode(text)

    def decode(self, ids) -> str:
        return "".join(chr(i) for i in ids if i != 1)


@pytest.mark.parametrize(
    ("tokenizer", "template", "ids", "pieces"),
    [
        (MarkedWords(), CHATML, [104, 105, 1], ["h", "i", ""]),
        (Characters(), WORLD, [104, 10, 105], ["h", "", "\ni"]),
        (Characters(), WORLD, [104, 10, 10], ["h", "", ""]),
        (tokenizer_from(["\n\n"]), WORLD, [105, 257], ["h", ""]),
        (tokenizer_from("bytes"), WORLD, [0xC3 + 1, 0xA9 + 1, 0], ["", "é", ""]),
        (tokenizer_from("bytes"), WORLD, [0xC3 + 1, 0], ["", "\ufffd"]),
        (Characters(), WORLD, [32, 10, 104], ["", "", "h"]),
    ],
    ids=["special-end", "newline-is-not-the-end", "blank-line", "blank-line-as-one-id", "utf8", "cut", "opening-space"],
)
def test_transcripts(tokenizer: Tokenizer, template, ids: list[int], pieces: list[str]) -> None:
    transcript = Transcript(tokenizer, template, limit=20)
    assert [transcript.push(i) for i in ids] == pieces


THOUGHTS = replace(CHATML, end="\x01", answer_lead="<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "said", "heard"),
    [
        # An end of text and a special token: the text alone ends nothing, and is not said before the token.
        (replace(CHATML, end=" ;\x01"), "a ; b ;\x01", "a ; b"),
        (replace(CHATML, end=" ;\x01"), "a\x01", "a"),
        (replace(CHATML, end="<end>"), "a<en> b<end>", "a<en> b"),
        (THOUGHTS, "<think>\n\n</think>\n\nred\x01", "red"),
        (THOUGHTS, "<think> hard", "<think> hard"),
        (THOUGHTS, "<thi\0", "<thi"),
        (THOUGHTS, "red\x01", "red"),
        # White space that opens an answer is no end of it.
        (WORLD, " \n red\n\n", "red"),
    ],
)
def test_what_opens_and_ends_an_answer_is_not_said(template: ChatTemplate, said: str, heard: str) -> None:
    transcript = Transcript(EndsWithOne(), template, limit=len(said))
    assert "".join(transcript.push(ord(character)) for character in said) == heard
    assert transcript.done


class EndsWithOne(Characters):
    """Id 1 is a special token."""

    def decode(self, ids) -> str:
        return "".join(chr(i) for i in ids if i > 1)


def test_the_ids_that_only_pad_the_head_are_never_said() -> None:
    tokenizer = SimpleNamespace(vocab_size=3, end_id=0, encode=lambda text: [2, 2], decode=lambda ids: "x" * len(ids))
    backbone = Scripted("\x7f\x7f")  # id 127 scores highest, beyond the tokenizer's ids
    backbone.tokenizer = tokenizer
    assert generate(TextModel(backbone), prompts([[1]]), max_new_tokens=2) == [""]
