"""A local judge: a causal language model of transformers, loaded on first use."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from composer.benchmark import Reply
from composer.errors import JudgeError
from composer_plugins.benchmarks.judge import Judge, JudgeMessage


class LocalJudge(Judge):
    """Greedy replies of a model from the hub or a folder; safetensors only, no remote code.

    There are no retries: a greedy reply is always the same.

    Args:
        model: Name on the hub, or a folder.
        revision: Commit on the hub.
    """

    attempts = 1

    def __init__(self, model: str, revision: str | None) -> None:
        self.model, self.revision = model, revision

    def reply(self, messages: Sequence[JudgeMessage], max_tokens: int) -> Reply:
        tokenizer, model, name = self._loaded
        ids = self._ids(tokenizer, messages).to(model.device)  # [1, T]
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            )
        return Reply(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True), name)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, str]:
        """Tokenizer, model, and its name with the loaded commit. Raises JudgeError."""
        where = {"revision": self.revision, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, **where)
            model = AutoModelForCausalLM.from_pretrained(self.model, dtype="auto", use_safetensors=True, **where)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise JudgeError(
                f"--judge-model={self.model} cannot be loaded: {error}. Expected a causal language model of "
                "transformers with safetensors: a name on the hub with a revision, or a folder"
            ) from error
        commit = getattr(model.config, "_commit_hash", None)
        name = self.model if commit is None or Path(self.model).is_dir() else f"{self.model}@{commit}"
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), name

    @staticmethod
    def _ids(tokenizer: Any, messages: Sequence[JudgeMessage]) -> torch.Tensor:
        """Prompt ids [1, T] by the model's chat template; without one, the messages as paragraphs."""
        if not tokenizer.chat_template:
            return tokenizer("\n\n".join(m.text for m in messages), return_tensors="pt").input_ids
        chat = [{"role": message.role, "content": message.text} for message in messages]
        options = {"add_generation_prompt": True, "tokenize": False}
        try:
            text = tokenizer.apply_chat_template(chat, **options)
        except jinja2.TemplateError:  # a template without a system role, for example Gemma's
            merged = [{"role": "user", "content": "\n\n".join(message.text for message in messages)}]
            text = tokenizer.apply_chat_template(merged, **options)
        return tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
