"""Causal language models of transformers behind composer's contract."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from composer.errors import CheckpointError, ComposeError, ConfigError
from composer.parts import Backbone, Resolved, check_ids
from composer.prompt import WORLD
from composer.state import State
from composer.tokenizer import Tokenizer, tokenizer_from
from composer_plugins.transformer.logits import logits_rule
from composer_plugins.transformer.state import KVState, ReservedKVState, cache_after, held_by
from composer_plugins.transformer.stored import stored_tokenizer, tokenizer_of
from composer_plugins.transformer.text import PretrainedTokenizer, template_of


class TransformerBackbone(Backbone):
    """`model` is the AutoModelForCausalLM; its state is the key-value cache and which of it is padding."""

    state_class = KVState

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None = None,
        pretrained: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        resolved: Resolved | None = None,
        **sizes: Any,
    ) -> None:
        """sizes: the options of `TransformerConfig` for random weights.

        Raises ConfigError on an unknown architecture or sizes that it refuses, CheckpointError on weights that cannot
        be loaded, ComposeError on an architecture whose parts cannot be used one by one.
        """
        super().__init__()
        self.template = WORLD
        self._is_random = pretrained is None
        if resolved:
            self.model = _of_config(resolved["config"])
            self.tokenizer = tokenizer or self._own_tokenizer(
                partial(tokenizer_of, resolved["tokenizer"]), "checkpoint"
            )
        elif pretrained is None:
            self.tokenizer = tokenizer or tokenizer_from("bytes")
            self.model = _random(self.tokenizer, **sizes)
        else:
            where = {"revision": revision, "trust_remote_code": trust_remote_code}
            self.model = _pretrained(pretrained, where)
            read = partial(AutoTokenizer.from_pretrained, pretrained, **where)
            self.tokenizer = tokenizer or self._own_tokenizer(read, pretrained)
        with _refusing(self.model):
            _require_keys_and_values(self.model.config)
            if getattr(self._config, "attn_logit_softcapping", None):
                self.model.set_attn_implementation("eager")  # sdpa has no cap, and transformers 5.17 drops it there
            self.dim = self._config.hidden_size
            self.vocab_size = self.model.get_output_embeddings().weight.shape[0]
            self._logits = logits_rule(self._config)
        self._steps: bool | None = None
        self.context_length = getattr(self._config, "max_position_embeddings", None)
        self.block_classes = _block_classes(self.model)
        if self.tokenizer.vocab_size > self.vocab_size:
            raise ConfigError(
                f"prompt.tokenizer: its {self.tokenizer.vocab_size} ids are more than the {self.vocab_size} rows of "
                f"{pretrained}: use its own tokenizer (null)."
            )
        if self.model.device.type != "meta":
            # Where weights were read, which need not be where Lightning builds the model.
            with self.model.device, _refusing(self.model):
                self._check()

    def resolved(self) -> Resolved | None:
        """The config, and the model's own tokenizer. Code is not stored: None if the repository brought its own."""
        if self._is_random:
            return {}
        own = self.tokenizer.tokenizer if isinstance(self.tokenizer, PretrainedTokenizer) else None
        if not all(type(used).__module__.startswith("transformers.") for used in (self.model, own) if used is not None):
            return None
        config = json.loads(self.model.config.to_json_string(use_diff=False)) | {"_name_or_path": ""}
        return {"config": config, "tokenizer": None if own is None else stored_tokenizer(own)}

    def _own_tokenizer(self, read: Callable[[], Any], source: str) -> PretrainedTokenizer:
        try:
            own = read()
        except Exception as error:
            raise CheckpointError(
                f"model.backbone.pretrained: {source} has no tokenizer that loads: {error}"
            ) from error
        self.template = template_of(own)
        return PretrainedTokenizer(own)

    def embed(self, ids: Tensor) -> Tensor:
        try:
            return self.model.get_input_embeddings()(ids)
        except IndexError:
            check_ids(ids, self.vocab_size)
            raise

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor | None = None,
        state: State | None = None,
        *,
        cu_seqlens: Sequence[int] | None = None,
    ) -> tuple[Tensor, State]:
        if cu_seqlens is not None:
            return self.forward_unpacked(embeds, state, cu_seqlens)
        assert state is None or isinstance(state, KVState)
        seen = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device) if mask is None else mask
        # Windows and chunks are counted in slots, so real positions must be neighbors: what is new has its padding on
        # the right, what the state holds on the left. Without a state nothing real then attends to padding, and no mask
        # is needed, which transformers would read back from the device to see whether it is.
        order = None if mask is None else (~mask).int().argsort(dim=1, stable=True)
        if order is not None:
            embeds, seen = embeds.take_along_dim(order[..., None], 1), seen.gather(1, order)
        seen = seen if state is None else torch.cat([state.mask, seen], dim=1)
        positions = (seen.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        cache = cache_after(state, self._config.num_hidden_layers)
        hidden = self._decoder(
            inputs_embeds=embeds,
            attention_mask=None if state is None else seen.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        after = KVState(held_by(cache), seen)
        if order is None:
            return hidden, after
        return hidden.take_along_dim(order.argsort(dim=1)[..., None], 1), after.padded_left()

    def reserve(self, state: State, positions: int) -> State | None:
        assert isinstance(state, KVState)
        if self._steps is None:
            self._steps = self._can_step(state)
        return ReservedKVState.of(state, positions) if self._steps else None

    @torch.no_grad()
    def step(self, embeds: Tensor, state: State) -> Tensor:
        assert isinstance(state, ReservedKVState)
        state.mask.index_fill_(1, state.place[:1], True)
        hidden = self._decoder(
            inputs_embeds=embeds,
            attention_mask=state.mask.long(),
            position_ids=state.mask.sum(dim=1, keepdim=True) - 1,
            past_key_values=state.cache(),
            use_cache=True,
        ).last_hidden_state
        state.place.add_(1)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        return self._logits(self.model.get_output_embeddings()(hidden))

    @torch.no_grad()
    def _can_step(self, state: KVState) -> bool:
        """Whether the architecture reads a cache of fixed length as it reads one that grows."""
        embeds = self.embed(torch.zeros(state.rows, 1, dtype=torch.int64, device=state.mask.device))
        try:
            hidden = self.step(embeds, ReservedKVState.of(state, 2))
        except Exception:  # of any kind: what an architecture does with its cache is its own
            return False
        return _distance(hidden, self(embeds, None, state)[0]) <= _tolerance(hidden)

    @property
    def _config(self) -> Any:
        """The config of the language model, also inside a multimodal one."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def _decoder(self) -> nn.Module:
        decoder = self.model.get_decoder()
        return self.model.model if decoder is self.model else decoder

    @torch.no_grad()
    def _check(self) -> None:
        """Compare a padded batch, and a position after it, with the complete model on each row alone.

        Raises ComposeError if they differ: better refused than silently wrong.
        """
        ids = (torch.arange(8, device=self.model.device) % self.vocab_size).view(2, 4)
        lengths = torch.tensor([[3], [1]], device=ids.device)
        training = self.model.training
        self.model.eval()
        hidden, state = self(self.embed(ids[:, :3]), torch.arange(3, device=ids.device) < lengths)
        last, _ = self(self.embed(ids.gather(1, lengths)), None, state)
        self(hidden)  # Media are embeddings of no id, which some architectures cannot read.
        for row, length in enumerate(lengths[:, 0].tolist()):
            logits = self.head(torch.cat([hidden[row, :length], last[row]]))
            expected = self.model(input_ids=ids[row : row + 1, : length + 1], use_cache=False).logits[0]
            if _distance(logits, expected) > _tolerance(logits):
                raise ComposeError(
                    "its logits are not its head on its last hidden state, or a row's depend on the rest of the batch"
                )
        self.model.train(training)


@contextmanager
def _refusing(model: Any) -> Iterator[None]:
    """Raise ComposeError for whatever keeps an architecture from being used part by part."""
    try:
        yield
    except Exception as error:
        reason = error if isinstance(error, ComposeError) else f"{type(error).__name__}: {error}"
        raise ComposeError(
            f"model.backbone: the architecture {model.config.model_type!r} does not work: {reason}"
        ) from error


def _require_keys_and_values(config: Any) -> None:
    """Raise ComposeError if a layer remembers anything but keys and values of all positions."""
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    if others := kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in others))
        raise ComposeError(f"its layers remember more than their keys and values, or share them ({names})")


def _distance(logits: Tensor, expected: Tensor) -> float:
    """The root mean square of the difference, relative to that of what is expected."""
    difference, expected = (logits - expected).float(), expected.float()
    return (difference.norm() / expected.norm().clamp(min=1e-12)).item()


def _tolerance(values: Tensor) -> float:
    return 1e-3 if values.dtype == torch.float32 else 5e-2


def _pretrained(pretrained: str, where: Mapping[str, Any]) -> Any:
    try:
        # Lightning builds models inside `with device:`, which transformers takes for a device_map and wants accelerate.
        with torch.device("cpu"):
            return AutoModelForCausalLM.from_pretrained(
                pretrained, use_safetensors=True, dtype=torch.get_default_dtype(), **where
            )
    except Exception as error:
        raise CheckpointError(f"model.backbone.pretrained: {pretrained} cannot be loaded: {error}") from error


def _of_config(config: Mapping[str, Any]) -> Any:
    """A model of this config, which was that of pretrained weights."""
    known = AutoConfig.for_model(config["model_type"])
    return AutoModelForCausalLM.from_config(type(known).from_dict(dict(config)), dtype=torch.get_default_dtype())


def _random(
    tokenizer: Tokenizer,
    architecture: str = "llama",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    ffn_width: int | None = None,
    context_length: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """A model of these sizes; left to the defaults it has as many parameters, within 3%, as `rwkv6` has."""
    width = width or 128
    heads = heads or max(1, width // 32)
    if width % heads:
        raise ConfigError(f"model.backbone: width {width} is not a multiple of heads {heads}.")
    # Every layer and its residual start at the scale of their input. The usual 0.02 does so at widths of about 2,048;
    # at a hundred channels it leaves next to nothing, and what is fine in an image is then hardly learned.
    entries = {
        "initializer_range": max(0.02, 1 / math.sqrt(width)),
        "vocab_size": math.ceil(tokenizer.vocab_size / 8) * 8,
        "hidden_size": width,
        "num_hidden_layers": depth or 4,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads or heads,
        "head_dim": width // heads,
        "intermediate_size": ffn_width or max(32, int(3.5 * width) // 32 * 32),
        "max_position_embeddings": context_length or 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    try:
        chosen = AutoConfig.for_model(architecture, **(entries | dict(config or {})))
        return AutoModelForCausalLM.from_config(chosen, dtype=torch.get_default_dtype())
    except Exception as error:
        raise ConfigError(f"model.backbone: no {architecture!r} with these options: {error}") from error


def _block_classes(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """The classes of the repeated blocks: what lies in the model's longest ModuleList."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return tuple({type(block) for block in max(lists, key=len, default=())})
