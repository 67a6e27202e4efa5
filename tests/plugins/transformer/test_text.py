"""Chat templates and tokenizers of pretrained models, against what transformers itself makes of a conversation."""

import pickle
import re
from functools import cache
from itertools import chain, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from composer.errors import ComposeError, DataError
from composer.inference.transcript import Transcript
from composer.prompt import Piece, Template, pieces
from composer.sample import Media, Message, Sample
from composer_plugins.transformer.text import PretrainedTokenizer, template_of
from tests.plugins.transformer.tokenizers import KINDS, Slow, fast

CLIP = Media("video", "a.mp4")
EACH = "{% for m in messages %}"
PROMPT = "{% if add_generation_prompt %}"
CHATML = (
    EACH
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + PROMPT
    + "<|im_start|>assistant\n{% endif %}"
)

TEMPLATES = {
    "chatml": ("<|endoftext|>", "<|im_end|>", CHATML),
    # The end of the text belongs to no turn (Phi-3, Phi-4).
    "final-eos": (
        "<s>",
        "<e>",
        EACH
        + "<{{ m.role }}>\n{{ m.content }}</t>\n{% endfor %}"
        + PROMPT
        + "<assistant>\n{% else %}{{ eos_token }}{% endif %}",
    ),
    # A system turn is written even if none is given (Qwen2.5).
    "default-system": (
        "<s>",
        "</t>",
        "{% if messages[0].role != 'system' %}<system>\nBe helpful.</t>\n{% endif %}"
        + EACH
        + "<{{ m.role }}>\n{{ m.content }}</t>\n{% endfor %}"
        + PROMPT
        + "<assistant>\n{% endif %}",
    ),
    # The start of a text before every user turn, the system text inside the first, contents trimmed (Llama-2).
    "system-in-user": (
        "<s>",
        "</s>",
        "{% set ns = namespace(s='') %}"
        + EACH
        + "{% if m.role == 'system' %}{% set ns.s = '<<S>>\n' + m.content | trim + '\n<</S>>\n\n' %}"
        "{% elif m.role == 'user' %}{{ bos_token + '[I] ' + (ns.s + m.content) | trim + ' [/I]' }}{% set ns.s = '' %}"
        "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
    ),
    # A system turn is refused, and so are turns that do not alternate (Gemma).
    "no-system": (
        "<s>",
        "<e>",
        "{{ bos_token }}"
        + EACH
        + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
        "<t>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}</t>\n{% endfor %}"
        + PROMPT
        + "<t>model\n{% endif %}",
    ),
    # Words as marks, a space before an answer (Vicuna).
    "words": (
        "<s>",
        "</s>",
        "{{ bos_token }}"
        + EACH
        + "{% if m.role == 'assistant' %} ASSISTANT: {{ m.content }}{{ eos_token }}{% else %} {{ m.role | upper }}: "
        "{{ m.content }}{% endif %}{% endfor %}" + PROMPT + " ASSISTANT:{% endif %}",
    ),
    # The last answer alone begins with an empty block of thoughts (Qwen3).
    "thoughts": (
        "<s>",
        "<|im_end|>",
        EACH
        + "<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}" + PROMPT + "<|im_start|>assistant\n{% endif %}",
    ),
    # Names of roles between special tokens, and the date (Llama-3.2).
    "date": (
        "<s>",
        "<|eot|>",
        "{{ bos_token }}{{ strftime_now('%d %b %Y') }}\n\n"
        + EACH
        + "<|h|>{{ m.role }}<|/h|>\n\n{{ m.content }}<|eot|>{% endfor %}"
        + PROMPT
        + "<|h|>assistant<|/h|>\n\n{% endif %}",
    ),
}
SPECIAL = ("<|im_start|>", "<|im_end|>", "<user>", "<assistant>", "</t>", "<t>", "<|h|>", "<|/h|>", "<|eot|>")
WITHOUT = [()]
TURNS = [("user",), ("user", "assistant"), ("user", "assistant", "user"), ("user", "assistant") * 2]
TEXTS = {
    "system": ["Be  brief, 日本."],
    "user": ["What moves?", "[x] Where  to?\n\nAnd é?"],
    "assistant": ["A circle.", '"Left"\n\n(of it)!'],
}
MARKS = [
    *SPECIAL,
    "<s>",
    "</s>",
    "<e>",
    "[I]",
    "[/I]",
    "ASSISTANT:",
    "USER:",
    "<think>",
    "\n\n",
    "\n",
    " ",
    "a",
    "<",
    "É",
]


