"""The transformer backbone against the full model of transformers, and templates against rendered conversations."""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from transformers import CohereForCausalLM

from composer.errors import CheckpointError, ComposeError, ConfigError
from composer.inference.generate import generate
from composer.prompt import CHATML, WORLD, ChatTemplate, Piece, pieces
from composer.sample import Message, Sample
from composer.state import fingerprint
from composer.testing import check_backbone
from composer.tokenizer import encode_pieces, tokenizer_from
from composer_plugins.transformer import TransformerConfig
from composer_plugins.transformer.backbone import TransformerBackbone
from composer_plugins.transformer.state import KVState
from composer_plugins.transformer.text import template_of
from tests.composer.inference.test_generate import TextModel, prompts, randomize

BYTES = tokenizer_from("bytes")


def backbone(**options: Any) -> TransformerBackbone:
    torch.manual_seed(0)
    return TransformerBackbone(tokenizer=BYTES, **{"width": 32, "depth": 2, "heads": 2, **options}).eval()


# Attention to a window or a chunk of 5 positions, alone and next to full attention; attention without sdpa; logits that
# are more than the head's output; MoE.
WINDOW = {"sliding_window": 5}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mistral": WINDOW,
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 0},
    "starcoder2": WINDOW,
    "exaone4": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma2": {**WINDOW, "final_logit_softcapping": 0.5, "attn_logit_softcapping": 0.5},
    "cohere2": {**WINDOW, "logit_scale": 0.3},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0},
    "gpt_oss": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {"attention_chunk_size": 5, "num_local_experts": 2, "intermediate_size_mlp": 64},
    "bloom": {},
    "mpt": {},
}


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_logits_equal_the_whole_models(architecture: str) -> None:
    made, ids = backbone(architecture=architecture), torch.randint(0, 257, (2, 20))
    mask = torch.arange(20)[None] < torch.tensor([[20], [9]])
    with torch.no_grad():
        hidden, _ = made(made.embed(ids), mask)
        expected = made.model(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(made.head(hidden)[mask], expected[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"heads": 4, "kv_heads": 2}, {"architecture": "gpt2"}, {"ffn_width": 40}])
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_backbone(backbone(**options))


def test_it_keeps_the_contract_by_default() -> None:
    check_backbone(TransformerBackbone(tokenizer=BYTES, **TransformerConfig(width=64).model_dump()))


