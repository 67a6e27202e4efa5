"""A tokenizer of transformers as plain values and tensors, for a checkpoint. Nothing in them is code."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast


def stored_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer_of` makes an equal tokenizer from: a fast one's own serialization, the files of others."""
    if tokenizer.is_fast:
        names = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        extra = [str(token) for token in getattr(tokenizer, "extra_special_tokens", ())]
        options = {**names, "extra_special_tokens": extra, "chat_template": tokenizer.chat_template}
        return {"backend": _tensor(tokenizer.backend_tokenizer.to_str().encode()), "options": options}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {"files": {path.relative_to(folder).as_posix(): _tensor(path.read_bytes()) for path in files}}


def tokenizer_of(stored: Mapping[str, Any] | None) -> Any:
    """The tokenizer that `stored_tokenizer` stored. Raises ValueError if there was none."""
    if stored is None:
        raise ValueError("it was trained with prompt.tokenizer, so leave that as it was")
    if "backend" in stored:
        backend = Tokenizer.from_str(_bytes(stored["backend"]).decode())
        return PreTrainedTokenizerFast(tokenizer_object=backend, **stored["options"])
    with TemporaryDirectory() as folder:  # the classes in Python read nothing but files
        for name, content in stored["files"].items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
        return AutoTokenizer.from_pretrained(folder)


def _tensor(content: bytes) -> Tensor:
    """Bytes as they are stored in a checkpoint, where each tensor has a checksum."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