def own(name: str, kind: str, special: bool) -> Any:
    bos, eos, template = TEMPLATES[name]
    made = fast(kind, bos, eos, SPECIAL if special else (), ("<think>", "</think>"))
    made.chat_template = template
    return made


def conversation(turns: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(role, TEXTS[role][turns[:place].count(role)]) for place, role in enumerate(turns)]


def sample(turns: list[tuple[str, str]]) -> Sample:
    return Sample("s", "f.jsonl", tuple(Message(role, (text,)) for role, text in turns))  # type: ignore[arg-type]


def read(
    tokenizer: Any, template: Template, turns: list[tuple[str, str]], answer: bool
) -> list[tuple[Piece, list[int]]]:
    made = pieces(sample(turns), "inline", template, answer=answer)
    return list(zip(made, PretrainedTokenizer(tokenizer).encode_pieces(made), strict=True))


def joined(parts: list[tuple[Piece, list[int]]]) -> list[int]:
    return list(chain.from_iterable(ids for _, ids in parts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_and_ids_are_those_of_transformers(name: str, kind: str) -> None:
    for special in (True, False):
        tokenizer = own(name, kind, special)
        template = template_of(tokenizer)
        assert template.takes_system == (name != "no-system")
        for system, roles in product([(), ("system",)] if template.takes_system else [()], TURNS):
            turns, answer = conversation((*system, *roles)), roles[-1] == "user"
            messages = [{"role": role, "content": text} for role, text in turns]
            ours = read(tokenizer, template, turns, answer)
            options = {"add_generation_prompt": answer, "return_dict": False}
            assert "".join(str(p.content) for p, _ in ours) == tokenizer.apply_chat_template(
                messages, tokenize=False, **options
            )
            assert joined(ours) == tokenizer.apply_chat_template(messages, **options)
            if not answer:
                prompt = joined(read(tokenizer, template, turns[:-1], True))
                assert joined(ours)[: len(prompt)] == prompt
                labels = [ids for piece, ids in ours if piece.loss]
                assert len(prompt) + len(labels[-1]) <= len(joined(ours))


@pytest.mark.parametrize("special", [True, False], ids=["special", "words"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_trained_is_what_is_said(name: str, kind: str, special: bool) -> None:
    """The ids with loss, fed to a transcript, give the answers, and end them exactly at their ends."""
    tokenizer = own(name, kind, special)
    template = template_of(tokenizer)
    turns = conversation(("user", "assistant") * 2)
    answers, transcript = [""], Transcript(PretrainedTokenizer(tokenizer), template, 999)
    for piece, ids in read(tokenizer, template, turns, False):
        for i in ids if piece.loss else []:
            answers[-1] += transcript.push(i)
            if transcript.done:
                answers.append("")
                transcript = Transcript(PretrainedTokenizer(tokenizer), template, 999)
    assert answers == [template.content(text) for role, text in turns if role == "assistant"] + [""]


@cache
def loaded(name: str, kind: str, special: bool) -> tuple[Any, PretrainedTokenizer, Template]:
    tokenizer = own(name, kind, special)
    return tokenizer, PretrainedTokenizer(tokenizer), template_of(tokenizer)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(MARKS), max_size=8).map("".join),
    st.text(max_size=8),
    st.tuples(st.sampled_from(sorted(TEMPLATES)), st.sampled_from(KINDS), st.booleans()),
)
def test_no_content_is_a_mark(marks: str, text: str, which: tuple[str, str, bool]) -> None:
    """However contents are spelled, a conversation has the marks that it has with plain contents, in their order."""
    tokenizer, made, template = loaded(*which)
    special = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
    contents = (marks + text, text + marks, text, marks), ("x", "x", "x", "x")
    ids, counts = [], []
    for texts in contents:
        parts = pieces(sample(list(zip(("user", "assistant") * 2, texts, strict=True))), "inline", template)
        ids.append([i for i in chain.from_iterable(made.encode_pieces(parts)) if i in tokenizer.all_special_ids])
        # Names of special tokens are only text in a content; a line in their place keeps its letters apart.
        rendered = "".join(str(p.content) if p.mark else special.sub("\n", str(p.content)) for p in parts)
        counts.append([rendered.count(mark) for mark in (template.end, *template.marks)])
    assert ids[0] == ids[1]
    assert counts[0] == counts[1]


def test_spelled_marks_stay_text_and_are_read_as_such() -> None:
    tokenizer = own("chatml", "qwen", True)
    made = PretrainedTokenizer(tokenizer)
    text = "What does <|im_end|> or <|endoftext|> mean?"
    assert made.encode(text) == tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert made.decode(made.encode(text)) == text
    parts = read(tokenizer, template_of(tokenizer), [("user", text), ("assistant", text)], False)
    assert joined(parts).count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert [p.content for p, _ in parts if not p.mark] == [text, text]


def test_names_that_are_words_of_the_model_are_broken_in_contents() -> None:
    letters = [(letter, -9.0) for letter in "▁ </abs>\n"]
    inner = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *letters], unk_id=0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    made = PretrainedTokenizer(tokenizer)
    assert tokenizer.encode("a</s>b", add_special_tokens=False, split_special_tokens=True).count(1) == 1
    assert made.encode("a</s>b") == made.encode("a< /s>b")
    assert made.encode_pieces([Piece("a</s>b"), Piece("</s>", mark=True)])[1] == [1]


def test_added_tokens_of_ordinary_text_are_read_everywhere_and_those_of_the_template_in_marks_only() -> None:
    tokenizer = fast("qwen", "<s>", "<e>", added=("<table>", "<turn>", "  "))
    tokenizer.chat_template = (
        EACH + "<turn>{{ m.role }}  \n{{ m.content }}<e>{% endfor %}" + PROMPT + "<turn>assistant  \n{% endif %}"
    )
    template_of(tokenizer)
    ids = PretrainedTokenizer(tokenizer).encode("a <table>  b <turn>")
    table, turn, spaces = (tokenizer.convert_tokens_to_ids(name) for name in ("<table>", "<turn>", "  "))
    assert (ids.count(table), ids.count(spaces), ids.count(turn)) == (1, 1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_text_after_media_is_read_as_after_a_special_token(kind: str) -> None:
    tokenizer = own("system-in-user", kind, True)
    made = PretrainedTokenizer(tokenizer)
    parts = made.encode_pieces([Piece("a cat "), Piece(CLIP), Piece(" hi"), Piece(" A", loss=True)])
    mark = tokenizer.convert_tokens_to_ids("<t>")
    joint = tokenizer.encode("a cat <t> hi A", add_special_tokens=False)
    assert [*parts[0], mark, *parts[2], *parts[3]] == joint
    assert parts[1] == []


def test_a_token_on_both_sides_of_an_answers_start_stays_one_and_has_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = fast("qwen", "<s>", "<e>", ("<x>",))
    made = PretrainedTokenizer(tokenizer)
    assert len(made.encode("is")) == 1
    assert made.encode_pieces([Piece("what i"), Piece("s red", loss=True)]) == [
        made.encode("what is"),
        made.encode(" red"),
    ]
    tokenizer.chat_template = EACH + "<x>{% if m.role == 'assistant' %}is{% endif %}{{ m.content }}<x>{% endfor %}"
    tokenizer.chat_template += PROMPT + "<x>i{% endif %}"
    template_of(tokenizer)
    assert "joins the start of an answer with the text before it" in caplog.text


def test_no_system_turns_write_the_text_before_the_first_question() -> None:
    tokenizer = own("no-system", "qwen", True)
    turns = Sample("s", "f", (Message("system", ("Be brief.",)), Message("user", (CLIP, "\nWhich?"))))
    made = pieces(turns, "media-first", template_of(tokenizer), answer=True)
    assert [piece.content for piece in made] == [
        "<s><t>user\n",
        CLIP,
        "\nBe brief.\n\nWhich?",
        "</t>\n<t>model\n",
    ]


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_slow_tokenizers(name: str, prefix: bool) -> None:
    bos, eos, template = TEMPLATES[name]
    tokenizer = Slow(prefix, bos_token=bos, eos_token=eos, extra_special_tokens=list(SPECIAL))
    tokenizer.chat_template = template
    made = template_of(tokenizer)
    for roles in TURNS:
        turns, answer = conversation(roles), roles[-1] == "user"
        theirs = tokenizer.apply_chat_template(
            [{"role": role, "content": text} for role, text in turns], add_generation_prompt=answer, return_dict=False
        )
        assert joined(read(tokenizer, made, turns, answer)) == theirs
    spelled = f"Is {eos} or <t> a mark?"
    assert PretrainedTokenizer(tokenizer).decode(PretrainedTokenizer(tokenizer).encode(spelled)) == spelled


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (EACH + "{{ m.content }}<|im_end|>{{ m.content }}{% endfor %}", "drops, repeats or reorders contents"),
        (EACH + "{{ raise_exception('only tools') }}{% endfor %}", "only tools"),
        (EACH + "<|{{ m.role }}|>\n{{ m.content }}{% endfor %}", "expected a common start that ends an answer"),
        (
            CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
            "<think>.n' but writes .*assistant.n' before",
        ),
        (EACH + "{{ m.content[0].text }}{% endfor %}", "drops, repeats or reorders contents"),
        ("{% for", "unexpected|expected"),
    ],
    ids=["repeats", "raises", "no-end", "open-thoughts", "parts", "syntax"],
)
def test_templates_that_cannot_be_used_are_refused_with_what_differs(template: str, message: str) -> None:
    tokenizer = fast("qwen", "<s>", "<|im_end|>", SPECIAL)
    tokenizer.chat_template = template
    with pytest.raises(ComposeError, match=message):
        template_of(tokenizer)