def test_it_is_as_large_as_rwkv6_of_the_same_width_and_depth() -> None:
    from composer_plugins.rwkv.backbone import RWKV6Backbone

    sizes = [
        sum(parameter.numel() for parameter in kind(tokenizer=BYTES).parameters())
        for kind in (TransformerBackbone, RWKV6Backbone)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


def test_random_weights_start_at_a_scale_that_fits_the_width() -> None:
    def spread(**options: Any) -> float:
        return backbone(**options).model.model.layers[0].mlp.up_proj.weight.std().item()

    assert spread(width=64) == pytest.approx(1 / 8, rel=0.05)
    assert spread(width=64, config={"initializer_range": 0.02}) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("pieces", [(1,) * 30, (7, 1, 22), (15, 15)], ids=["one by one", "three", "halves"])
@torch.no_grad()
def test_any_split_into_pieces_is_the_whole(architecture: str, pieces: tuple[int, ...]) -> None:
    made = backbone(architecture=architecture)
    embeds = made.embed(torch.randint(0, 257, (2, 30)))
    full, end = made(embeds)
    outputs, state = [], None
    for piece in embeds.split(pieces, dim=1):
        hidden, state = made(piece, None, state)
        outputs.append(hidden)
    torch.testing.assert_close(torch.cat(outputs, dim=1), full, atol=1e-5, rtol=1e-5)
    for got, expected in zip(state.tensors().values(), end.tensors().values(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_joined_caches_of_several_lengths_go_on_as_each_alone() -> None:
    """Shorter caches are padded; positions count real tokens, and padding is not attended to."""
    made = backbone()
    embeds = made.embed(torch.randint(0, 257, (3, 12)))
    states = [made(embeds[row : row + 1, :length])[1] for row, length in enumerate((12, 1, 5))]
    joined = made.state_class.cat(states)
    assert joined.mask.tolist() == [[True] * 12, [False] * 11 + [True], [False] * 7 + [True] * 5]
    then = made.embed(torch.randint(0, 257, (3, 4)))
    hidden, _ = made(then, None, joined)
    for row, state in enumerate(states):
        torch.testing.assert_close(hidden[row], made(then[row : row + 1], None, state)[0][0], atol=1e-5, rtol=1e-5)


def test_a_long_sequence_among_short_ones_pads_none_of_them_to_its_length() -> None:
    made, lengths = backbone(), [60, *range(3, 9), 1, 33]
    ids = torch.randint(0, 257, (1, sum(lengths)))
    seen: list[int] = []
    made.model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[:2].numel()))
    hidden, state = made(made.embed(ids), cu_seqlens=tuple(accumulate(lengths, initial=0)))
    assert sum(seen) < 2 * sum(lengths)
    for piece, text in zip(hidden[0].split(lengths), ids[0].split(lengths), strict=True):
        torch.testing.assert_close(piece, made(made.embed(text[None]))[0][0], atol=1e-5, rtol=1e-5)
    # Joined, all caches would be as long as the longest, in each of the layers, for a training step that needs none.
    with pytest.raises(RuntimeError, match="no_grad"):
        state.clone()


@torch.no_grad()
def test_a_kept_cache_is_another_models_or_ones_own(tmp_path: Path) -> None:
    made, other = backbone(), backbone(width=64)
    _, state = made(made.embed(torch.tensor([[1, 2, 3]])))
    state.save(tmp_path / "state", fingerprint(made))
    loaded = KVState.load(tmp_path / "state", fingerprint(made))
    step = made.embed(torch.tensor([[4]]))
    assert torch.equal(made(step, None, loaded)[0], made(step, None, state)[0])
    with pytest.raises(CheckpointError, match="belongs to a different model"):
        KVState.load(tmp_path / "state", fingerprint(other))


@torch.no_grad()
def test_a_state_file_with_padding_on_the_right_is_read_as_one_with_padding_on_the_left(tmp_path: Path) -> None:
    made = backbone(architecture="mistral", config=WINDOW)
    embeds = made.embed(torch.randint(0, 257, (1, 9)))
    _, alone = made(embeds)
    layers = tuple((pad(keys, (0, 0, 0, 4)), pad(values, (0, 0, 0, 4))) for keys, values in alone.layers)
    KVState(layers, pad(alone.mask, (0, 4))).save(tmp_path / "state", fingerprint(made))
    loaded = KVState.load(tmp_path / "state", fingerprint(made))
    torch.testing.assert_close(made(embeds, None, loaded)[0], made(embeds, None, alone)[0], atol=1e-5, rtol=1e-5)


def test_activation_checkpointing_appends_to_the_cache_once() -> None:
    made, embeds = backbone(), torch.randn(1, 6, 32)
    plain, state = made(embeds)
    blocks = made.model.model.layers
    for block in blocks:
        assert isinstance(block, made.block_classes)
        original = block.forward
        block.forward = lambda *a, original=original, **k: checkpoint(original, *a, use_reentrant=False, **k)
    embeds.requires_grad_(True)
    hidden, state = made(embeds)
    hidden.sum().backward()
    torch.testing.assert_close(hidden, plain)
    assert [keys.shape[2] for keys, _ in state.layers] == [6, 6]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_of_many_kinds_keep_the_contract(architecture: str) -> None:
    check_backbone(backbone(architecture=architecture, config=ARCHITECTURES[architecture]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_says_what_transformers_says_to_each_row(architecture: str) -> None:
    made = randomize(backbone(architecture=architecture, config={"vocab_size": 257, **ARCHITECTURES[architecture]}))
    rows = [[5, 9, 77, 31], [100], [3, 250, 4, 4, 90, 12, 33] * 3, [7] * 11]
    answers = generate(TextModel(made), prompts(rows), max_new_tokens=12)
    for row, text in zip(rows, answers, strict=True):
        ids = made.model.generate(
            torch.tensor([row]), max_new_tokens=12, do_sample=False, eos_token_id=made.tokenizer.end_id, pad_token_id=0
        )[0, len(row) :]
        assert text == made.tokenizer.decode(ids.tolist()).partition("\n\n")[0].strip()
    assert len(set(answers)) > 1


@torch.no_grad()
def test_a_states_real_positions_are_neighbors_whatever_the_padding() -> None:
    made = backbone(architecture="mistral", config=WINDOW)
    embeds = made.embed(torch.randint(0, 257, (2, 9)))
    right = torch.arange(9)[None] < torch.tensor([[9], [2]])
    for mask in (right, right.flip(1)):
        _, state = made(embeds, mask)
        assert state.mask.tolist() == [[True] * 9, [False] * 7 + [True] * 2]
        _, state = made(embeds[:, :3], torch.tensor([[True, False, False], [True, True, True]]), state)
        assert state.mask.tolist() == [[False] * 2 + [True] * 10, [False] * 7 + [True] * 5]


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("qwen3_next", {}),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("jamba", {}),
        ("falcon_h1", {}),
        ("bamba", {"mamba_n_heads": 4}),
        ("mamba", {}),
        ("openai-gpt", {}),
        ("bert", {}),
        ("gemma4_text", {}),
    ],
)
def test_architectures_that_would_be_silently_wrong_are_refused(architecture: str, config: dict[str, Any]) -> None:
    with pytest.raises(ComposeError, match=f"'{architecture}' does not work: "):
        backbone(architecture=architecture, config=config)


def test_logits_that_are_more_than_what_the_config_says_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    full = CohereForCausalLM.forward

    def doubled(self: Any, *args: Any, **options: Any) -> Any:
        out = full(self, *args, **options)
        return out.__class__(**{**out, "logits": 2 * out.logits})

    monkeypatch.setattr(CohereForCausalLM, "forward", doubled)
    with pytest.raises(ComposeError, match="'cohere' does not work: its logits differ from its head"):
        backbone(architecture="cohere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "lama"}, "cannot build 'lama' with these options"),
        ({"width": 30, "heads": 4}, "width 30 is not a multiple of heads 4"),
    ],
)
def test_misuse_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbone(**options)


