"""Judges that answer, are busy, are silent, talk nonsense or refuse; and what is read from a reply."""

import email.utils
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from composer.benchmark import Reply
from composer.errors import JudgeError
from composer_plugins.benchmarks import judge as judges
from composer_plugins.benchmarks.judge import JudgeMessage, NoReply
from composer_plugins.benchmarks.judge_local import LocalJudge
from composer_plugins.benchmarks.judge_openai import OpenAIJudge
from composer_plugins.benchmarks.judged import Rating, read_rating
from tests.plugins.benchmarks.judge_server import judge_server

MESSAGES = (JudgeMessage("system", "You judge."), JudgeMessage("user", "Is it right?"))
GOOD = "{'pred': 'yes', 'score': 4}"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a judge wanted to wait, at once."""
    waits: list[float] = []
    monkeypatch.setattr(judges.time, "sleep", waits.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return waits


def ask(judge: judges.Judge, replies: list[Reply]) -> Rating:
    return judge.ask(MESSAGES, read_rating, replies, max_tokens=64)


def test_an_endpoint_is_asked_greedily_with_the_key(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    replies: list[Reply] = []
    with judge_server(lambda *_: GOOD) as server:
        assert ask(OpenAIJudge("small", server.url + "/"), replies) == Rating(True, 4.0)
    assert replies == [Reply(GOOD, "judge-2026")]
    assert server.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "small",
            "messages": [{"role": "system", "content": "You judge."}, {"role": "user", "content": "Is it right?"}],
            "temperature": 0,
            "max_tokens": 64,
        }
    ]
    assert server.headers["Authorization"] == "Bearer secret"
    assert slept == []


def test_without_a_key_none_is_sent(slept: list[float]) -> None:
    with judge_server(lambda *_: GOOD) as server:
        ask(OpenAIJudge("small", server.url), [])
    assert "Authorization" not in server.headers


BAD = {
    "busy": (429, {}, "slow down"),
    "broken": (500, {}, "oops"),
    "no json": (200, {}, "<html>"),
    "no completion": (200, {}, '{"error": "x"}'),
    "a list": (200, {}, "[1]"),
    "silence": None,
    "nonsense": "I would say it is quite right.",
    "empty": "",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_passes_is_asked_again_later_and_later(slept: list[float], kind: str) -> None:
    replies: list[Reply] = []
    with judge_server(lambda number, _: BAD[kind] if number < 3 else GOOD) as server:
        judge = OpenAIJudge("small", server.url)
        judge.timeout = 0.2
        assert ask(judge, replies) == Rating(True, 4.0)
        assert len(server.requests) == 4
    assert [wait >= least for wait, least in zip(slept, (1, 2, 4), strict=True)] == [True] * 3
    assert [wait <= 1.5 * least for wait, least in zip(slept, (1, 2, 4), strict=True)] == [True] * 3
    bad_replies = [BAD[kind]] * 3 if isinstance(BAD[kind], str) else []
    assert [reply.text for reply in replies] == [*bad_replies, GOOD]


@pytest.mark.parametrize("kind", BAD)
def test_a_judge_that_never_answers_leaves_a_problem(slept: list[float], kind: str) -> None:
    with judge_server(lambda *_: BAD[kind]) as server:
        judge = OpenAIJudge("small", server.url)
        judge.timeout, judge.attempts = 0.1, 2
        with pytest.raises(NoReply, match=r"127\.0\.0\.1|cannot use the reply"):
            ask(judge, [])
        assert len(server.requests) == 2
    assert len(slept) == 1


def test_an_endpoint_that_is_not_there_is_a_problem_too(slept: list[float]) -> None:
    with pytest.raises(NoReply, match="does not answer"):
        ask(OpenAIJudge("small", "http://127.0.0.1:9/v1"), [])
    assert len(slept) == 5


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_is_honored_as_seconds_and_as_a_date(slept: list[float], date: bool) -> None:
    after = email.utils.formatdate(time.time() + 100, usegmt=True) if date else "100"
    with judge_server(lambda number, _: (429, {"Retry-After": after}, "") if number == 0 else GOOD) as server:
        ask(OpenAIJudge("small", server.url), [])
    (wait,) = slept
    assert 97 < wait <= 100


def test_a_request_that_is_refused_is_not_repeated(slept: list[float]) -> None:
    with judge_server(lambda *_: (400, {}, "content filter")) as server:
        with pytest.raises(NoReply, match="400 Bad Request: content filter"):
            ask(OpenAIJudge("small", server.url), [])
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_repetition_mends_stops_at_once(slept: list[float], status: int) -> None:
    with (
        judge_server(lambda *_: (status, {}, "no such key")) as server,
        pytest.raises(JudgeError, match=rf"{status} .*no such key.*--judge-model and \$OPENAI_API_KEY"),
    ):
        ask(OpenAIJudge("small", server.url), [])
    assert slept == []


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("{'pred': 'yes', 'score': 4}", (True, 4.0)),
        ('{"pred": "No", "score": 0}', (False, 0.0)),
        ("```python\n{'pred': 'yes', 'score': 4.8}\n```", (True, 4.8)),
        ("Sure: {} {'score': 5, 'pred': ' YES '} done", (True, 5.0)),
        ("{'pred': 'yes', 'score': 7}", None),
        ("{'pred': 'yes', 'score': -1}", None),
        ("{'pred': 'yes', 'score': '4'}", None),
        ("{'pred': 'yes', 'score': True}", None),
        ("{'pred': 'maybe', 'score': 3}", None),
        ("{'pred': 'yes'}", None),
        ("{yes, 4}", None),
        ("{'yes', 4}", None),
        ("yes, 4", None),
        ("", None),
    ],
)
def test_a_rating_is_read_or_it_is_not(text: str, rating: tuple[bool, float] | None) -> None:
    assert read_rating(text) == (None if rating is None else Rating(*rating))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a tokenizer of characters and no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("judge")
    vocabulary = {character: i for i, character in enumerate(["<s>", "</s>", *map(chr, range(32, 127)), "\n"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=512, **sizes)).save_pretrained(
        path
    )
    return path


def test_a_local_judge_is_greedy_and_says_what_the_model_does(folder: Path) -> None:
    judge = LocalJudge(str(folder), None)
    reply = judge.reply(MESSAGES, 8)
    assert reply == judge.reply(MESSAGES, 8)
    assert reply.model == str(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("You judge.\n\nIs it right?", return_tensors="pt").input_ids
    model = LlamaForCausalLM.from_pretrained(folder)
    for _ in range(8):
        best = model(ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
        if best.item() == tokenizer.eos_token_id:
            break
    assert reply.text == tokenizer.decode(ids[0, len("You judge.\n\nIs it right?") :], skip_special_tokens=True)


def test_a_local_judges_nonsense_is_not_asked_for_again(folder: Path) -> None:
    replies: list[Reply] = []
    with pytest.raises(NoReply, match="cannot use the reply"):
        ask(LocalJudge(str(folder), None), replies)
    assert len(replies) == 1


SYSTEM_ROLE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
USER_ONLY = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + SYSTEM_ROLE


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (SYSTEM_ROLE, "[system]You judge.[user]Is it right?[assistant]"),
        (USER_ONLY, "[user]You judge.\n\nIs it right?[assistant]"),
    ],
)
def test_a_chat_template_is_used_with_a_system_role_or_without(folder: Path, template: str, prompt: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    (ids,) = LocalJudge._ids(tokenizer, MESSAGES)
    assert "".join(tokenizer.convert_ids_to_tokens(ids)) == prompt


@pytest.mark.parametrize("corrupt", [lambda path: (path / "config.json").unlink(), lambda path: _pickled(path)])
def test_a_judge_that_cannot_be_loaded_is_one_error(
    folder: Path, tmp_path: Path, corrupt: Callable[[Path], Any]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    corrupt(copy)
    with pytest.raises(JudgeError, match=r"--judge-model=.*copy cannot be loaded"):
        LocalJudge(str(copy), None).reply(MESSAGES, 8)


def _pickled(path: Path) -> None:
    """Only weights that are a pickle."""
    (path / "model.safetensors").unlink()
    torch.save({}, path / "pytorch_model.bin")
    assert json.loads((path / "config.json").read_text())
