"""A pretrained model's own tokenizer and chat template in composer's terms."""

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
    """A tokenizer of transformers. The names of special tokens are read as such in a template's marks only."""

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
    """The tokenizer's own chat template; without one ChatML if the tokenizer knows its marks, else RWKV World's.

    Raises ComposeError if the template cannot be used turn by turn, or gives other ids than the tokenizer itself.
    """
    if not tokenizer.chat_template:
        return replace(CHATML, special=True) if "<|im_start|>" in tokenizer.get_vocab() else WORLD
    try:
        template = OwnTemplate(tokenizer)
        _check(tokenizer, template)
    except (DataError, ValueError) as error:
        raise ComposeError(f"model.backbone.pretrained: {error}") from error
    if template.source != tokenizer.get_chat_template():
        log.warning("The model's chat template writes the date, so prompts differ from one day's run to the next.")
    return template


def _check(tokenizer: Any, template: OwnTemplate) -> None:
    """Raise ComposeError if a rendered conversation has other ids than the tokenizer gives it."""
    own = PretrainedTokenizer(tokenizer)
    systems: tuple[tuple[Role, ...], ...] = ((), ("system",)) if template.takes_system else ((),)
    prompt: list[int] = []
    seam = ""
    for system, roles in product(systems, PROBES):
        turns, answer = (*system, *roles), roles[-1] == "user"
        try:
            template.frames(turns, answer=answer)  # whose errors name no sample
        except DataError:
            if system:  # some templates take a system turn before some turns only: samples of others are refused
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
                f"model.backbone.pretrained: turns of {', '.join(turns)} read piece by piece give other tokens than "
                f"the tokenizer itself: {_difference(tokenizer, ours, theirs)}; change chat_template in a local copy "
                "of the model, or set prompt.tokenizer"
            )
        if not answer and ours[: len(prompt)] != prompt:
            seam = _difference(tokenizer, ours, prompt)
        prompt = ours
    if seam:
        log.warning(
            "The model's tokenizer joins the start of an answer with what precedes it, so training shows other tokens "
            f"than generation begins with: {seam}."
        )


def _difference(tokenizer: Any, ours: list[int], theirs: list[int]) -> str:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
    shown = (tokenizer.convert_ids_to_tokens(ids[max(0, same - 3) : same + 4]) for ids in (ours, theirs))
    got, expected = map(str, shown)
    return f"{got} around place {same}, expected {expected}"