def test_options_for_random_weights_are_refused_beside_pretrained() -> None:
    with pytest.raises(ValidationError, match="remove width, config"):
        TransformerConfig(pretrained="Qwen/Qwen3-0.6B", width=64, config={"rope_theta": 1.0})
    dumped = TransformerConfig(pretrained="Qwen/Qwen3-0.6B").model_dump(mode="json")
    assert TransformerConfig(**dumped).pretrained == "Qwen/Qwen3-0.6B"


def test_further_entries_reach_the_architectures_config() -> None:
    assert backbone(config={"rms_norm_eps": 0.25}).model.config.rms_norm_eps == 0.25


# Pretrained: a folder as save_pretrained writes it.

CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    + CHATML_TEMPLATE
)
LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
HEADERS = (
    "{% for m in messages %}{% set text = '<|head|>' + m.role + '<|/head|>\n\n' + m.content + '<|eot|>' %}"
    "{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
)


def tokenizer(template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


@pytest.mark.parametrize(
    ("template", "system"),
    [(CHATML_TEMPLATE, True), (DEFAULT_SYSTEM, True), (LLAMA_2, False), (HEADERS, True)],
    ids=["chatml", "default-system", "llama-2", "headers"],
)
def test_a_template_renders_what_transformers_renders(template: str, system: bool) -> None:
    own = tokenizer(template)
    turns = [("user", "What moves?"), ("assistant", "A circle."), ("user", "Where to?"), ("assistant", "Left.")]
    turns = [("system", "Be brief."), *turns] if system else turns
    sample = Sample("s", "f", tuple(Message(role, (text,)) for role, text in turns))
    ours = "".join(str(piece.content) for piece in pieces(sample, "inline", template_of(own)))
    theirs = own.apply_chat_template([{"role": role, "content": text} for role, text in turns], tokenize=False)
    assert ours == theirs


def test_templates_without_a_rendered_conversation() -> None:
    assert template_of(tokenizer(None)) == replace(CHATML, special=True)
    assert template_of(SimpleNamespace(chat_template=None, get_vocab=lambda: {"a": 0})) == WORLD


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained")
    own = tokenizer(CHATML_TEMPLATE)
    own.eos_token = "<|im_end|>"
    own.save_pretrained(path)
    torch.manual_seed(0)
    TransformerBackbone(
        tokenizer=tokenizer_from([str(i) for i in range(10, 15)]), width=32, depth=1
    ).model.save_pretrained(path)
    return path


def test_a_local_folder_brings_weights_tokenizer_and_template(folder: Path) -> None:
    made = TransformerBackbone(pretrained=str(folder))
    check_backbone(made)
    assert (made.template.end, made.template.answer_lead) == (CHATML.end, "")
    text = "héllo  wörld\n"
    assert made.tokenizer.decode(made.tokenizer.encode(text)) == text
    assert encode_pieces(made.tokenizer, [Piece("<|im_end|>", mark=True)]) == [[made.tokenizer.end_id]]
    assert made.tokenizer.decode([*made.tokenizer.encode("hi"), made.tokenizer.end_id]) == "hi"
    ids = torch.tensor([made.tokenizer.encode(text)])
    from transformers import AutoModelForCausalLM

    expected = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
    torch.testing.assert_close(made.head(made(made.embed(ids))[0]), expected, atol=1e-5, rtol=1e-5)


def test_weights_are_read_on_the_cpu_whatever_the_device_context(folder: Path) -> None:
    """Lightning builds the model inside `with device:`; a CPU has one other device, and transformers minds it too."""
    expected = TransformerBackbone(pretrained=str(folder)).state_dict()
    with torch.device("meta"):
        made = TransformerBackbone(pretrained=str(folder))
    for name, weight in made.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_a_given_tokenizer_replaces_the_models(folder: Path) -> None:
    made = TransformerBackbone(pretrained=str(folder), tokenizer=BYTES)
    assert made.tokenizer is BYTES
    assert made.template == WORLD
    with pytest.raises(ConfigError, match=r"with 65530 ids, but"):
        TransformerBackbone(pretrained=str(folder), tokenizer=tokenizer_from("world"))


def test_missing_weights_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        TransformerBackbone(pretrained=str(tmp_path / "nowhere"))


def test_the_template_of_random_weights_is_worlds() -> None:
    assert isinstance(WORLD, ChatTemplate)
    assert backbone().template == WORLD
    assert TransformerBackbone(width=32, depth=1, heads=1).tokenizer.vocab_size == 257
