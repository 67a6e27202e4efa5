"""Serialization of tokenizers of transformers to plain values and tensors, for checkpoints. No code is stored."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast


def serialize_tokenizer(tokenizer: Any) -> dict[str, object]:
    """Serialize a tokenizer: a fast one with its own serialization, others as their files.

    Args:
        tokenizer: Tokenizer of transformers.

    Returns:
        Plain values and tensors for `restore_tokenizer`.
    """
    if tokenizer.is_fast:
        names = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        extra = [str(token) for token in getattr(tokenizer, "extra_special_tokens", ())]
        options = {**names, "extra_special_tokens": extra, "chat_template": tokenizer.chat_template}
        return {"backend": _tensor(tokenizer.backend_tokenizer.to_str().encode()), "options": options}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {"files": {path.relative_to(folder).as_posix(): _tensor(path.read_bytes()) for path in files}}


def restore_tokenizer(stored: Mapping[str, Any] | None) -> Any:
    """Restore a tokenizer.

    Args:
        stored: Result of `serialize_tokenizer`; None if the model was trained with a different tokenizer.

    Returns:
        Tokenizer of transformers.

    Raises:
        ValueError: If `stored` is None.
    """
    if stored is None:
        raise ValueError("it was trained with prompt.tokenizer: set the same one")
    if "backend" in stored:
        backend = Tokenizer.from_str(_bytes(stored["backend"]).decode())
        return PreTrainedTokenizerFast(tokenizer_object=backend, **stored["options"])
    with TemporaryDirectory() as folder:  # tokenizers in Python are only loaded from files
        for name, content in stored["files"].items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
        return AutoTokenizer.from_pretrained(folder)


def _tensor(content: bytes) -> Tensor:
    """Convert bytes to a tensor, because a checkpoint has a checksum of each tensor."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
