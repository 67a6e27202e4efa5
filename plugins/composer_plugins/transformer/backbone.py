"""Causal language models of transformers as backbones."""

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
from composer_plugins.transformer.state import KVState, ReservedKVState, cache_after, read_cache
from composer_plugins.transformer.stored import restore_tokenizer, serialize_tokenizer
from composer_plugins.transformer.text import PretrainedTokenizer, template_of


class TransformerBackbone(Backbone):
    """A causal language model of transformers (`model`); its state is the key-value cache with a mask of padding."""

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
        """Build the model and check that its parts can be used separately.

        Args:
            tokenizer: Tokenizer; None for the model's own, or for bytes with random weights.
            pretrained: Name on the hub or folder; None for random weights.
            revision: Commit, tag or branch on the hub.
            trust_remote_code: Whether to run code from the model's repository.
            resolved: Config and tokenizer from a checkpoint of composer, whose weights are loaded later.
            sizes: Options of `TransformerConfig` for random weights.

        Raises:
            ConfigError: If the architecture is unknown or does not accept the sizes.
            CheckpointError: If the weights or the tokenizer cannot be loaded.
            ComposeError: If the parts of the architecture cannot be used separately.
        """
        super().__init__()
        self.template = WORLD
        self._is_random = pretrained is None
        if resolved:
            self.model = _from_config(resolved["config"])
            self.tokenizer = tokenizer or self._own_tokenizer(
                partial(restore_tokenizer, resolved["tokenizer"]), "checkpoint"
            )
        elif pretrained is None:
            self.tokenizer = tokenizer or tokenizer_from("bytes")
            self.model = _random(self.tokenizer, **sizes)
        else:
            options = {"revision": revision, "trust_remote_code": trust_remote_code}
            self.model = _pretrained(pretrained, options)
            read = partial(AutoTokenizer.from_pretrained, pretrained, **options)
            self.tokenizer = tokenizer or self._own_tokenizer(read, pretrained)
        with _wrap_errors(self.model):
            _require_keys_and_values(self.model.config)
            if getattr(self._config, "attn_logit_softcapping", None):
                self.model.set_attn_implementation(
                    "eager"
                )  # sdpa does not support the cap; transformers 5.17 ignores it
            self.dim = self._config.hidden_size
            self.vocab_size = self.model.get_output_embeddings().weight.shape[0]
            self._logits = logits_rule(self._config)
        self._steps: bool | None = None
        self.context_length = getattr(self._config, "max_position_embeddings", None)
        self.block_classes = _block_classes(self.model)
        if self.tokenizer.vocab_size > self.vocab_size:
            raise ConfigError(
                f"prompt.tokenizer: got a tokenizer with {self.tokenizer.vocab_size} ids, but {pretrained} has "
                f"{self.vocab_size}: use its own tokenizer (null)"
            )
        if self.model.device.type != "meta":
            # The device of the weights may differ from the default device, which Lightning sets.
            with self.model.device, _wrap_errors(self.model):
                self._check()

    def resolved(self) -> Resolved | None:
        """Return config and tokenizer of pretrained weights; None if they need remote code, which is not stored."""
        if self._is_random:
            return {}
        own = self.tokenizer.tokenizer if isinstance(self.tokenizer, PretrainedTokenizer) else None
        if not all(type(used).__module__.startswith("transformers.") for used in (self.model, own) if used is not None):
            return None
        config = json.loads(self.model.config.to_json_string(use_diff=False)) | {"_name_or_path": ""}
        return {"config": config, "tokenizer": None if own is None else serialize_tokenizer(own)}

    def _own_tokenizer(self, read: Callable[[], Any], source: str) -> PretrainedTokenizer:
        """Load the model's tokenizer and set its template."""
        try:
            own = read()
        except Exception as error:
            raise CheckpointError(
                f"model.backbone.pretrained: the tokenizer of {source} cannot be loaded: {error}"
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
        # Windows and chunks count slots, so real positions must be adjacent: new positions have their padding on the
        # right, those of the state on the left. Without a state no real position then attends to padding, so no mask is
        # needed; transformers would copy one from the device to the host to check whether it is.
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
        after = KVState(read_cache(cache), seen)
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
        """Return whether the architecture gives the same result with a cache of fixed length as with a growing one."""
        embeds = self.embed(torch.zeros(state.rows, 1, dtype=torch.int64, device=state.mask.device))
        try:
            hidden = self.step(embeds, ReservedKVState.of(state, 2))
        except Exception:  # architectures may raise any error for an unexpected cache
            return False
        return _distance(hidden, self(embeds, None, state)[0]) <= _tolerance(hidden)

    @property
    def _config(self) -> Any:
        """Config of the language model, which may be part of a multimodal config."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def _decoder(self) -> nn.Module:
        """The model without its head."""
        decoder = self.model.get_decoder()
        return self.model.model if decoder is self.model else decoder

    @torch.no_grad()
    def _check(self) -> None:
        """Compare a padded batch, and a position after it, with the complete model on each row alone.

        Raises ComposeError if they differ.
        """
        ids = (torch.arange(8, device=self.model.device) % self.vocab_size).view(2, 4)
        lengths = torch.tensor([[3], [1]], device=ids.device)
        training = self.model.training
        self.model.eval()
        hidden, state = self(self.embed(ids[:, :3]), torch.arange(3, device=ids.device) < lengths)
        last, _ = self(self.embed(ids.gather(1, lengths)), None, state)
        self(hidden)  # Embeddings of media belong to no id, which some architectures do not support.
        for row, length in enumerate(lengths[:, 0].tolist()):
            logits = self.head(torch.cat([hidden[row, :length], last[row]]))
            expected = self.model(input_ids=ids[row : row + 1, : length + 1], use_cache=False).logits[0]
            if _distance(logits, expected) > _tolerance(logits):
                raise ComposeError(
                    "its logits differ from its head on the last hidden states, or depend on other rows of the batch"
                )
        self.model.train(training)


@contextmanager
def _wrap_errors(model: Any) -> Iterator[None]:
    """Raise ComposeError for any error in the block, with the name of the architecture."""
    try:
        yield
    except Exception as error:
        reason = error if isinstance(error, ComposeError) else f"{type(error).__name__}: {error}"
        raise ComposeError(
            f"model.backbone: the architecture {model.config.model_type!r} does not work: {reason}"
        ) from error


def _require_keys_and_values(config: Any) -> None:
    """Raise ComposeError if a layer has state other than keys and values of all positions."""
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    if others := kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in others))
        raise ComposeError(f"its layers share keys and values or have other state ({names})")


def _distance(logits: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, relative to that of the expected values."""
    difference, expected = (logits - expected).float(), expected.float()
    return (difference.norm() / expected.norm().clamp(min=1e-12)).item()


def _tolerance(values: Tensor) -> float:
    """Maximum relative distance of equal values in this dtype."""
    return 1e-3 if values.dtype == torch.float32 else 5e-2


def _pretrained(pretrained: str, options: Mapping[str, object]) -> Any:
    """Load a model with pretrained weights."""
    try:
        # Lightning builds models inside `with device:`, which transformers treats as device_map; it needs accelerate.
        with torch.device("cpu"):
            return AutoModelForCausalLM.from_pretrained(
                pretrained, use_safetensors=True, dtype=torch.get_default_dtype(), **options
            )
    except Exception as error:
        raise CheckpointError(f"model.backbone.pretrained: {pretrained} cannot be loaded: {error}") from error


def _from_config(config: Mapping[str, Any]) -> Any:
    """Build a model from the config of pretrained weights."""
    default = AutoConfig.for_model(config["model_type"])
    return AutoModelForCausalLM.from_config(type(default).from_dict(dict(config)), dtype=torch.get_default_dtype())


def _random(
    tokenizer: Tokenizer,
    architecture: str = "llama",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    ffn_width: int | None = None,
    context_length: int | None = None,
    config: Mapping[str, object] | None = None,
) -> Any:
    """Build a model with random weights; by default it has as many parameters as `rwkv6`, within 3%."""
    width = width or 128
    heads = heads or max(1, width // 32)
    if width % heads:
        raise ConfigError(f"model.backbone: width {width} is not a multiple of heads {heads}")
    # The output of each layer should have the scale of its input. The usual 0.02 does that for widths of about 2,048;
    # for a hundred channels outputs almost vanish, and fine details of images are hardly learned.
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
        settings = AutoConfig.for_model(architecture, **(entries | dict(config or {})))
        return AutoModelForCausalLM.from_config(settings, dtype=torch.get_default_dtype())
    except Exception as error:
        raise ConfigError(f"model.backbone: cannot build {architecture!r} with these options: {error}") from error


def _block_classes(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of the repeated blocks: those in the longest ModuleList of the model."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return tuple({type(block) for block in max(lists, key=len, default=())})
