"""Tokenizer and chat template of a pretrained model."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product, takewhile
from typing import Any

from composer.errors import ComposeError, DataError
from composer.prompt import CHATML, WORLD, Piece, Role, Template, pieces
from composer.sample import Message, Sample
from composer_plugins.transformer.joint import Joint
from composer_plugins.transformer.slow import Sections
from composer_plugins.transformer.template import OwnTemplate

log = logging.getLogger(__name__)

TEXTS: dict[Role, str] = {"system": "Be brief.", "user": "What moves?", "assistant": "A circle, red."}

PROBES: tuple[tuple[Role, ...], ...] = (
    ("user",),
    ("user", "assistant"),
    ("user", "assistant", "user"),
    ("user", "assistant", "user", "assistant"),
)


class PretrainedTokenizer:
    """Tokenizer of transformers. Names of special tokens are parsed in the marks of a template only."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer)
        self.end_id = tokenizer.eos_token_id
        self._joint = Joint(tokenizer) if tokenizer.is_fast else Sections(tokenizer)

    def encode(self, text: str) -> list[int]:
        return self.encode_pieces([Piece(text)])[0]

    def encode_pieces(self, pieces: Sequence[Piece]) -> list[list[int]]:
        return self._joint.encode(pieces)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def template_of(tokenizer: Any) -> Template:
    """Return the chat template of a tokenizer; without one, ChatML if the vocabulary has its marks, else RWKV World's.

    Args:
        tokenizer: Tokenizer of transformers.

    Returns:
        The template.

    Raises:
        ComposeError: If the template cannot be rendered turn by turn, or gives ids that differ from the tokenizer's.
    """
    if not tokenizer.chat_template:
        return replace(CHATML, special=True) if "<|im_start|>" in tokenizer.get_vocab() else WORLD
    try:
        template = OwnTemplate(tokenizer)
        _check(tokenizer, template)
    except (DataError, ValueError) as error:
        raise ComposeError(f"model.backbone.pretrained: {error}") from error
    if template.source != tokenizer.get_chat_template():
        log.warning("The model's chat template contains the date, so prompts differ between runs on different days.")
    return template


def _check(tokenizer: Any, template: OwnTemplate) -> None:
    """Raise ComposeError if the ids of a conversation differ from the tokenizer's."""
    own = PretrainedTokenizer(tokenizer)
    systems: tuple[tuple[Role, ...], ...] = ((), ("system",)) if template.takes_system else ((),)
    prompt: list[int] = []
    seam = ""
    for system, roles in product(systems, PROBES):
        turns, answer = (*system, *roles), roles[-1] == "user"
        try:
            template.frames(turns, answer=answer)  # its errors do not name the sample
        except DataError:
            if system:  # some templates accept a system turn before some turns only; other samples are rejected
                continue
            raise
        sample = Sample("probe", "model.backbone.pretrained", tuple(Message(role, (TEXTS[role],)) for role in turns))
        ours = [i for ids in own.encode_pieces(pieces(sample, "inline", template, answer=answer)) for i in ids]
        theirs = tokenizer.apply_chat_template(
            [{"role": role, "content": TEXTS[role]} for role in turns],
            chat_template=template.source,
            add_generation_prompt=answer,
            return_dict=False,
        )
        if ours != theirs:
            raise ComposeError(
                f"model.backbone.pretrained: turns of {', '.join(turns)} encoded in pieces give other tokens than "
                f"the tokenizer itself: {_difference(tokenizer, ours, theirs)}; change chat_template in a local copy "
                "of the model, or set prompt.tokenizer"
            )
        if not answer and ours[: len(prompt)] != prompt:
            seam = _difference(tokenizer, ours, prompt)
        prompt = ours
    if seam:
        log.warning(
            "The model's tokenizer joins the start of an answer with the text before it, so tokens in training differ "
            f"from those that generation starts with: {seam}"
        )


def _difference(tokenizer: Any, ours: list[int], theirs: list[int]) -> str:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
    shown = (tokenizer.convert_ids_to_tokens(ids[max(0, same - 3) : same + 4]) for ids in (ours, theirs))
    got, expected = map(str, shown)
    return f"got {got} around position {same}, expected {expected}"