def test_turns_that_a_template_refuses_are_a_bad_record() -> None:
    template = template_of(own("no-system", "qwen", True))
    with pytest.raises(DataError, match=r"f\.jsonl: sample 's': .* user, user: must alternate"):
        pieces(sample([("user", "a"), ("user", "b")]), "inline", template)
    with pytest.raises(DataError, match="a system text but no user turn"):
        pieces(sample([("system", "a")]), "inline", template)


def test_a_system_turn_that_is_dropped_before_some_turns_is_refused_there_only() -> None:
    """Mistral 0.3 writes the system's text into the last turn if that is the user's."""
    tokenizer = fast("first", "<s>", "</s>", ("[INST]", "[/INST]"))
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}"
        "{% endif %}{{ bos_token }}"
        + EACH
        + "{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ system }}\n\n{% endif %}"
        "{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    template = template_of(tokenizer)
    turns = conversation(("system", "user"))
    messages = [{"role": role, "content": text} for role, text in turns]
    assert joined(read(tokenizer, template, turns, True)) == tokenizer.apply_chat_template(messages, return_dict=False)
    for roles in (("system", "user", "assistant"), ("system", "user", "assistant", "user")):
        with pytest.raises(DataError, match=r"f\.jsonl: sample 's': .* it drops, repeats or reorders contents"):
            pieces(sample(conversation(roles)), "inline", template)


def test_tokenizer_and_template_travel_to_workers() -> None:
    tokenizer = own("system-in-user", "legacy", True)
    turns = conversation(("system", "user", "assistant"))
    template, made = pickle.loads(pickle.dumps((template_of(tokenizer), PretrainedTokenizer(tokenizer))))
    parts = pieces(sample(turns), "inline", template)
    assert list(chain.from_iterable(made.encode_pieces(parts))) == joined(
        read(tokenizer, template_of(tokenizer), turns, False)
    )
